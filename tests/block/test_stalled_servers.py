"""A server that does not answer keeps nobody waiting but who asked for what is on it."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.server.network import Connection
from tests.block.images import needs_qemu_img
from tests.block.stalled import StalledServer
from tests.block.support import Monitor
from tests.block.test_slow_disks import Waiting, answers_soon
from tests.live_update.process import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

    Command = tuple[str, dict[str, Any]]

MEBIBYTE = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StalledServer]:
    with closing(StalledServer(tmp_path / "nbd", bytes(MEBIBYTE))) as found:
        yield found


@pytest.fixture
def machine(qmpd: VMFactory, tmp_path: Path) -> VM:
    (tmp_path / "a.raw").write_bytes(bytes(MEBIBYTE))
    more = [f"unix:{tmp_path}/{name},server=on,wait=off" for name in ("first", "other", "third")]
    words = [word for each in more for word in ("-qmp", each)]
    nodes = ["-blockdev", f"driver=file,node-name=a,filename={tmp_path}/a.raw", "-drive", "if=none,id=cd0"]
    devices = ["-device", "ide-cd,id=cd,drive=cd0", "-device", "pcie-root-port,id=port"]
    return qmpd(command_line=["-machine", "q35", *nodes, *devices, *words], guest="", clock="real")


def human(line: str) -> Command:
    return "human-monitor-command", {"command_line": line}


def nbd(folder: str) -> dict[str, Any]:
    return {"driver": "nbd", "server": {"type": "unix", "path": f"{folder}/nbd"}}


# What comes to a server for the first time.
OPENING: dict[str, Callable[[str], Command]] = {
    "blockdev-add": lambda folder: ("blockdev-add", {"node_name": "n", **nbd(folder)}),
    "blockdev-add by name": lambda folder: (
        "blockdev-add", {"driver": "qcow2", "node_name": "n", "file": {"driver": "file", "filename": f"{folder}/top"}},
    ),
    "blockdev-change-medium": lambda folder: (
        "blockdev-change-medium", {"id": "cd", "filename": f"nbd:unix:{folder}/nbd", "format": "raw"},
    ),
    "change": lambda folder: human(f"change cd0 nbd:unix:{folder}/nbd raw"),
    "drive_add": lambda folder: human(f"drive_add 0 if=none,id=x,format=raw,file=nbd:unix:{folder}/nbd"),
    "drive_add json": lambda folder: human(
        "drive_add 0 if=none,id=x,file=json:{'driver':'raw','file':{'driver':'nbd',,'server':{'type':'unix',,"
        f"'path':'{folder}/nbd'}}}}}}".replace("raw','file'", "raw',,'file'")
    ),
    "drive-mirror": lambda folder: (
        "drive-mirror",
        {"device": "a", "job-id": "j", "target": f"nbd:unix:{folder}/nbd", "sync": "none", "mode": "existing",
         "format": "raw"},
    ),
}  # fmt: skip


@needs_qemu_img
@pytest.mark.parametrize("door", OPENING)
def test_while_a_server_does_not_greet(machine: VM, tmp_path: Path, server: StalledServer, door: str) -> None:
    name = f"nbd+unix:///?socket={tmp_path}/nbd"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", name, str(tmp_path / "top"), "1M"]
    subprocess.run(words, check=True)
    server.stall()
    _waits(machine, tmp_path, server, OPENING[door](str(tmp_path)), prepare=lambda monitor: None)


def _waits(
    machine: VM, tmp_path: Path, server: StalledServer, command: Command, prepare: Callable[[Monitor], None]
) -> None:
    with ExitStack() as stack:
        monitor = stack.enter_context(closing(Monitor(str(tmp_path / "first"))))
        prepare(monitor)
        name, arguments = command
        waiting = stack.enter_context(closing(Waiting(tmp_path / "third", name, **arguments)))
        assert server.waits.wait(20)
        answers_soon(monitor)
        assert not waiting.has_come
        answers_soon(monitor)
        server.answer()
        reply = waiting.reply()
        assert name.startswith("query-") or reply.get("return") in ({}, "", "OK\r\n"), reply
        answers_soon(monitor)


# What has to do with a server that has answered until now; `q` is an image on it, behind which is `a`.
USING: dict[str, Callable[[str], Command]] = {
    "qemu-io": lambda folder: human('qemu-io q "write -P 5 0 64k"'),
    "blockdev-add": lambda folder: (
        "blockdev-add", {"driver": "raw", "node_name": "x", "file": {"driver": "blkdebug", "image": {
            "driver": "qcow2", "file": {**nbd(folder), "node-name": "y"},
        }}},
    ),
    "blockdev-reopen": lambda folder: (
        "blockdev-reopen", {"options": [
            {"driver": "qcow2", "node-name": "q", "file": "n", "backing": "a", "read-only": True},
        ]},
    ),
    "change-backing-file": lambda folder: (
        "change-backing-file", {"device": "q", "image-node-name": "q", "backing-file": "else"},
    ),
    "job-finalize": lambda folder: ("job-finalize", {"id": "j"}),
    "block_resize": lambda folder: ("block_resize", {"node-name": "q", "size": 2 << 20}),
    "query-named-block-nodes": lambda folder: ("query-named-block-nodes", {}),
    "commit": lambda folder: human("commit d"),
    "snapshot": lambda folder: (
        "blockdev-snapshot-internal-sync", {"device": "q", "name": "second"},
    ),
}  # fmt: skip


def _stream(monitor: Monitor) -> None:
    """A job that has copied all, and has still to write the image's header."""
    arguments = {"job_id": "j", "device": "q", "auto_finalize": False}
    assert monitor("block-stream", **arguments) == {"return": {}}
    end = time.monotonic() + 20
    while monitor("query-jobs")["return"][0]["status"] != "pending":
        assert time.monotonic() < end
        time.sleep(0.01)


