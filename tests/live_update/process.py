"""qmpd as a process that is replaced, its client, and children that do not do what they should."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.server.support import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0
"""Seconds until something that should happen is given up."""

_PR_SET_CHILD_SUBREAPER = 36


class Caller(Client):
    """A client that keeps the events apart from the replies."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.stream, PATIENCE)
        self.buffer = client.buffer
        self.events: list[str] = []

    async def call(self, name: str, **arguments: object) -> dict[str, Any]:
        """Execute a command; the whole reply."""
        await self.send(json.dumps({"execute": name, "arguments": arguments, "id": name}).encode())
        while True:
            message = await self.message()
            if "event" not in message:
                assert message.pop("id") == name
                return message
            self.events.append(str(message["event"]))

    async def returned(self, name: str, **arguments: object) -> Any:
        """Execute a command; what it returns."""
        reply = await self.call(name, **arguments)
        assert "return" in reply, reply
        return reply["return"]

    async def reply(self, data: bytes = b"") -> bytes | None:
        """Send `data`, and give the next line that is no event."""
        if data:
            await self.send(data)
        while True:
            line = await self.line()
            if line is None or b'"event": ' not in line:
                return line
            self.events.append(str(json.loads(line)["event"]))

    async def event(self, name: str) -> None:
        """Wait for an event, unless it has come."""
        while name not in self.events:
            message = await self.message()
            self.events.append(str(message["event"]))

    async def at_end_after(self, *events: str) -> bool:
        """Whether the server closes, once these events alone have come."""
        while (line := await self.line()) is not None:
            self.events.append(str(json.loads(line)["event"]))
        return self.events == list(events)

    async def stage(self) -> str:
        return str((await self.returned("live-update-query"))["stage"])

    async def stage_other_than(self, *stages: str) -> dict[str, Any]:
        """What live-update-query says when the stage is none of these any more."""
        with trio.fail_after(PATIENCE):
            while True:
                status = await self.returned("live-update-query")
                if status["stage"] not in stages:
                    assert isinstance(status, dict)
                    return status
                await trio.sleep(0.01)

    async def prepare(self, **arguments: object) -> int:
        """Have a child that is ready; its process id."""
        self.events.clear()
        assert await self.returned("live-update-prepare", **arguments) == {}
        await self.event("INIT_COMPLETE")
        status = await self.returned("live-update-query")
        assert status["stage"] == "father-child-ready", status
        return int(status["child"])

    async def update(self, **arguments: object) -> int:
        """Have the process replaced; the new one's id."""
        child = await self.prepare(**arguments)
        assert await self.returned("live-update-commit", timeout=20_000) == {}
        assert await self.returned("live-update-query") == {"stage": "none"}
        return child


class Process:
    """A running `qmpd serve`; `process` is the one that was started."""

    def __init__(self, folder: Path, *options: str, release: str = "2.x-live-update") -> None:
        self.path = str(folder / "qmp.sock")
        self.pid_file = folder / "qmpd.pid"
        self.clients: list[trio.SocketStream] = []
        command = [sys.executable, "-m", "qmpd", "serve", "--release", release, "-pidfile", str(self.pid_file)]
        if not any(option in ("--socket", "-qmp", "-qmp-pretty") for option in options):
            command += ["--socket", self.path]
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors
            )

    @property
    def pid(self) -> int:
        """The process that serves, as the pid file has it."""
        return int(self.pid_file.read_text())

    async def connect(self, negotiate: bool = True, path: str | None = None) -> Caller:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    client = Client(await trio.open_unix_socket(path or self.path), PATIENCE)
                    break
                except OSError:
                    assert self.process.poll() is None, self.errors.read_text()
                    await trio.sleep(0.01)
        self.clients.append(client.stream)
        if negotiate:
            await client.negotiate()
        return Caller(client)


@asynccontextmanager
async def running(folder: Path, *options: str, release: str = "2.x-live-update") -> AsyncIterator[Process]:
    """A process of qmpd, and all that become of it, for as long as the block lasts."""
    libc = ctypes.CDLL(None)
    # A child whose parent has ended becomes this process's, which so sees the last of it.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    server = Process(folder, *options, release=release)
    try:
        yield server
    finally:
        for client in server.clients:
            client.socket.close()
        with contextlib.suppress(OSError, ValueError):
            os.kill(server.pid, signal.SIGKILL)
        server.process.kill()
        server.process.wait()
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def ended(server: Process) -> int:
    """The exit status of the first process, when it has one."""
    await until(lambda: server.process.poll() is not None)
    assert server.process.returncode is not None
    return server.process.returncode


async def gone(pid: int) -> None:
    """Wait until nothing is left of a process, which was not started by the test itself."""

    def is_gone() -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return not Path(f"/proc/{pid}").exists()

    await until(is_gone)


_CHILD = """\
#!{python}
import os, signal, sys, time
# Later it may have another one: the tests themselves, where its parent has ended.
parent = os.getppid()
sys.path.insert(0, {root!r})
from qmpd.server.hand_over import frames
from qmpd.server.hand_over import child as take_over
{body}
sys.exit(take_over.main(sys.argv[2:]))
"""


def child(folder: Path, body: str = "", name: str = "child") -> str:
    """The path of a program that can be the child, after what `body` does to it."""
    path = folder / name
    path.write_text(_CHILD.format(python=sys.executable, root=str(ROOT), body=body))
    path.chmod(0o700)
    return str(path)


def other(folder: Path, body: str, name: str = "child") -> str:
    """The path of a program that is no qmpd; `descriptor` is the number of its end of the socket pair."""
    path = folder / name
    path.write_text(f"#!{sys.executable} -IS\nimport os, signal, sys, time\ndescriptor = int(sys.argv[2])\n{body}\n")
    path.chmod(0o700)
    return str(path)


def before(kind: str, action: str) -> str:
    """For `child`: do something instead of telling the parent `kind`, or before it."""
    return f"""
def tell(channel, message, descriptors=(), told=frames.Channel.send):
    if message["kind"] == {kind!r}:
        {action}
    told(channel, message, descriptors)
frames.Channel.send = tell
"""
