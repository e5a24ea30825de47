"""A machine served inside the test's own process, and a client of its sockets."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from qmpd.machine import MachineSettings, SystemClock
from qmpd.monitor.commands import handlers
from qmpd.qapi import load_release
from qmpd.server.settings import MonitorSettings, VMSettings
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import pytest

    from qmpd.monitor.entry import Handler


class Client:
    """A connection that speaks whole lines; every wait ends after `patience` seconds."""

    def __init__(self, stream: trio.SocketStream, patience: float = 5.0) -> None:
        self.stream = stream
        self.patience = patience
        self.buffer = b""

    async def line(self) -> bytes | None:
        """The next line without its end; None at the end of the stream."""
        with trio.fail_after(self.patience):
            while b"\r\n" not in self.buffer:
                data = await self.stream.receive_some(1 << 16)
                if not data:
                    return None
                self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def up_to(self, ending: bytes) -> bytes:
        """What comes up to these bytes, for clients that do not speak in lines."""
        with trio.fail_after(self.patience):
            while not self.buffer.endswith(ending):
                data = await self.stream.receive_some(1 << 16)
                assert data, f"the end comes after {self.buffer!r}"
                self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        with trio.fail_after(self.patience):
            while data := await self.stream.receive_some(1 << 16):
                self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    async def message(self) -> dict[str, object]:
        line = await self.line()
        assert line is not None, "the server has closed the connection"
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    async def send(self, data: bytes) -> None:
        with trio.fail_after(self.patience):
            await self.stream.send_all(data)

    async def ask(self, data: bytes) -> bytes | None:
        await self.send(data)
        return await self.line()

    async def execute(self, name: str, /, **arguments: object) -> dict[str, object]:
        """Execute a command and give its reply; events that come before it are dropped."""
        await self.send(json.dumps({"execute": name, "arguments": arguments, "id": "execute"}).encode())
        while True:
            message = await self.message()
            if message.get("id") == "execute":
                return message

    async def negotiate(self) -> None:
        assert b"QMP" in (await self.line() or b"")
        assert await self.ask(b'{"execute":"qmp_capabilities"}') == b'{"return": {}}'

    async def at_end(self) -> bool:
        """Whether the server has closed, once what it had sent is read."""
        while (await self.line()) is not None:
            pass
        return True


class Served:
    """A machine that runs; `status` is its exit status once `ended` is set."""

    def __init__(self, vm: VirtualMachine, path: str) -> None:
        self.vm = vm
        self.path = path
        self.status: int | None = None
        self.ended = trio.Event()
        self.clients: list[trio.SocketStream | socket.socket] = []

    async def connect(self, negotiate: bool = True) -> Client:
        with trio.fail_after(5):
            client = Client(await trio.open_unix_socket(self.path))
        self.clients.append(client.stream)
        if negotiate:
            await client.negotiate()
        return client

    def connect_raw(self) -> socket.socket:
        """A blocking socket, for clients that misbehave."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        self.clients.append(client)
        return client

    async def healthy(self) -> None:
        """Fail unless a new client is greeted and answered."""
        client = await self.connect()
        reply = await client.execute("query-name")
        assert reply == {"return": {}, "id": "execute"}
        await client.stream.aclose()


def release_with(folder: Path, release: str, monkeypatch: pytest.MonkeyPatch, name: str, handler: Handler) -> str:
    """A release that executes the command `name` with `handler`; what to give for `release`.

    A release keeps the commands that it has found, so this one is of its own, by a folder of its own: whoever comes
    later has the shipped one as it is.
    """
    path = folder / release
    path.symlink_to(load_release(release).directory)
    monkeypatch.setitem(handlers(load_release(str(path))), name, handler)
    return str(path)


@asynccontextmanager
async def served(
    folder: Path,
    *,
    exclusive: bool = False,
    pretty: bool = False,
    wait: bool = False,
    release: str = "7.2",
    extensions: tuple[str, ...] = (),
    more: Sequence[MonitorSettings] = (),
    **machine: object,
) -> AsyncIterator[Served]:
    """Serve a machine of type `none` (unless told otherwise) for as long as the block lasts; `more` are monitors."""
    path = str(folder / "qmp.sock")
    machine.setdefault("machine_type", "none")
    settings = VMSettings(
        release=release,
        extensions=extensions,
        machine=MachineSettings(**machine),  # type: ignore[arg-type]
        monitors=[MonitorSettings(path=path, exclusive=exclusive, pretty=pretty, wait=wait), *more],
    )
    vm = VirtualMachine(settings, SystemClock())
    vm.listen()
    result = Served(vm, path)

    async def run() -> None:
        result.status = await vm.run()
        result.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield result
        finally:
            nursery.cancel_scope.cancel()
            for client in result.clients:
                (client if isinstance(client, socket.socket) else client.socket).close()