@needs_qemu_img
@pytest.mark.parametrize("door", USING)
def test_while_a_server_answers_no_more(machine: VM, tmp_path: Path, server: StalledServer, door: str) -> None:
    image = tmp_path / "image"
    for words in (["create", "-q", "-f", "qcow2", str(image), "1M"], ["snapshot", "-c", "first", str(image)]):
        subprocess.run(["qemu-img", *words], check=True)
    server.data[: image.stat().st_size] = image.read_bytes()

    def prepare(monitor: Monitor) -> None:
        assert monitor("blockdev-add", node_name="n", **nbd(str(tmp_path))) == {"return": {}}
        if door == "commit":
            place = f"file.driver=nbd,file.server.type=unix,file.server.path={tmp_path}/nbd"
            assert monitor.human(f"drive_add 0 if=none,id=d,driver=qcow2,{place},backing=a") == "OK\n"
        else:
            assert monitor("blockdev-add", driver="qcow2", node_name="q", file="n", backing="a") == {"return": {}}
        if door == "job-finalize":
            _stream(monitor)
        server.stall()

    _waits(machine, tmp_path, server, USING[door](str(tmp_path)), prepare)


# What comes while something is written to the server that does not answer.
BESIDE: dict[str, Callable[[str], Command]] = {
    "blockdev-del": lambda folder: ("blockdev-del", {"node_name": "n"}),
    "device_add": lambda folder: ("device_add", {"driver": "virtio-blk-pci", "id": "d1", "drive": "n", "bus": "port"}),
    "device_add by hand": lambda folder: human("device_add virtio-blk-pci,id=d1,drive=n,bus=port"),
    "nbd-server-stop": lambda folder: ("nbd-server-stop", {}),
}


@needs_qemu_img
@pytest.mark.parametrize("door", BESIDE)
def test_while_something_is_written(machine: VM, tmp_path: Path, server: StalledServer, door: str) -> None:
    with ExitStack() as stack:

        def prepare(monitor: Monitor) -> None:
            assert monitor("blockdev-add", node_name="n", **nbd(str(tmp_path))) == {"return": {}}
            if door != "nbd-server-stop":
                server.stall()
                line = {"command_line": 'qemu-io n "write -P 5 0 64k"'}
                begun = Waiting(tmp_path / "other", "human-monitor-command", **line)
                stack.enter_context(closing(begun))
                assert server.waits.wait(20)
                return
            address = {"type": "unix", "data": {"path": f"{tmp_path}/out"}}
            assert monitor("nbd-server-start", addr=address) == {"return": {}}
            export = {"type": "nbd", "id": "e", "node_name": "n", "writable": True}
            assert monitor("block-export-add", **export) == {"return": {}}
            server.stall()
            words = ["qemu-io", "-f", "raw", f"nbd+unix:///n?socket={tmp_path}/out", "-c", "write -P 5 0 64k"]
            writer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(writer.wait)
            stack.callback(writer.kill)
            assert server.waits.wait(20)

        _waits(machine, tmp_path, server, BESIDE[door](str(tmp_path)), prepare)


