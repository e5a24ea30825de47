"""What goes wrong around a server: each time a healthy client is served in the end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trio

from tests.clients.programs import read_lines, serving
from tests.server.support import served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.programs import Server

MACHINE = ("-machine", "none", "--release", "7.2")


def assert_healthy(server: Server) -> None:
    """Fail unless a new client is greeted and answered."""
    with server.greeted() as client:
        client.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-name","id":1}')
        assert read_lines(client, 2) == [b'{"return": {}}\r\n', b'{"return": {}, "id": 1}\r\n']


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def settle(condition: str, holds: object) -> None:
    """Wait until `holds()` is true."""
    assert callable(holds)
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def test_clients_vanish_in_the_middle_of_replies(tmp_path: Path) -> None:
    with serving(tmp_path / "qmp.sock", *MACHINE) as server:
        assert_healthy(server)
        before = open_files(server)
        for number in range(60):
            client = server.connect()
            client.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-qmp-schema"}' * 5)
            if number % 2:
                client.recv(5000)
            # A reset instead of an orderly end: unread bytes are thrown away.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        assert_healthy(server)
        settle("the descriptors of clients that vanished are closed", lambda: open_files(server) <= before)


def test_a_thousand_silent_connections(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        # This process has its own files open beside them.
        usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if usual < 2000:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, most), most))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (usual, most))
        server = stack.enter_context(serving(tmp_path / "qmp.sock", *MACHINE))
        silent = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(1000)]
        assert_healthy(server)
        assert all(client.recv(100) for client in silent[::100])
        assert_healthy(server)


def test_a_storm_of_connections_at_the_limit_of_open_files(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path / "qmp.sock", *MACHINE))
        assert_healthy(server)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (open_files(server) + 20, 4096))
        storm = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(60)]
        settle("some are greeted", lambda: _greeted(storm[9]))
        greeted = [client for client in storm if _greeted(client)]
        assert 10 <= len(greeted) < 60
        for client in greeted:
            client.close()
        # Those who had to wait are served as soon as there is room.
        waiting = [client for client in storm if client.fileno() != -1]
        for client in waiting:
            client.settimeout(10)
            assert client.recv(100)
            client.close()
        assert_healthy(server)
        _, _, errors = server.end()
        assert "a client has to wait: Too many open files" in errors


def _greeted(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(100, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_slow_readers_get_everything_and_hold_nobody_up(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        slow, quick = await server.connect(), await server.connect()
        slow.patience = 30
        await slow.send(b"".join(b'{"execute":"query-qmp-schema","id":%d}' % number for number in range(20)))
        for _ in range(50):
            assert await quick.execute("query-name") == {"return": {}, "id": "execute"}
        size = 0
        for number in range(20):
            line = await slow.line()
            assert line is not None
            assert line.endswith(b'"id": %d}' % number)
            size += len(line)
            await trio.sleep(0.005)
        assert size > 20 * 200_000
        await server.healthy()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="there is no /dev/full")
def test_a_full_disk_for_the_transcript(tmp_path: Path) -> None:
    with serving(tmp_path / "qmp.sock", *MACHINE, "-transcript", "/dev/full") as server:
        for _ in range(3):
            assert_healthy(server)
        status, _, errors = server.end()
    assert status == 0
    assert "No space left on device" in errors


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Root may write everywhere, but for a file system of the kernel's own."""
    folder = "/proc/self" if os.getuid() == 0 else str(tmp_path)
    tmp_path.chmod(0o500)
    command = [sys.executable, "-m", "qmpd", "serve", "--socket", f"{folder}/qmp.sock"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"qmpd: Failed to bind socket to {folder}/qmp.sock: ")
    assert result.stderr.count("\n") == 1


def test_a_killed_server_leaves_a_socket_that_the_next_one_takes(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    for _ in range(2):
        with serving(path, *MACHINE) as server:
            assert_healthy(server)
            server.end(signal.SIGKILL)
        assert path.is_socket()
    with serving(path, *MACHINE) as server:
        assert_healthy(server)
        server.end()
    assert not path.exists()


def test_jumps_of_the_clock(tmp_path: Path) -> None:
    """The time of day may jump both ways: timers run on monotonic time, and timestamps tell what the clock shows."""
    library = tmp_path / "jump.py"
    library.write_text(
        "import sys, time\n"
        "real, jumps = time.time_ns, iter([0, 10**18, -10**18] * 1000)\n"
        "time.time_ns = lambda: real() + next(jumps)\n"
        "from qmpd.cli.main import main\n"
        "sys.exit(main(['serve', *sys.argv[1:]]))\n"
    )
    path = tmp_path / "qmp.sock"
    command = [sys.executable, str(library), "--socket", str(path), *MACHINE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            read_lines(client, 1)
            client.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"stop"}{"execute":"cont"}' * 10)
            messages = [json.loads(line) for line in read_lines(client, 41)]
        assert [each.get("event") for each in messages if "event" in each] == ["STOP", "RESUME"] * 10
        seconds = [each["timestamp"]["seconds"] for each in messages if "event" in each]
        assert max(seconds) - min(seconds) > 10**9
    finally:
        process.terminate()
        assert process.wait(10) == 0
        if process.stdout is not None:
            process.stdout.close()
