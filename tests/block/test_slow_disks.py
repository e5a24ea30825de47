"""A disk that does not answer keeps nobody waiting but who asked for it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.block import files
from qmpd.server import disk_threads
from tests.block.support import Monitor
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

MEBIBYTE = 1 << 20
# A query has to be answered in this time, in seconds, whatever a disk does: one takes 20 s here where it is not told to
# answer, and tests run beside others on a busy computer.
SOON = 5


class Slow:
    """Files that answer once `answer` is called; `reached` is set when somebody waits for one."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.reached = threading.Event()
        self._may = threading.Event()

    def wait(self, name: str) -> None:
        if name in self.names:
            self.reached.set()
            assert self._may.wait(20)

    def answer(self) -> None:
        self._may.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Looking at a slow file, opening it, reading and writing take as long as the test wants."""
    found = Slow()
    stat, opened, write, read = os.stat, files.read_bytes, files.FileStorage.write, files.FileStorage.read
    close = files.DiskFile.close

    def slow_stat(path: Any, **options: Any) -> os.stat_result:
        found.wait(str(path))
        return stat(path, **options)

    def slow_read_bytes(path: str, most: int) -> bytes:
        found.wait(path)
        return opened(path, most)

    def slow_write(self: files.FileStorage, offset: int, data: bytes) -> None:
        found.wait(getattr(self, "filename", ""))
        write(self, offset, data)

    def slow_read(self: files.FileStorage, offset: int, length: int) -> bytes:
        found.wait(getattr(self, "filename", ""))
        return read(self, offset, length)

    def slow_close(self: files.DiskFile) -> None:
        found.wait(f"{getattr(self, 'filename', '')} is closed")
        close(self)

    monkeypatch.setattr(os, "stat", slow_stat)
    monkeypatch.setattr(files, "read_bytes", slow_read_bytes)
    monkeypatch.setattr(files.FileStorage, "write", slow_write)
    monkeypatch.setattr(files.FileStorage, "read", slow_read)
    monkeypatch.setattr(files.DiskFile, "close", slow_close)
    yield found
    found.answer()


@pytest.fixture
def machine(qmpd: VMFactory, tmp_path: Path) -> VM:
    for name in ("a.raw", "b.raw", "c.raw"):
        (tmp_path / name).write_bytes(bytes(MEBIBYTE))
    nodes = [
        word for name in ("a", "b")
        for word in ("-blockdev", f"driver=file,node-name={name},filename={tmp_path}/{name}.raw")
    ]  # fmt: skip
    more = [f"unix:{tmp_path}/{name},server=on,wait=off" for name in ("first", "other", "third")]
    words = [word for each in more for word in ("-qmp", each)]
    return qmpd(command_line=["-machine", "pc", *nodes, *words], guest="", clock="real")


class Waiting:
    """A command that is sent on a connection of its own; `reply` waits for what comes of it."""

    def __init__(self, path: Path, command: str, **arguments: Any) -> None:
        self.client = socket.socket(socket.AF_UNIX)
        self.client.settimeout(20)
        self.client.connect(str(path))
        self.lines = self.client.makefile("r")
        self.lines.readline()
        self._send("qmp_capabilities")
        self.reply()
        self._send(command, **{name.replace("_", "-"): value for name, value in arguments.items()})

    def _send(self, command: str, **arguments: Any) -> None:
        self.client.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())

    @property
    def has_come(self) -> bool:
        self.client.settimeout(0.05)
        try:
            return bool(self.client.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self.client.settimeout(20)

    def reply(self) -> Any:
        while "event" in (message := json.loads(self.lines.readline())):
            continue
        return message

    def close(self) -> None:
        self.lines.close()
        self.client.close()


def answers_soon(monitor: Monitor) -> None:
    for _ in range(5):
        begun = time.monotonic()
        assert monitor("query-status")["return"]["status"] == "running"
        assert time.monotonic() - begun < SOON


Command = tuple[str, dict[str, Any]]
WHILE_WRITING: dict[str, Callable[[str], Command]] = {
    "blockdev-del": lambda folder: ("blockdev-del", {"node_name": "b"}),
    "blockdev-add": lambda folder: ("blockdev-add", {"driver": "null-co", "node_name": "n"}),
    "blockdev-reopen": lambda folder: (
        "blockdev-reopen",
        {"options": [{"driver": "file", "node-name": "b", "filename": f"{folder}/b.raw", "read-only": True}]},
    ),
    "device_add": lambda folder: ("device_add", {"driver": "virtio-blk-pci", "id": "d1", "drive": "b"}),
    "drive_del": lambda folder: ("human-monitor-command", {"command_line": "drive_del b"}),
    "drive_add": lambda folder: (
        "human-monitor-command", {"command_line": f"drive_add 0 if=none,id=x,format=raw,file={folder}/c.raw"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WHILE_WRITING)
def test_while_a_disk_does_not_take_what_is_written(machine: VM, tmp_path: Path, slow: Slow, what: str) -> None:
    slow.names.add(f"{tmp_path}/a.raw")
    with ExitStack() as stack:
        monitor = stack.enter_context(closing(Monitor(str(tmp_path / "first"))))
        line = {"command_line": 'qemu-io a "write -P 5 0 64k"'}
        writing = stack.enter_context(closing(Waiting(tmp_path / "other", "human-monitor-command", **line)))
        assert slow.reached.wait(20)
        command, arguments = WHILE_WRITING[what](str(tmp_path))
        waiting = stack.enter_context(closing(Waiting(tmp_path / "third", command, **arguments)))
        answers_soon(monitor)
        assert not waiting.has_come
        slow.answer()
        reply = waiting.reply()
        assert "error" not in reply
        assert reply["return"] in ({}, "", "OK\r\n"), reply
        writing.reply()
        answers_soon(monitor)


@pytest.mark.parametrize("command", ["blockdev-add", "drive_add", "blockdev-reopen"])
def test_while_a_file_does_not_open(machine: VM, tmp_path: Path, slow: Slow, command: str) -> None:
    name = f"{tmp_path}/c.raw"
    slow.names.add(name)
    with ExitStack() as stack:
        monitor = stack.enter_context(closing(Monitor(str(tmp_path / "first"))))
        file = {"driver": "file", "filename": name}
        arguments: dict[str, Any] = {"driver": "raw", "node_name": "n", "file": file}
        if command == "drive_add":
            arguments = {"command_line": f"drive_add 0 if=none,id=x,format=raw,file={name}"}
        elif command == "blockdev-reopen":
            assert monitor("blockdev-add", driver="raw", node_name="n", file="b") == {"return": {}}
            assert "error" not in monitor("blockdev-add", driver="null-co", node_name="m")
            new = {"driver": "file", "node-name": "b", "filename": name}
            arguments = {"options": [{"driver": "raw", "node-name": "n", "file": new}]}
        sent = "human-monitor-command" if command == "drive_add" else command
        waiting = stack.enter_context(closing(Waiting(tmp_path / "third", sent, **arguments)))
        assert slow.reached.wait(20)
        answers_soon(monitor)
        assert not waiting.has_come
        slow.answer()
        assert ("error" in waiting.reply()) == (command == "blockdev-reopen")
        answers_soon(monitor)


def test_what_is_behind_is_looked_at_as_well(tmp_path: Path, slow: Slow) -> None:
    """By the threads of the disks, before the main loop opens it."""
    image = tmp_path / "image"
    image.write_bytes(b"QFI\xfb\0\0\0\3" + (104).to_bytes(8, "big") + (5).to_bytes(4, "big") + bytes(84) + b"c.raw")
    (tmp_path / "c.raw").write_bytes(b"")
    slow.names.add(f"{tmp_path}/c.raw")
    thread = threading.Thread(target=files.look_at, args=([str(image)],))
    thread.start()
    assert slow.reached.wait(20)
    slow.answer()
    thread.join(20)
    assert not thread.is_alive()


def test_much_is_made_up_piece_by_piece(machine: VM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the process waits while bytes are made; who looks at requests still gets them whole."""
    write = files.FileStorage.write
    sizes: list[int] = []

    def measured(self: files.FileStorage, offset: int, data: bytes) -> None:
        sizes.append(len(data))
        write(self, offset, data)

    monkeypatch.setattr(files.FileStorage, "write", measured)
    with closing(Monitor(str(tmp_path / "first"))) as monitor:
        assert monitor("block_resize", node_name="a", size=8 << 20) == {"return": {}}
        assert "failed" not in monitor.human('qemu-io a "write -P 7 512 5M"')
        assert max(sizes) <= MEBIBYTE
        assert sum(sizes) == 5 << 20
        assert (tmp_path / "a.raw").read_bytes() == bytes(512) + b"\7" * (5 << 20) + bytes((3 << 20) - 512)
        sizes.clear()
        debug = {"driver": "blkdebug", "node_name": "debug", "image": "b"}
        assert monitor("blockdev-add", **debug) == {"return": {}}
        monitor("block_resize", node_name="b", size=8 << 20)
        monitor.human('qemu-io debug "write -P 7 0 5M"')
        assert sizes == [5 << 20]


