"""Nodes that are on an NBD server: a real one, another machine, one that is gone, and one that says nothing."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing import VMFactory
    from tests.block.support import Monitor, Talk

    Serve = Callable[..., subprocess.Popen[bytes]]

pytestmark = pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts qemu-nbd on a socket in the test's folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start(image: Path, *options: str, name: str = "n.sock") -> subprocess.Popen[bytes]:
        path = tmp_path / name
        path.unlink(missing_ok=True)
        words = ["qemu-nbd", "-t", "-e", "9", "-k", str(path), "-f", "raw", "-x", "exp", *options, str(image)]
        started.append(subprocess.Popen(words))
        end = time.monotonic() + 10
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "raw.img"
    path.write_bytes(b"\x07" * (1 << 20))
    return path


class QemuIo:
    """Runs qemu-io's commands in a machine, which print to its standard output and error."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, monitor: Monitor, device: str, command: str) -> str:
        self._capfd.readouterr()
        monitor.human(f'qemu-io {device} "{command}"')
        return "".join(self._capfd.readouterr())


@pytest.fixture
def qemu_io(capfd: pytest.CaptureFixture[str]) -> QemuIo:
    return QemuIo(capfd)


def server_at(path: Path) -> dict[str, Any]:
    return {"type": "unix", "path": str(path)}


@pytest.mark.parametrize("clock", ["virtual", "real"])
def test_a_real_server_is_read_and_written(
    qmpd: VMFactory, talk: Talk, serve: Serve, image: Path, tmp_path: Path, clock: str, qemu_io: QemuIo
) -> None:
    serve(image)
    monitor = talk(qmpd(command_line=["-machine", "none"], clock=clock))
    path = tmp_path / "n.sock"
    node = {"driver": "nbd", "server": server_at(path), "export": "exp", "node-name": "n"}
    assert monitor("blockdev-add", driver="raw", node_name="r", file=node) == {"return": {}}
    assert "Pattern verification failed" in qemu_io(monitor, "r", "read -P 8 0 1M")
    assert qemu_io(monitor, "r", "read -P 7 0 1M").startswith("read 1048576/1048576 bytes")
    for line in ("write -P 9 64k 64k", "write -z 256k 64k", "read -P 9 64k 64k", "discard 512k 64k"):
        said = qemu_io(monitor, "r", line)
        assert "65536/65536 bytes" in said
        assert "failed" not in said
    named = {each["node-name"]: each for each in monitor("query-named-block-nodes")["return"]}
    assert named["n"]["file"] == named["r"]["file"] == f"nbd+unix:///exp?socket={path}"
    assert named["n"]["image"]["virtual-size"] == 1 << 20
    assert "actual-size" not in named["n"]["image"]
    assert monitor("blockdev-del", node_name="r") == {"return": {}}
    content = image.read_bytes()
    assert content[65536:131072] == b"\x09" * 65536
    assert content[262144:327680] == bytes(65536)
    assert content[:65536] == b"\x07" * 65536


def test_a_node_is_yanked(
    qmpd: VMFactory, talk: Talk, serve: Serve, image: Path, tmp_path: Path, qemu_io: QemuIo
) -> None:
    """It stays, and so does the list of what can be yanked; what is read of it fails from then on."""
    serve(image)
    monitor = talk(qmpd(command_line=["-machine", "none"]))
    monitor("blockdev-add", driver="nbd", server=server_at(tmp_path / "n.sock"), export="exp", node_name="n")
    node = {"type": "block-node", "node-name": "n"}
    listed = monitor("query-yank")["return"]
    assert listed[-1] == node
    missing = monitor("yank", instances=[{"type": "block-node", "node-name": "m"}])
    assert missing["error"] == {"class": "DeviceNotFound", "desc": "Instance not found"}
    assert qemu_io(monitor, "n", "read 0 512").startswith("read 512/512 bytes")
    assert monitor("yank", instances=[node]) == {"return": {}}
    assert "Input/output error" in qemu_io(monitor, "n", "read 0 512")
    assert monitor("query-yank")["return"] == listed
    assert monitor("blockdev-del", node_name="n") == {"return": {}}
    assert node not in monitor("query-yank")["return"]


