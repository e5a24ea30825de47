"""SIGTERM, SIGINT and SIGHUP at any moment: the process ends in order, with nothing left behind and no traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.support import connect, environment
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PATIENCE = 20.0

# Each kind of server, with all the files that it makes in a folder.
SERVERS: dict[str, Sequence[str]] = {
    "serve": ("qmpd", "serve", "-socket", "{0}/qmp", "-control", "unix:{0}/control", "-pidfile", "{0}/pid"),
    "serve anywhere": ("qmpd", "serve", "-S", "-m", "1G"),
    "serve, waiting": ("qmpd", "serve", "-qmp", "unix:{0}/qmp,server", "-pidfile", "{0}/pid"),
    "fleet": ("qmpd", "fleet", "--count", "300", "--dir", "{0}/fleet", "--metrics", "0"),
    "drop-in": (
        "qmpd-system-x86_64", "-display", "none", "-qmp", "unix:{0}/qmp,server=on,wait=off", "-pidfile", "{0}/pid",
        "-chardev", "socket,id=c,path={0}/chardev,server=on,wait=off", "-monitor", "unix:{0}/human,server,nowait",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _environment() -> None:
    """The scripts have what they need, and say nothing about it later."""
    for name in ("qmpd", "qmpd-system-x86_64"):
        subprocess.run([str(SCRIPTS / name), "--version"], check=True, capture_output=True)


class Server:
    """One of them, started in a folder of its own."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.folder = folder
        program, *options = (word.format(folder) for word in command)
        files = {**environment(), "TMPDIR": folder}
        files.pop("XDG_RUNTIME_DIR", None)
        self.process = subprocess.Popen(
            [str(SCRIPTS / program), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=files
        )

    def end(self, number: signal.Signals) -> str:
        """Send the signal; what standard error was told."""
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.process.communicate()
        return errors.decode()

    def left(self) -> list[str]:
        """The files and sockets that there still are."""
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names]


def end_after(kind: str, number: signal.Signals, delay: float) -> None:
    """Start a server, and end it a moment later."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(SERVERS[kind], folder)
        time.sleep(delay)
        errors = server.end(number)
        assert server.process.returncode in (0, -number), errors
        assert "Traceback" not in errors
        assert "KeyboardInterrupt" not in errors
        assert server.left() == []


MOMENTS = st.tuples(st.sampled_from(sorted(SERVERS)), st.sampled_from(SIGNALS), st.floats(0, 0.7))


@settings(max_examples=10, deadline=None)
@given(st.lists(MOMENTS, min_size=4, max_size=4))
def test_at_every_moment_from_the_start_on(moments: list[tuple[str, signal.Signals, float]]) -> None:
    with ThreadPoolExecutor(len(moments)) as pool:
        for ended in [pool.submit(end_after, *moment) for moment in moments]:
            ended.result()


@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_client_that_is_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    server = Server(SERVERS["serve, waiting"], str(tmp_path))
    connect_nobody(tmp_path / "qmp")
    errors = server.end(number)
    # QEMU has no handler for it by then, and says nothing.
    assert server.process.returncode == -number
    assert errors.count("\n") == 1
    assert "info: QEMU waiting for connection on: disconnected:unix:" in errors
    assert server.left() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_real_qemu_before_its_client(tmp_path: Path, number: signal.Signals) -> None:
    program = programs().get("7.2")
    if program is None or program[0] == "chroot":
        pytest.skip("no QEMU 7.2 here")
    said = []
    for command in (program, [str(SCRIPTS / "qmpd-system-x86_64")]):
        path = tmp_path / "qmp"
        process = subprocess.Popen(
            [*command, "-display", "none", "-qmp", f"unix:{path},server"], stderr=subprocess.PIPE, env=environment()
        )
        connect_nobody(path)
        process.send_signal(number)
        errors = process.communicate(timeout=PATIENCE)[1].decode()
        said.append((process.returncode, errors.partition(":")[2]))
        path.unlink(missing_ok=True)
    assert said[0] == said[1]


def connect_nobody(path: Path) -> None:
    """Wait until the socket is there, and a little longer."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.3)


def test_a_client_that_is_waited_for_and_then_the_signal(tmp_path: Path) -> None:
    server = Server(SERVERS["serve, waiting"], str(tmp_path))
    with connect(tmp_path / "qmp") as client:
        assert b"QMP" in client.recv(1 << 16)
        errors = server.end(signal.SIGTERM)
        assert server.process.returncode == 0
        assert "terminating on signal 15" in errors
    assert server.left() == []


def test_signals_that_were_ignored_end_a_server_all_the_same(tmp_path: Path) -> None:
    """As with nohup, or in the background of a script: QEMU handles them in any case."""
    for number in SIGNALS:
        before = signal.signal(number, signal.SIG_IGN)
        try:
            server = Server(SERVERS["serve"], str(tmp_path))
        finally:
            signal.signal(number, before)
        assert server.process.stdout is not None
        server.process.stdout.readline()
        assert "terminating on signal" in server.end(number)
        assert server.process.returncode == 0
        assert server.left() == []


def test_while_a_peer_is_connected_to_that_does_not_answer(tmp_path: Path) -> None:
    """Its queue of clients is full; QEMU waits, too."""
    with full(tmp_path / "full"):
        for number in SIGNALS:
            command = ("qmpd-system-x86_64", "-qmp", "unix:{0}/qmp,server=on,wait=off", "-pidfile", "{0}/pid",
                       "-chardev", f"socket,id=c,path={tmp_path}/full")  # fmt: skip
            server = Server(command, str(tmp_path))
            connect_nobody(tmp_path / "qmp")
            assert server.process.poll() is None
            server.end(number)
            assert server.process.returncode == -number
            assert server.left() == [str(tmp_path / "full")]


def test_a_machine_that_runs_does_not_wait_for_such_a_peer_for_long(tmp_path: Path) -> None:
    with full(tmp_path / "full"):
        server = Server(SERVERS["serve"], str(tmp_path))
        with connect(tmp_path / "qmp") as client:
            client.recv(1 << 16)
            client.sendall(b'{"execute": "qmp_capabilities"}')
            client.recv(1 << 16)
            client.sendall(
                b'{"execute": "chardev-add", "arguments": {"id": "c", "backend": {"type": "socket", "data": {"addr": '
                b'{"type": "unix", "data": {"path": "%b"}}, "server": false}}}}' % str(tmp_path / "full").encode()
            )
            assert b"Failed to connect to" in client.recv(1 << 16)
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0


@contextmanager
def full(path: Path) -> Iterator[None]:
    """A socket that listens and takes nobody in, with as many clients waiting as it lets."""
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as clients:
        listening.bind(str(path))
        listening.listen(0)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)):
                break
        yield