def test_much_is_looked_at_piece_by_piece(
    machine: VM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same for what is read: nobody has all of it in memory, and a pattern is found wherever it ends."""
    read = files.FileStorage.read
    sizes: list[int] = []

    def measured(self: files.FileStorage, offset: int, length: int) -> bytes:
        sizes.append(length)
        return read(self, offset, length)

    monkeypatch.setattr(files.FileStorage, "read", measured)
    content = bytearray(b"\7" * (5 << 20))
    content[(2 << 20) + 5] = 8
    (tmp_path / "a.raw").write_bytes(content)
    failure = "Pattern verification failed"
    with closing(Monitor(str(tmp_path / "first"))) as monitor:
        for words, is_wrong in (("-P 7 0 5M", True), ("-P 7 -s 2097158 0 5M", False), ("-P 7 -l 2M 0 5M", False)):
            sizes.clear()
            assert "failed" not in monitor.human(f'qemu-io a "read {words}"')
            assert max(sizes) <= MEBIBYTE
            assert sum(sizes) == 5 << 20
            assert (failure in capfd.readouterr().out) is is_wrong, words


def test_while_the_file_of_a_device_that_has_left_does_not_close(
    qmpd: VMFactory, tmp_path: Path, slow: Slow
) -> None:
    """The guest lets a device go at a moment of its own, and with it its drive."""
    path = tmp_path / "d.raw"
    path.write_bytes(bytes(MEBIBYTE))
    disk = f"if=none,id=dr,file={path},format=raw"
    words = ["-machine", "pc", "-drive", disk, "-device", "virtio-blk-pci,id=d,drive=dr"]
    vm = qmpd(command_line=words, guest="boot-time=0", clock="real")
    slow.names.add(f"{path} is closed")
    with closing(Monitor(vm.qmp_path)) as monitor:
        wait_until(lambda: vm.guest.query().phase == "running")
        assert monitor("device_del", id="d") == {"return": {}}
        assert slow.reached.wait(20)
        answers_soon(monitor)
        slow.answer()
        wait_until(lambda: all(drive["device"] != "dr" for drive in monitor("query-block")["return"]))
        assert any(event["event"] == "DEVICE_DELETED" for event in monitor.events)


def test_a_file_that_does_not_close_holds_up_no_end(
    machine: VM, tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "PATIENCE", 0.2)
    with closing(Monitor(machine.qmp_path)) as monitor:
        monitor.human('qemu-io a "read 0 512"')
    slow.names.add(f"{tmp_path}/a.raw is closed")
    begun = time.monotonic()
    with closing(Waiting(tmp_path / "first", "quit")) as client:
        assert "SHUTDOWN" in client.lines.read()
    assert slow.reached.is_set()
    assert time.monotonic() - begun < 5
