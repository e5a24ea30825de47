"""Filters pass data, and do on the way what they are for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

    Machine = Callable[..., tuple[VM, Monitor]]


@pytest.fixture
def machine(qmpd: VMFactory, tmp_path: Path) -> Iterator[Machine]:
    """Makes a machine whose guest has a disk on node `n0`, which is added with these options."""
    monitors: list[Monitor] = []

    def make(more: list[str], clock: str = "virtual", **options: Any) -> tuple[VM, Monitor]:
        vm = disk(qmpd, tmp_path, node="driver=null-co,node-name=other", device="pvpanic", more=more, clock=clock)
        monitor = Monitor(vm.qmp_path)
        monitors.append(monitor)
        assert monitor("blockdev-add", node_name="n0", **options) == {"return": {}}
        added = monitor("device_add", driver="virtio-blk-pci", id="d0", drive="n0")
        assert added == {"return": {}}
        return vm, monitor

    yield make
    for monitor in monitors:
        monitor.close()


def file(path: Path) -> dict[str, Any]:
    return {"driver": "file", "filename": str(path)}


def raw(tmp_path: Path, name: str, content: bytes = bytes(1 << 20)) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@needs_qemu_img
def test_copy_on_read(machine: Machine, tmp_path: Path) -> None:
    base = raw(tmp_path, "base.img", b"\x11" * (1 << 20))
    top = tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
    vm, _ = machine([], driver="copy-on-read", file={"driver": "qcow2", "file": file(top)})
    assert vm.guest.read("d0", offset="64k", length="64k").pattern == 0x11
    vm.close()
    said = subprocess.run(["qemu-io", "-c", "map", str(top)], capture_output=True, text=True, check=True).stdout
    assert "64 KiB (0x10000) bytes     allocated at offset 64 KiB" in said


def named(monitor: Monitor, name: str) -> dict[str, Any]:
    """What queries tell of a node."""
    found: list[dict[str, Any]] = monitor("query-named-block-nodes")["return"]
    return next(each for each in found if each["node-name"] == name)


def test_copy_before_write(machine: Machine, tmp_path: Path) -> None:
    source, target = raw(tmp_path, "source.img", b"\x22" * (1 << 20)), raw(tmp_path, "target.img")
    vm, _ = machine(
        [], driver="copy-before-write", file={"driver": "raw", "file": file(source)},
        target={"driver": "raw", "file": file(target)},
    )  # fmt: skip
    for pattern in (0x33, 0x44):
        vm.guest.write("d0", offset="64k", length=512, pattern=pattern)
    vm.close()
    saved = target.read_bytes()
    assert saved[65536:131072] == b"\x22" * 65536
    assert saved[:65536] + saved[131072:] == bytes(len(saved) - 65536)
    assert source.read_bytes()[65536 : 65536 + 512] == b"\x44" * 512


def test_a_device_is_given_a_filter_while_it_works(machine: Machine, tmp_path: Path) -> None:
    source, target = raw(tmp_path, "source.img", b"\x22" * (1 << 20)), raw(tmp_path, "target.img")
    vm, monitor = machine([], driver="raw", file=file(source))
    monitor("blockdev-add", node_name="t0", driver="raw", file=file(target))
    monitor("blockdev-add", node_name="c0", driver="copy-before-write", file="n0", target="t0")
    path = "/machine/peripheral/d0"
    assert monitor("qom-set", path=path, property="drive", value="c0") == {"return": {}}
    refused = monitor("qom-set", path=path, property="drive", value="none")
    assert refused["error"]["desc"] == "Cannot find device='' nor node-name='none'"
    assert monitor.human('qemu-io -d d0/virtio-backend "write -P 0x33 64k 512"') == ""
    vm.close()
    assert target.read_bytes()[65536:131072] == b"\x22" * 65536


def test_quorum(machine: Machine, tmp_path: Path) -> None:
    paths = [raw(tmp_path, f"copy{number}.img") for number in range(3)]
    children = [{"driver": "raw", "node-name": f"c{number}", "file": file(path)} for number, path in enumerate(paths)]
    vm, monitor = machine([], driver="quorum", vote_threshold=2, children=children)
    vm.guest.write("d0", offset=0, length=4096, pattern=9)
    assert all(path.read_bytes()[:4096] == b"\x09" * 4096 for path in paths)
    with paths[1].open("r+b") as one:
        one.write(b"wrong")
    assert vm.guest.read("d0", offset=0, length=512).pattern == 9
    event = vm.wait_for_event("QUORUM_REPORT_BAD")
    assert event.data == {"node-name": "c1", "type": "read", "sector-num": 0, "sectors-count": 1}
    with paths[2].open("r+b") as one:
        one.write(b"worse")
    assert vm.guest.read("d0", offset=0, length=512).state == "failed"
    assert vm.wait_for_event("QUORUM_FAILURE").data == {"reference": "n0", "sector-num": 0, "sectors-count": 1}
    image = named(monitor, "n0")["image"]
    assert image["format"] == "quorum"
    assert image["actual-size"] == sum(path.stat().st_blocks for path in paths) * 512


def test_blkverify(machine: Machine, tmp_path: Path) -> None:
    left, right = raw(tmp_path, "left.img"), raw(tmp_path, "right.img")
    vm, monitor = machine([], driver="blkverify", raw=file(left), test={"driver": "raw", "file": file(right)})
    vm.guest.write("d0", offset=512, length=512, pattern=5)
    assert left.read_bytes() == right.read_bytes()
    assert named(monitor, "n0")["file"] == f"blkverify:{left}:{right}"
    with left.open("r+b") as one:
        one.write(b"x")
    vm.guest.read("d0", length=512)
    assert vm.wait_until_ended() == 1


def test_quorum_of_two_that_must_agree(machine: Machine, tmp_path: Path) -> None:
    paths = [raw(tmp_path, f"copy{number}.img") for number in range(2)]
    children = [{"driver": "raw", "file": file(path)} for path in paths]
    vm, _ = machine([], driver="quorum", vote_threshold=2, blkverify=True, children=children)
    with paths[1].open("r+b") as one:
        one.write(b"wrong")
    vm.guest.read("d0", offset=0, length=512)
    assert vm.wait_until_ended() == 1


@needs_qemu_img
def test_a_mirror_of_a_quorum_copies_what_is_not_zeros_in_some_copy(machine: Machine, tmp_path: Path) -> None:
    paths = [tmp_path / f"copy{number}.qcow2" for number in range(3)]
    words: list[str | Path]
    for number, path in enumerate([*paths, tmp_path / "target.qcow2"]):
        qemu_img("create", "-q", "-f", "qcow2", path, "1M")
        if number < 3:
            words = ["qemu-io", "-c", f"write -P 0 64k {64 * (number + 1)}k", path]
            subprocess.run(words, check=True, capture_output=True)
    children = [{"driver": "qcow2", "file": file(path)} for path in paths]
    vm, monitor = machine([], driver="quorum", vote_threshold=2, children=children)
    target = str(tmp_path / "target.qcow2")
    monitor("drive-mirror", job_id="j", device="n0", target=target, sync="full", mode="existing")
    vm.wait_for_job("j", "ready")
    monitor("job-complete", id="j")
    vm.wait_for_job("j", "null")
    vm.close()
    words = ["qemu-img", "map", tmp_path / "target.qcow2"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [["0x10000", "0x30000"]]


def test_blklogwrites(machine: Machine, tmp_path: Path) -> None:
    data, log = raw(tmp_path, "data.img"), raw(tmp_path, "log.img", b"")
    vm, _ = machine([], driver="blklogwrites", file=file(data), log=file(log))
    vm.guest.write("d0", offset=1024, length=1024, pattern=6)
    vm.guest.flush("d0")
    vm.close()
    content = log.read_bytes()
    assert content[:8] == (0x6A736677736872).to_bytes(8, "little")
    assert int.from_bytes(content[16:24], "little") == 2
    entry = content[512:544]
    assert [int.from_bytes(entry[at : at + 8], "little") for at in (0, 8, 16)] == [2, 2, 0]
    assert content[1024:2048] == b"\x06" * 1024


def test_preallocate(machine: Machine, tmp_path: Path) -> None:
    path = raw(tmp_path, "disk.img", b"")
    vm, monitor = machine([], driver="preallocate", file=file(path), **{"prealloc-size": 1 << 20})
    monitor("block_resize", node_name="n0", size=65536)
    assert vm.guest.write("d0", offset=0, length=65536, pattern=1).state == "done"
    vm.close()
    assert path.read_bytes() == b"\x01" * 65536


@needs_qemu_img
def test_compress(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    vm, _ = machine([], driver="compress", file={"driver": "qcow2", "file": file(path)})
    vm.guest.write("d0", offset=0, length="256k", pattern=4)
    vm.guest.write("d0", offset="300k", length="512", pattern=5)
    assert vm.guest.write("d0", offset="256k", length="4k", pattern=6).state == "failed"
    assert vm.guest.read("d0", offset="300k", length=512).pattern == 5
    assert vm.guest.read("d0", offset="301k", length="19k").pattern == 0
    vm.close()
    assert "5/16 = 31.25% allocated, 100.00% fragmented, 100.00% compressed clusters" in qemu_img("check", path)


def test_limits_hold_requests_back(machine: Machine, tmp_path: Path) -> None:
    """What a drive may do in a second is a matter of the machine's clock."""
    path = raw(tmp_path, "disk.img")
    vm, monitor = machine([], driver="raw", file=file(path))
    limits = {"bps": 0, "bps_rd": 0, "bps_wr": 65536, "iops": 0, "iops_rd": 0, "iops_wr": 0}
    limited = monitor("block_set_io_throttle", id="/machine/peripheral/d0/virtio-backend", **limits)
    assert limited == {"return": {}}
    states = [vm.guest.write("d0", offset=0, length=65536, pattern=number).state for number in (1, 2, 3)]
    assert states == ["done", "waiting", "waiting"]
    assert vm.guest.read("d0", length=512).pattern == 1, "reads have no limit"
    vm.clock.advance(1)
    assert path.read_bytes()[:512] == b"\x02" * 512
    vm.clock.advance(1)
    assert path.read_bytes()[:512] == b"\x03" * 512
