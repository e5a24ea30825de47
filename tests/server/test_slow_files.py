"""Files, pipes and terminals that take their time: no machine waits for one, signals work, and what is lost is told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.server.writer import Writer
from tests.emulator.support import PROGRAM, connect, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
SERVE = [sys.executable, "-m", "qmpd", "serve"]
PATIENCE = 20.0


class Client:
    """A QMP client; each reply has to come within a second."""

    def __init__(self, path: Path) -> None:
        self.socket = connect(path)
        self.socket.settimeout(1)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        assert self.ask("qmp_capabilities") == {}

    def ask(self, command: str, **arguments: object) -> Any:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "event" in (message := json.loads(self.lines.readline())):
            continue
        return message.get("return", message.get("error"))

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@contextmanager
def running(command: list[str], path: Path, **streams: Any) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A server that listens at `path`, and its client; it is killed where it has not ended."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), **streams)
    try:
        client = Client(path)
        try:
            yield process, client
        finally:
            client.close()
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[bytes], within: float = 6) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(within)


def busy(client: Client, count: int) -> None:
    for _ in range(count):
        assert client.ask("query-name") == {}


def test_a_transcript_that_nobody_reads(tmp_path: Path) -> None:
    fifo, errors = tmp_path / "fifo", tmp_path / "errors"
    os.mkfifo(fifo)
    command = [*SERVE, "--socket", str(tmp_path / "qmp"), "-transcript", str(fifo)]
    with errors.open("wb") as stderr, running(command, tmp_path / "qmp", stderr=stderr) as (process, client):
        busy(client, 1000)
        assert ended(process) == 0
    told = errors.read_text()
    assert "terminating on signal 15" in told
    assert f"the transcript {fifo} is not complete: " in told
    assert "bytes were not taken in time" in told


def test_a_transcript_whose_reader_sleeps_for_a_while(tmp_path: Path) -> None:
    """It is left behind by megabytes, and gets the rest and a note when it goes on."""
    fifo, errors = tmp_path / "fifo", tmp_path / "errors"
    os.mkfifo(fifo)
    command = [*SERVE, "--socket", str(tmp_path / "qmp"), "-transcript", str(fifo)]
    with errors.open("wb") as stderr, running(command, tmp_path / "qmp", stderr=stderr) as (process, client):
        # It may wait in the pipe, in the thread's hands and in its queue.
        most = (16 << 20) + (1 << 17)
        sent = 0
        while sent < most + (4 << 20):
            assert client.ask("query-qmp-schema")
            sent += 100_000
        written: list[bytes] = []

        def read() -> None:
            with fifo.open("rb") as pipe:
                written.append(pipe.read())

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(1)
        busy(client, 10)
        assert ended(process) == 0
        reader.join(PATIENCE)
    last, gaps = 0, []
    entries = [json.loads(line) for line in written[0].splitlines()]
    for entry in entries:
        if entry["kind"] == "lost":
            gaps.append(last + 1)
            assert entry["number"] == last + entry["count"]
        else:
            assert entry["number"] == last + 1
        last = entry["number"]
    assert len(gaps) > 0
    assert entries[-2]["kind"] == "ended"
    told = [line for line in errors.read_text().splitlines() if "on are missing" in line]
    assert [int(line.partition("entries from ")[2].split()[0]) for line in told] == gaps


def test_a_transcript_on_a_full_disk(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    command = [*SERVE, "--socket", str(tmp_path / "qmp"), "-transcript", "/dev/full"]
    with errors.open("wb") as stderr, running(command, tmp_path / "qmp", stderr=stderr) as (process, client):
        busy(client, 10)
        assert ended(process) == 0
    assert "the transcript /dev/full ends here: No space left on device" in errors.read_text()


@pytest.mark.parametrize("program", ["serve", "drop-in"])
def test_a_log_that_nobody_reads(tmp_path: Path, program: str) -> None:
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    path = tmp_path / "qmp"
    if program == "serve":
        command = [*SERVE, "-vv", "--socket", str(path)]
    else:
        command = [*PROGRAM, "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", "-accel", "qtest"]
        command += ["-qtest", f"unix:{tmp_path}/qtest,server=on,wait=off"]
    with running(command, path, stderr=writes) as (process, client):
        busy(client, 500)
        if program == "drop-in":
            with connect(tmp_path / "qtest") as test:
                test.settimeout(1)
                answers = test.makefile("rb")
                for _ in range(300):
                    test.sendall(b"endianness\n")
                    assert answers.readline() == b"OK little\n"
        assert ended(process) == 0
    os.close(writes)
    os.close(reads)


def test_what_a_log_lacks_is_told_in_it(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    path = tmp_path / "qmp"
    with running([*SERVE, "-vv", "--socket", str(path)], path, stderr=writes) as (process, client):
        os.close(writes)
        for _ in range(20):
            assert client.ask("query-qmp-schema")
        told: list[bytes] = []

        def read() -> None:
            with open(reads, "rb") as pipe:
                told.extend(pipe)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.5)
        busy(client, 5)
        assert ended(process) == 0
        reader.join(PATIENCE)
    missing = [int(line.split()[1]) for line in told if b"lines are missing here" in line]
    assert sum(missing) > 5
    assert any(b"terminating on signal 15" in line for line in told[-10:])


def test_standard_output_that_is_full(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writes, bytes(4096))
    os.set_blocking(writes, True)
    with running([*SERVE, "--socket", str(tmp_path / "qmp")], tmp_path / "qmp", stdout=writes) as (process, client):
        busy(client, 1)
        assert client.ask("chardev-add", id="c", backend={"type": "pty", "data": {}})
        busy(client, 1)
        assert ended(process) == 0
    os.close(reads)
    os.close(writes)


def test_a_monitor_on_standard_output_that_nobody_reads(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    path = tmp_path / "qmp"
    command = [*PROGRAM, "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", "-qmp", "stdio"]
    with running(command, path, stdin=subprocess.PIPE, stdout=writes) as (process, client):
        assert process.stdin is not None
        process.stdin.write(b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 20)
        process.stdin.flush()
        busy(client, 100)
        assert ended(process) == 0
        process.stdin.close()
    os.close(reads)
    os.close(writes)


@pytest.mark.parametrize("kind", ["pipe", "file", "folder"])
def test_a_picture_of_the_screen(tmp_path: Path, kind: str) -> None:
    path, picture = tmp_path / "qmp", tmp_path / "screen"
    command = [*PROGRAM, "-S", "-nodefaults", "-display", "none", "-device", "VGA"]
    command += ["-qmp", f"unix:{path},server=on,wait=off"]
    with running(command, path) as (process, client):
        if kind == "pipe":
            os.mkfifo(picture)
            message = {"execute": "screendump", "arguments": {"filename": str(picture)}}
            client.socket.sendall(json.dumps(message).encode())
            time.sleep(0.3)
            # Nobody reads it, and the machine waits, as QEMU does; but it can be ended.
            assert ended(process) == 0
            return
        if kind == "folder":
            picture.mkdir()
            assert "failed to open file" in client.ask("screendump", filename=str(picture))["desc"]
        else:
            assert client.ask("screendump", filename=str(picture)) == {}
            drawn = picture.read_bytes()
            assert drawn.startswith(b"P6\n640 480\n255\n")
            assert len(drawn) == 15 + 640 * 480 * 3
        assert ended(process) == 0


def test_a_character_device_on_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    path, fifo = tmp_path / "qmp", tmp_path / "fifo"
    os.mkfifo(fifo)
    with running([*SERVE, "--socket", str(path)], path) as (process, client):
        backend = {"type": "file", "data": {"out": str(fifo)}}
        assert client.ask("chardev-add", id="c", backend=backend) == {}
        busy(client, 3)
        assert client.ask("chardev-remove", id="c") == {}
        assert ended(process) == 0


def test_a_service_manager_that_does_not_listen(tmp_path: Path) -> None:
    kinds = (socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(*kinds) as manager, socket.socket(*kinds) as flood:
        manager.bind(str(tmp_path / "notify"))
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", str(tmp_path / "notify"))
        process = subprocess.Popen(
            [*SERVE, "--socket", str(tmp_path / "qmp")], cwd=ROOT,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )  # fmt: skip
        try:
            client = Client(tmp_path / "qmp")
            busy(client, 1)
            client.close()
            assert ended(process) == 0
        finally:
            process.kill()
            process.wait()


# The thread that writes


def test_pieces_are_written_in_their_order_and_no_more_than_fit_wait() -> None:
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    writer = Writer(writes, 10_000)
    pieces = [b"%05d" % number + bytes(995) for number in range(30)]
    taken = [piece for piece in pieces if writer.write(piece)]
    assert len(taken) < len(pieces)
    assert not writer.settle(0.05)
    read = b""
    while len(read) < 1000 * len(taken):
        read += os.read(reads, 1 << 16)
    assert read == b"".join(taken)
    assert writer.settle(5)
    # A single piece is taken, however large it is.
    assert writer.write(bytes(50_000))
    assert not writer.write(b"x")
    assert not writer.close(0.05)
    assert not writer.write(b"x")
    os.close(reads)


def test_what_cannot_be_written_is_known() -> None:
    writer = Writer(os.open("/dev/full", os.O_WRONLY), 100)
    writer.write(b"x")
    assert not writer.settle(5)
    assert writer.error is not None
    assert writer.error.strerror == "No space left on device"
    assert not writer.write(b"x")
    assert not writer.close(1)
    missing = Writer(None, 100, lambda: os.open("/no/such/folder/file", os.O_WRONLY | os.O_CREAT))
    missing.write(b"x")
    assert not missing.settle(5)
    assert missing.error is not None


def test_the_log_of_a_test_program(tmp_path: Path) -> None:
    """The log of a test program's commands goes behind what is in its file."""
    log = tmp_path / "log"
    log.write_text("before\n")
    path = tmp_path / "qmp"
    command = [*PROGRAM, "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", "-accel", "qtest"]
    command += ["-qtest", f"unix:{tmp_path}/qtest,server=on,wait=off", "-qtest-log", str(log)]
    with running(command, path) as (process, _), connect(tmp_path / "qtest") as test:
        test.sendall(b"endianness\n")
        assert test.recv(100) == b"OK little\n"
        end = time.monotonic() + 5
        while log.read_text().count("\n") < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert ended(process) == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[1].endswith("OPENED")
    assert lines[2].endswith("endianness")
    assert lines[3].endswith("OK little")
