"""The human monitor's qemu-io: what it prints was compared with QEMU 7.2's."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing import VMFactory

FIGURES = re.compile(r"\d\d\.\d\d sec \([^)]*\)")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


class Talk:
    """Says lines of qemu-io, and gives what is printed, its figures left out."""

    def __init__(self, monitor: Monitor, capsys: pytest.CaptureFixture[str]) -> None:
        self.monitor = monitor
        self._capsys = capsys

    def __call__(self, line: str, node: str = "n0") -> str:
        assert self.monitor.human(f'qemu-io {node} "{line}"') == ""
        return FIGURES.sub("T", self._capsys.readouterr().out)


@pytest.fixture
def talk(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[Any], Talk]]:
    made: list[Talk] = []

    def connect(vm: Any) -> Talk:
        made.append(Talk(Monitor(vm.qmp_path), capsys))
        return made[-1]

    yield connect
    for each in made:
        each.monitor.close()


WORDS = (
    ("foo", 'command "foo" not found\n'),
    ("write", "bad argument count 0 to write, expected at least 2 arguments\n"),
    ("sleep", "bad argument count 0 to sleep, expected 1 arguments\n"),
    ("write x 64k", "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"),
    ("write -z -P 1 0 64k", "Only one of -z, -P, and -s can be specified at the same time\n"),
    ("write -P 300 0 64k", "300 is not a valid pattern byte\n"),
    ("write -u 0 64k", "-u requires -z to be specified\n"),
    ("write 0 3", "wrote 3/3 bytes at offset 0\n3 bytes, 1 ops; T\n"),
    ("write -P 7 1 512", "wrote 512/512 bytes at offset 1\n512 bytes, 1 ops; T\n"),
    ("write -q 0 64k", ""),
    ("write 0 2M", "write failed: Input/output error\n"),
    ("read 10M 512", "read failed: Input/output error\n"),
    ("read -P 2 0 1k", "Pattern verification failed at offset 0, 1024 bytes\n"
     "read 1024/1024 bytes at offset 0\n1 KiB, 1 ops; T\n"),
    ("read -P 0xcd -s 10 -l 20 0 512", "read 512/512 bytes at offset 0\n512 bytes, 1 ops; T\n"),
    ("read -v 0 20", "00000000:  cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd  ................\n"
     "00000010:  cd cd cd cd  ....\nread 20/20 bytes at offset 0\n20 bytes, 1 ops; T\n"),
    ("aio_write -P 3 64k 64k", "wrote 65536/65536 bytes at offset 65536\n64 KiB, 1 ops; T\n"),
    ("map", "128 KiB (0x20000) bytes     allocated at offset 0 bytes (0x0)\n"
     "896 KiB (0xe0000) bytes not allocated at offset 128 KiB (0x20000)\n"),
    ("alloc 0 256k", "131072/262144 bytes allocated at offset 0 bytes\n"),
    ("write -zu 0 64k", "wrote 65536/65536 bytes at offset 0\n64 KiB, 1 ops; T\n"),
    ("discard 64k 64k", "discard 65536/65536 bytes at offset 65536\n64 KiB, 1 ops; T\n"),
    ("readv -P 0 0 64k 64k", "read 131072/131072 bytes at offset 0\n128 KiB, 1 ops; T\n"),
    ("truncate 2M", ""),
    ("length", "2 MiB\n"),
    ("flush", ""),
    ("help zzz", "command zzz not found\n"),
    ("help flush", "flush -- flush all in-core file state to disk\n"),
)  # fmt: skip


@needs_qemu_img
def test_what_is_printed(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    vm = disk(qmpd, image, device="pvpanic")
    say = talk(vm)
    assert [(line, say(line)) for line, _ in WORDS] == list(WORDS)
    assert say.monitor.human('qemu-io no "flush"') == "Error: Cannot find device='' nor node-name='no'\n"
    vm.close()
    assert "No errors were found" in qemu_img("check", image)


MISSED = (
    ("", ""),
    ("read", "bad argument count 0 to read, expected at least 2 arguments\n"),
    ("read x 512", "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"),
    ("read 0 512", "read failed: No medium found\n"),
    ("aio_write -i 0 512", "injecting invalid write request\n"),
    ("write -u 0 512", "-u requires -z to be specified\n"),
    ("write -c 0 64k", "write failed: No medium found\n"),
    ("discard 0 512", "discard failed: No medium found\n"),
    ("length", "getlength: No medium found\n"),
    ("map 5", "bad argument count 1 to map, expected 0 arguments\n"),
    ("truncate 5 6 7 8", "bad argument count 4 to truncate, expected between 1 and 3 arguments\n"),
    ("truncate x", "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"),
    ("break a b", "Could not set breakpoint: Operation not supported\n"),
    ("flush", ""),
    ("aio_flush", ""),
    ("sleep 1", ""),
)
TOLD = (
    ("map", "Failed to query image length: No medium found\n"),
    ("truncate 512", "No medium inserted\n"),
    ("info", "Error: Device 'n0' has no medium\n"),
)


def test_what_is_printed_of_a_drive_that_nothing_is_in(qmpd: VMFactory, talk: Callable[[Any], Talk]) -> None:
    vm = qmpd(command_line=["-nodefaults", "-drive", "if=none,id=n0"])
    say = talk(vm)
    assert [(line, say(line)) for line, _ in MISSED] == list(MISSED)
    assert [(line, say.monitor.human(f'qemu-io n0 "{line}"')) for line, _ in TOLD] == list(TOLD)


@needs_qemu_img
def test_compressed_writes(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    vm = disk(qmpd, image, device="pvpanic")
    say = talk(vm)
    for place in range(4):
        say(f"write -c -P {place + 1} {place * 64}k 64k")
    assert say("read -P 3 128k 64k").startswith("read 65536/65536")
    vm.close()
    assert "100.00% compressed clusters" in qemu_img("check", image)
    ended = subprocess.run(["qemu-io", "-c", "read -P 4 192k 64k", image], capture_output=True, text=True, check=True)
    assert "failed" not in ended.stdout


@needs_qemu_img
def test_a_request_is_held(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    node = (
        "driver=qcow2,node-name=n0,file.driver=blkdebug,file.node-name=bd,file.image.driver=file,"
        f"file.image.filename={image}"
    )
    vm = disk(qmpd, image, node=node, device="pvpanic")
    say = talk(vm)
    say("write -P 1 0 64k")
    assert say("break write_aio A") == ""
    assert say("break nope A") == "Could not set breakpoint: No such file or directory\n"
    assert say("aio_write -P 2 0 64k") == ""
    assert say("wait_break A") == ""
    assert "verification" not in say("read -P 1 0 64k"), "others go on meanwhile"
    assert say("resume A") == "wrote 65536/65536 bytes at offset 0\n64 KiB, 1 ops; T\n"
    assert "verification" not in say("read -P 2 0 64k")
    assert say("resume A") == "Could not resume request: No such file or directory\n"


@needs_qemu_img
def test_errors_at_an_event(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    vm = disk(qmpd, image, node="driver=null-co,node-name=other", device="pvpanic")
    say = talk(vm)
    rule = {"event": "l2_update", "errno": 28, "once": True}
    file = {"driver": "blkdebug", "image": {"driver": "file", "filename": str(image)}, "inject-error": [rule]}
    assert say.monitor("blockdev-add", driver="qcow2", node_name="n0", file=file) == {"return": {}}
    assert say("write 0 64k") == "write failed: No space left on device\n"
    assert say("write 0 64k").startswith("wrote")
    vm.close()
    assert "errors" not in qemu_img("check", image).replace("No errors", "")


@needs_qemu_img
def test_others_must_allow_it(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    say = talk(disk(qmpd, image))
    said = say.monitor.human('qemu-io n0 "write 0 512"')
    assert said.startswith("Permission conflict on node 'n0': permissions 'write' are both required by an unnamed ")


@needs_qemu_img
def test_on_a_terminal(qmpd: VMFactory, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is typed while a command is at work comes after it."""
    import socket
    import time

    path = image.parent / "monitor.sock"
    more = ["-chardev", f"socket,id=m,path={path},server=on,wait=off", "-mon", "chardev=m,mode=readline"]
    disk(qmpd, image, device="pvpanic", clock="real", more=more)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(10)
        client.sendall(b'qemu-io n0 "sleep 100"\ninfo name\nqemu-io n0 "write 0 64k"\ninfo version\n')
        said, begun = b"", time.monotonic()
        while b"10.0" not in said.partition(b"info version")[2] and time.monotonic() < begun + 10:
            said += client.recv(4096)
    assert time.monotonic() - begun > 0.09
    assert capsys.readouterr().out.startswith("wrote 65536/65536 bytes at offset 0\n")


