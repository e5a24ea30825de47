"""Clients that vanish at every moment, on every kind of socket that listens: the next one is served."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from qmpd.machine import SystemClock
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.server.settings import MonitorSettings, VMSettings
from qmpd.server.virtual_machine import VirtualMachine
from tests.emulator.support import QUIET, running
from tests.server.support import Client, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Address = tuple[str, int] | str
PATIENCE = 20.0
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER for no time at all: closing resets the connection."""

GREETINGS = {"qmp": b'{"QMP": ', "hmp": b"QEMU ", "qtest": b"", "chardev": b""}
KINDS = ["qmp-unix", "qmp-tcp", "hmp-unix", "hmp-tcp", "qtest-unix", "chardev-unix", "chardev-tcp"]


def connect(address: Address) -> socket.socket:
    """A client, as soon as somebody listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        # Where too many wait to be let in, the system tries again only after a second.
        client.settimeout(0.05)
        try:
            client.connect(address)
            client.settimeout(PATIENCE)
            return client
        except OSError:
            client.close()
            assert time.monotonic() < deadline, f"nobody listens at {address}"
            time.sleep(0.01)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def half_a_command_then_reset(client: socket.socket) -> None:
    client.send(b'{"execute": "qmp_cap')
    reset(client)


def command_then_reset(client: socket.socket) -> None:
    client.send(b'{"execute": "qmp_capabilities"}\nhelp\nread 0x0 0x10\n')
    reset(client)


ENDS: list[Callable[[socket.socket], None]] = [
    reset,
    socket.socket.close,
    half_a_command_then_reset,
    command_then_reset,
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """The drop-in program, listening for each kind of client."""

    def __init__(self, process: subprocess.Popen[bytes], addresses: dict[str, Address]) -> None:
        self.process = process
        self.addresses = addresses

    def assert_serves(self, kind: str) -> None:
        """Fail unless a client of this kind is let in and heard."""
        with connect(self.addresses[kind]) as client:
            greeting = GREETINGS[kind.partition("-")[0]]
            if greeting:
                assert client.recv(1 << 16).startswith(greeting)
            elif kind.startswith("qtest"):
                client.send(b"read 0x0 0x1\n")
                assert client.recv(100).startswith(b"OK")
            else:
                with connect(self.addresses["qmp-unix"]) as monitor:
                    assert wait_for(monitor, kind.partition("-")[2])


def wait_for(monitor: socket.socket, name: str) -> bool:
    """Whether the character device of this name has a client, sooner or later."""
    lines = monitor.makefile("rb")
    lines.readline()
    monitor.send(b'{"execute": "qmp_capabilities"}')
    lines.readline()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        monitor.send(b'{"execute": "query-chardev"}')
        names = {each["label"]: each["filename"] for each in json.loads(lines.readline())["return"]}
        if not names[name].startswith("disconnected:"):
            lines.close()
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("hostile")
    addresses: dict[str, Address] = {
        kind: str(folder / kind) if kind.endswith("unix") else ("127.0.0.1", free_port()) for kind in KINDS
    }

    def spell(kind: str) -> str:
        address = addresses[kind]
        where = f"unix:{address}" if isinstance(address, str) else f"tcp:127.0.0.1:{address[1]}"
        return f"{where},server=on,wait=off"

    options = [*QUIET, "-machine", "none", "-accel", "qtest", "-qtest-log", "none", "-qtest", spell("qtest-unix")]
    options += ["-qmp", spell("qmp-unix"), "-qmp", spell("qmp-tcp")]
    options += ["-monitor", spell("hmp-unix"), "-monitor", spell("hmp-tcp")]
    options += ["-chardev", f"socket,id=unix,path={addresses['chardev-unix']},server=on,wait=off"]
    port = addresses["chardev-tcp"][1]
    options += ["-chardev", f"socket,id=tcp,host=127.0.0.1,port={port},server=on,wait=off"]
    with running(*options, stderr=subprocess.PIPE) as process:
        yield Program(process, addresses)
        assert process.poll() is None
        process.terminate()
        process.wait(PATIENCE)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_the_next_client_is_served(program: Program, kind: str, end: Callable[[socket.socket], None]) -> None:
    """Once the client is gone before it is accepted, and many times at whatever moment it is."""
    program.assert_serves(kind)
    os.kill(program.process.pid, signal.SIGSTOP)
    end(connect(program.addresses[kind]))
    os.kill(program.process.pid, signal.SIGCONT)
    for _ in range(10):
        end(connect(program.addresses[kind]))
    program.assert_serves(kind)
    assert program.process.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_while_there_is_no_file_descriptor_is_served_later(program: Program, kind: str) -> None:
    program.assert_serves(kind)
    limit = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
    time.sleep(0.05)  # the client of before is forgotten
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (1, limit[1]))
    with connect(program.addresses[kind]) as waiting:
        waiting.setblocking(False)
        time.sleep(0.15)
        with contextlib.suppress(BlockingIOError):
            assert waiting.recv(100) == b"", "there is no room for it"
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, limit)
    program.assert_serves(kind)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize(
    "method", ["setblocking", "setsockopt", "getsockname", "getpeername", "recv", "send", "shutdown"]
)
async def test_a_client_that_vanishes_while_it_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, tcp: bool
) -> None:
    """Whichever of the socket's calls finds that it is gone."""
    path, port = str(tmp_path / "qmp.sock"), free_port()
    where = {"host": "127.0.0.1", "port": str(port)} if tcp else {}
    settings = VMSettings(release="7.2", monitors=[MonitorSettings(path=path, **where)])  # type: ignore[arg-type]
    vm = VirtualMachine(settings, SystemClock())
    vm.listen()

    async def greeted() -> bool:
        if tcp:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        else:
            stream = await trio.open_unix_socket(path)
        async with stream:
            with trio.move_on_after(0.5), contextlib.suppress(trio.BrokenResourceError):
                return await Client(stream).line() is not None
        return False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(vm.run)
        assert await greeted()
        original = getattr(socket.socket, method)
        mine = {id(each) for _, listener in vm.listeners for each in [listener.socket]}

        def gone(self: socket.socket, *arguments: object) -> object:
            if id(self) in mine or self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return original(self, *arguments)
            raise OSError(107, os.strerror(107))

        with monkeypatch.context() as patch:
            client = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
            client.connect(("127.0.0.1", port) if tcp else path)
            patch.setattr(socket.socket, method, gone)
            await trio.testing.wait_all_tasks_blocked(0.02)
        client.close()
        assert await greeted()
        nursery.cancel_scope.cancel()


async def test_a_session_that_cannot_be_opened_costs_its_client_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, exclusive=True) as server:

        def fail(*_: object) -> object:
            raise ZeroDivisionError("planted")

        with monkeypatch.context() as patch:
            patch.setattr(Dispatcher, "greeting", fail)
            client = await server.connect(negotiate=False)
            assert await client.line() is None
        await server.healthy()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.vm.dispatcher.sessions
    assert "ZeroDivisionError: planted" in capsys.readouterr().err


def test_a_peer_that_resets_the_connections_that_are_made_to_it(tmp_path: Path) -> None:
    """`reconnect`: the device is connected again, however often its peer goes away."""
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen()
        peer.settimeout(PATIENCE)
        port = peer.getsockname()[1]
        options = ["-machine", "none", "-chardev", f"socket,id=out,host=127.0.0.1,port={port},reconnect=1"]
        options += ["-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off"]
        with running(*QUIET, *options) as process:
            for _ in range(2):
                reset(peer.accept()[0])
            with peer.accept()[0], connect(str(tmp_path / "qmp")) as monitor:
                assert wait_for(monitor, "out")
            assert process.poll() is None
