"""A machine with a puppeteer, served inside the test's own process, and clients of both of its sockets."""

from __future__ import annotations

import functools
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from qmpd.control.whole import interface
from qmpd.machine import Device, GuestSettings, MachineSettings
from qmpd.qapi.validation import Schemas, explain
from qmpd.server.settings import MonitorSettings, VMSettings
from qmpd.server.virtual_machine import VirtualMachine
from tests.server.support import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEVICES = [Device(driver="pvpanic"), Device(driver="ib700"), Device(driver="isa-debug-exit")]


@functools.cache
def schemas() -> Schemas:
    return Schemas(interface().schema)


class Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """An error reply of the control socket."""


class Control:
    """A client of the control socket; every reply and event is checked against its JSON Schema."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []

    async def __call__(self, command: str, /, **arguments: object) -> Any:
        """What the command returns; a trailing underscore of a name is dropped.

        :raise Refused: it returns an error.
        """
        given = {name.rstrip("_").replace("_", "-"): value for name, value in arguments.items()}
        await self.client.send(json.dumps({"execute": command, "arguments": given}).encode())
        while True:
            message = await self.client.message()
            if "event" not in message:
                break
            explain(schemas(), f"{message['event']}.data", message["data"])
            self.events.append(message)
        if "error" in message:
            error = message["error"]
            assert isinstance(error, dict)
            raise Refused(error["desc"])
        explain(schemas(), f"{command}.return", message["return"])
        return message["return"]


class Played:
    """A machine with a puppeteer; `status` is its exit status once `ended` is set."""

    def __init__(self, vm: VirtualMachine, folder: Path) -> None:
        self.vm = vm
        self.path = str(folder / "qmp.sock")
        self.control_path = str(folder / "control.sock")
        self.status: int | None = None
        self.ended = trio.Event()
        self.clients: list[trio.SocketStream | socket.socket] = []

    async def connect(self, *, greeting: bool = True) -> Client:
        """A QMP client; it has negotiated where it expects a greeting."""
        with trio.fail_after(5):
            client = Client(await trio.open_unix_socket(self.path))
        self.clients.append(client.stream)
        if greeting:
            await client.negotiate()
        return client

    async def control(self) -> Control:
        with trio.fail_after(5):
            client = Client(await trio.open_unix_socket(self.control_path))
        self.clients.append(client.stream)
        await client.negotiate()
        return Control(client)

    async def healthy(self) -> None:
        """Fail unless a new client is served normally."""
        client = await self.connect()
        assert await client.execute("query-name") == {"return": {}, "id": "execute"}
        await client.stream.aclose()

    async def end(self) -> int:
        """The exit status, which is to come soon."""
        with trio.fail_after(5):
            await self.ended.wait()
        assert self.status is not None
        return self.status


@asynccontextmanager
async def played(
    folder: Path,
    *,
    clock: str = "virtual",
    guest: GuestSettings | None = None,
    release: str = "7.2",
    transcript: Path | None = None,
    control: bool = True,
    wait: bool = False,
    exclusive: bool = False,
    **machine: object,
) -> AsyncIterator[Played]:
    """Serve machine `pc` with a control socket for as long as the block lasts."""
    settings = VMSettings(
        release=release,
        machine=MachineSettings(guest=guest, **machine),  # type: ignore[arg-type]
        monitors=[MonitorSettings(path=str(folder / "qmp.sock"), wait=wait, exclusive=exclusive)],
        control=MonitorSettings(path=str(folder / "control.sock"), chardev="control") if control else None,
        clock=clock,
        transcript=None if transcript is None else str(transcript),
    )
    async with served(settings, folder) as result:
        yield result


@asynccontextmanager
async def served(settings: VMSettings, folder: Path) -> AsyncIterator[Played]:
    """Serve a machine whose sockets are `qmp.sock` and `control.sock` in `folder`, for as long as the block lasts."""
    vm = VirtualMachine(settings)
    vm.listen()
    result = Played(vm, folder)

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