@needs_qemu_img
def test_reopen(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    say = talk(disk(qmpd, image, device="pvpanic"))
    monitor = say.monitor
    assert say("reopen -r") == ""
    assert monitor.human('qemu-io n0 "write 0 512"') == "Block node is read-only\n"
    assert monitor.human('qemu-io n0 "reopen -r -o read-only=on"') == "Cannot set both -r/-w and 'read-only'\n"
    assert say("reopen -w -o detect-zeroes=on") == ""
    say("write -P 0 0 64k")
    assert say("map") == "1 MiB (0x100000) bytes not allocated at offset 0 bytes (0x0)\n" or "allocated" in say("map")
    assert monitor("query-named-block-nodes")["return"][0]["detect_zeroes"] == "on"
    file = {"driver": "file", "node-name": "f0", "filename": str(image)}
    for options, text in (
        ({"driver": "raw", "node-name": "n0", "file": "f0"}, "Cannot change the option 'driver'"),
        ({**file, "filename": "/x"}, "Cannot change the option 'filename'"),
        ({**file, "read-only": True}, "Read-only block node 'f0' cannot support read-write users"),
        ({"driver": "qcow2", "node-name": "n0", "file": "n0"},
         "Making 'n0' a file child of 'n0' would create a cycle"),
        ({"driver": "qcow2", "node-name": "no", "file": "f0"}, "Failed to find node with node-name='no'"),
    ):  # fmt: skip
        refused = monitor("blockdev-reopen", options=[options])
        assert refused.get("error", {}).get("desc") == text
    assert monitor("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "n0", "file": "f0"}]) == {"return": {}}
    assert monitor("query-named-block-nodes")["return"][0]["detect_zeroes"] == "off"


REOPENED = (
    ("x=y", "Cannot change the option 'x'\n"),
    ("cache=5", "Cannot change the option 'cache'\n"),
    ("cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'\n"),
    ("detect-zeroes=x", "invalid parameter value: x\n"),
    ("discard=x", "Invalid discard option\n"),
    ("backing.x=x", "Cannot change the option 'backing.x'\n"),
    ("file.x=x", "Cannot change the option 'x'\n"),
    ("file.file.x=5", "Cannot change the option 'file.x'\n"),
    ("overlap-check.main-header=x", "Parameter 'overlap-check.main-header' expects 'on' or 'off'\n"),
    ("encrypt.format=x", "No encryption in image header, but options specified format 'x'\n"),
    ("=", "Cannot change the option ''\n"),
)


@needs_qemu_img
def test_reopen_with_whatever_options(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    monitor = talk(disk(qmpd, image)).monitor
    for options, said in REOPENED:
        assert monitor.human(f'qemu-io n0 "reopen -o {options}"') == said


@needs_qemu_img
def test_a_drive_that_is_read_only_by_hand_is_used_so_by_its_device(
    qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]
) -> None:
    words = ["-nodefaults", "-drive", f"if=none,id=d,file={image},format=qcow2", "-device", "virtio-blk-pci,drive=d"]
    io = talk(qmpd(command_line=words, guest="", release="7.2"))
    assert io("reopen -r", "d") == ""
    assert io.monitor.human('qemu-io d "write 0 512"') == "Block node is read-only\n"
    assert io("reopen -w", "d") == ""
    assert io("write 0 512", "d").startswith("wrote 512/512 bytes")


def test_a_flush_takes_no_longer_than_it_has(qmpd: VMFactory, talk: Callable[[Any], Talk]) -> None:
    io = talk(qmpd(command_line=["-nodefaults", "-drive", "if=none,id=d,driver=null-co"], guest="", clock="virtual"))
    io("aio_flush", "d")
    [told] = [each["stats"] for each in io.monitor("query-blockstats")["return"] if each.get("device") == "d"]
    assert (told["flush_operations"], told["flush_total_time_ns"]) == (1, 0)


FACTS = "    compat: 1.1\n    compression type: zlib\n    lazy refcounts: false\n    refcount bits: 16\n"


@needs_qemu_img
@pytest.mark.parametrize(("release", "printed", "told"), [
    ("7.2", "Format specific information:\n", ""), ("10.0", "", "Format specific information:\n"),
])  # fmt: skip
def test_what_a_format_tells(
    qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk], capsys: pytest.CaptureFixture[str],
    release: str, printed: str, told: str,
) -> None:  # fmt: skip
    words = ["-nodefaults", "-drive", f"if=none,id=d,file={image},format=qcow2,file.node-name=f"]
    io = talk(qmpd(command_line=words, guest="", release=release))
    assert io.monitor.human('qemu-io d "info"').startswith(told + FACTS)
    said = "format name: qcow2\ncluster size: 64 KiB\nvm state offset: 512 MiB\n"
    assert capsys.readouterr().out == said + printed
    assert io("info", "f") == "format name: file\n" * 2 + "cluster size: 0 bytes\nvm state offset: 0 bytes\n"


@needs_qemu_img
def test_write_threshold(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    vm = disk(qmpd, image, device="pvpanic")
    say = talk(vm)
    assert say.monitor("block-set-write-threshold", node_name="n0", write_threshold=65536) == {"return": {}}
    say("write 0 64k")
    assert say.monitor("query-named-block-nodes")["return"][0]["write_threshold"] == 65536
    say("write 32k 64k")
    event = vm.wait_for_event("BLOCK_WRITE_THRESHOLD")
    assert event.data == {"node-name": "n0", "amount-exceeded": 32768, "write-threshold": 65536}
    assert say.monitor("query-named-block-nodes")["return"][0]["write_threshold"] == 0


@needs_qemu_img
def test_data_crosses_a_threshold_before_tables_do(qmpd: VMFactory, image: Path, talk: Callable[[Any], Talk]) -> None:
    """libvirt watches the file below an image.  A cluster's data is written first; how often it is used, thereafter."""
    vm = disk(qmpd, image, device="pvpanic")
    say = talk(vm)
    say("write 0 64k")
    [protocol] = [node for node in say.monitor("query-named-block-nodes")["return"] if node["drv"] == "file"]
    end = image.stat().st_size
    say.monitor("block-set-write-threshold", node_name=protocol["node-name"], write_threshold=1)
    say("write 64k 64k")
    assert vm.wait_for_event("BLOCK_WRITE_THRESHOLD").data["amount-exceeded"] == end + 65536 - 1