@needs_qemu_img
def test_one_machine_is_on_the_disk_of_another(qmpd: VMFactory, talk: Talk, tmp_path: Path, qemu_io: QemuIo) -> None:
    disk, path = tmp_path / "disk.qcow2", tmp_path / "n.sock"
    qemu_img("create", "-q", "-f", "qcow2", disk, "8M")
    node = f"driver=qcow2,node-name=a,file.driver=file,file.filename={disk}"
    first = talk(qmpd(command_line=["-machine", "none", "-blockdev", node], clock="real"))
    first("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
    first("block-dirty-bitmap-add", node="a", name="b0")
    added = first("block-export-add", type="nbd", id="e", node_name="a", name="e", writable=True, bitmaps=["b0"])
    assert added == {"return": {}}
    drive = f"if=none,id=d0,format=raw,file=nbd+unix:///e?socket={path}"
    second = talk(qmpd(command_line=["-machine", "none", "-drive", drive], clock="real"))
    assert "wrote 65536/65536" in qemu_io(second, "d0", "write -P 5 1M 64k")
    assert "read 65536/65536" in qemu_io(second, "d0", "read -P 5 1M 64k")
    shown = second("query-block")["return"][0]["inserted"]
    assert (shown["file"], shown["drv"]) == (f"nbd+unix:///e?socket={path}", "raw")
    [dirty] = first("query-named-block-nodes")["return"][0]["dirty-bitmaps"]
    assert (dirty["count"], dirty["busy"]) == (65536, True)
    options = f"driver=nbd,server.type=unix,server.path={path},export=e,x-dirty-bitmap=qemu:dirty-bitmap:b0"
    mapped = json.loads(qemu_img("map", "--output=json", "--image-opts", options))
    assert [(each["start"], each["length"]) for each in mapped if not each["data"]] == [(1 << 20, 65536)]


@pytest.mark.parametrize(
    ("release", "end", "read_only"),
    [("5.2", "bytes", "NBD export is read-only"), ("7.2", "data", "Could not open image: Permission denied")],
)
def test_servers_that_cannot_be_had(
    qmpd: VMFactory, talk: Talk, serve: Serve, image: Path, tmp_path: Path, release: str, end: str, read_only: str
) -> None:
    serve(image)
    serve(image, "-r", name="ro.sock")
    (tmp_path / "file").write_text("x")
    monitor = talk(qmpd(command_line=["-machine", "none"], release=release, clock="real"))

    def refused(name: str, **options: Any) -> str:
        reply = monitor("blockdev-add", driver="nbd", node_name="x", server=server_at(tmp_path / name), **options)
        text: str = reply["error"]["desc"]
        return text.replace(str(tmp_path), "DIR")

    assert refused("none") == "Failed to connect to 'DIR/none': No such file or directory"
    assert refused("file") == "Failed to connect to 'DIR/file': Connection refused"
    assert refused("n.sock", export="nope") == "Requested export not available"
    assert refused("ro.sock", export="exp") == read_only
    assert refused("n.sock", export="e" * 4097) == "export name too long to send to server"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "odd.sock"))
        listening.listen()
        for said, told in ((b"hello world and more", "Bad initial magic received: 0x68656c6c6f20776f"),
                           (b"", f"Failed to read initial magic: Unexpected end-of-file before all {end} were read")):
            answering = threading.Thread(target=_say, args=(listening, said))
            answering.start()
            assert refused("odd.sock") == told
            answering.join()
    assert monitor("query-named-block-nodes") == {"return": []}


def _say(listening: socket.socket, said: bytes) -> None:
    client, _ = listening.accept()
    with client:
        client.sendall(said)


def test_a_server_that_is_silent_holds_nobody_up(qmpd: VMFactory, talk: Talk, tmp_path: Path) -> None:
    vm = qmpd(command_line=["-machine", "none"], clock="real")
    waiting, other = talk(vm), talk(vm)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.sock"))
        listening.listen()
        asking = threading.Thread(
            target=waiting, args=("blockdev-add",),
            kwargs={"driver": "nbd", "node_name": "x", "server": server_at(tmp_path / "s.sock")},
        )  # fmt: skip
        asking.start()
        client, _ = listening.accept()
        with client:
            for _ in range(50):
                before = time.monotonic()
                other("query-status")
                assert time.monotonic() - before < 5  # the server never answers
        asking.join(10)
        assert not asking.is_alive()


def test_a_server_that_comes_back_is_used_again(
    qmpd: VMFactory, talk: Talk, serve: Serve, image: Path, tmp_path: Path, qemu_io: QemuIo
) -> None:
    server = serve(image)
    monitor = talk(qmpd(command_line=["-machine", "none"], clock="real"))
    monitor("blockdev-add", driver="nbd", node_name="n", server=server_at(tmp_path / "n.sock"), export="exp")
    server.kill()
    server.wait()
    assert "read failed: Input/output error" in qemu_io(monitor, "n", "read 0 512")
    serve(image)
    deadline = time.monotonic() + 10
    while "read failed" in (said := qemu_io(monitor, "n", "read -P 7 0 512")) and time.monotonic() < deadline:
        time.sleep(0.05)  # it does not answer yet
    assert "read 512/512" in said
    assert "Pattern" not in said


@pytest.mark.parametrize("name", ["nbd:", "nbd:unix:/none", "nbd://", "nbd+unix:///x", "http://h/x", "ssh://h/x"])
def test_a_drive_on_a_server_is_refused_in_words(qmpd: VMFactory, name: str) -> None:
    told = {
        "nbd:": "NBD server address missing",
        "nbd:unix:/none": "Failed to connect to '/none': No such file or directory",
        "http://h/x": 'A block device must be specified for "file"',
        "ssh://h/x": 'A block device must be specified for "file"',
    }.get(name, "No valid URL specified")
    drive = f"if=none,id=d0,format=raw,file={name}"
    with pytest.raises(Exception, match=told.replace("?", r"\?")):
        qmpd(command_line=["-machine", "none", "-drive", drive], release="10.0")