def test_who_comes_second_finds_what_the_first_has_done(machine: VM, tmp_path: Path, server: StalledServer) -> None:
    """Whoever changes nodes meanwhile waits as well, and is executed afterwards."""
    server.stall()
    with ExitStack() as stack:
        path = f"nbd:unix:{tmp_path}/nbd"
        first = stack.enter_context(
            closing(Waiting(tmp_path / "first", "human-monitor-command",
                            command_line=f"drive_add 0 if=none,id=x,format=raw,file={path}"))
        )  # fmt: skip
        assert server.waits.wait(20)
        second = stack.enter_context(
            closing(Waiting(tmp_path / "third", "human-monitor-command",
                            command_line="drive_add 0 if=none,id=x,driver=null-co"))
        )  # fmt: skip
        monitor = stack.enter_context(closing(Monitor(str(tmp_path / "other"))))
        answers_soon(monitor)
        assert not second.has_come
        server.answer()
        assert first.reply() == {"return": "OK\r\n"}
        assert "Duplicate ID 'x'" in second.reply()["return"]
        assert "): nbd+unix" in monitor.human("info block")


def test_a_yank_waits_for_nobody(machine: VM, tmp_path: Path, server: StalledServer) -> None:
    """It ends what the server does not answer."""
    with closing(Monitor(str(tmp_path / "first"))) as monitor:
        assert monitor("blockdev-add", node_name="n", **nbd(str(tmp_path))) == {"return": {}}
        server.stall()
        line = {"command_line": 'qemu-io n "read 512k 64k"'}
        with closing(Waiting(tmp_path / "other", "human-monitor-command", **line)) as waiting:
            assert server.waits.wait(20)
            node = {"type": "block-node", "node-name": "n"}
            assert monitor("yank", instances=[node]) == {"return": {}}
            assert "return" in waiting.reply()
        assert monitor("blockdev-del", node_name="n") == {"return": {}}


def test_what_connects_again_does_not_once_it_was_yanked(
    machine: VM, tmp_path: Path, server: StalledServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(Monitor(str(tmp_path / "first"))) as monitor:
        assert monitor("blockdev-add", node_name="n", **nbd(str(tmp_path))) == {"return": {}}
        server.lose()
        server.stall()
        monitor.human('qemu-io n "read 512k 64k"')
        line = {"command_line": 'qemu-io n "read 512k 64k"'}
        with closing(Waiting(tmp_path / "other", "human-monitor-command", **line)) as waiting:
            assert server.waits.wait(20)
            assert monitor("yank", instances=[{"type": "block-node", "node-name": "n"}]) == {"return": {}}
            server.answer()
            assert "return" in waiting.reply()
        server.wait_until_alone()
    assert "".join(capfd.readouterr()).count("read failed: Input/output error") == 2


def test_while_a_connection_does_not_close(
    machine: VM, tmp_path: Path, server: StalledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may = threading.Event(), threading.Event()
    close = Connection.close

    def slow_close(connection: Connection, last: bytes = b"") -> None:
        begun.set()
        assert may.wait(20)
        close(connection, last)

    with closing(Monitor(str(tmp_path / "first"))) as monitor:
        assert monitor("blockdev-add", node_name="n", **nbd(str(tmp_path))) == {"return": {}}
        monkeypatch.setattr(Connection, "close", slow_close)
        with closing(Waiting(tmp_path / "third", "blockdev-del", node_name="n")) as waiting:
            assert begun.wait(20)
            answers_soon(monitor)
            assert not waiting.has_come
            may.set()
            assert waiting.reply() == {"return": {}}


async def test_a_node_whose_server_is_gone_can_be_yanked(tmp_path: Path) -> None:
    """After a live update: nothing of it could be opened again."""
    async with running(tmp_path, "-extension", "live-update", release="10.0") as process:
        client = await process.connect()
        with closing(StalledServer(tmp_path / "nbd", bytes(512))):
            added = await client.returned("blockdev-add", **nbd(str(tmp_path)), **{"node-name": "n"})
            assert added == {}
        (tmp_path / "nbd").unlink()
        await client.update()
        node = {"type": "block-node", "node-name": "n"}
        assert node in await client.returned("query-yank")
        assert await client.returned("yank", instances=[node]) == {}
