"""Options of nodes that QEMU refuses, and those that change what a node does.  (The texts are those of QEMU 7.2.)

What needs no image is asked of real QEMU through all doors: `tests/refusals/rooms/drives.txt`.
"""

from __future__ import annotations

import json
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor
from tests.emulator.support import QUIET, connect, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

MEBIBYTE = 1 << 20


@pytest.fixture
def vm(qmpd: VMFactory) -> VM:
    return qmpd(command_line=["-machine", "pc"], guest="", clock="virtual", release="7.2")


@pytest.fixture
def monitor(vm: VM) -> Iterator[Monitor]:
    with closing(Monitor(vm.qmp_path)) as client:
        yield client


def file(path: Path) -> dict[str, Any]:
    return {"driver": "file", "filename": str(path)}


@needs_qemu_img
def test_what_qcow2_refuses(monitor: Monitor, tmp_path: Path) -> None:
    path, other = tmp_path / "a.qcow2", tmp_path / "other.raw"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    other.write_bytes(bytes(MEBIBYTE))
    entry = "L2 cache entry size must be a power of two between 512 and the cluster size (65536)"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"cache-size": 2, "l2-cache-size": 1, "refcount-cache-size": 1},
         "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"),
        ({"cache-size": 2, "l2-cache-size": 4}, "l2-cache-size may not exceed cache-size"),
        ({"cache-size": 2, "refcount-cache-size": 4}, "refcount-cache-size may not exceed cache-size"),
        ({"cache-size": -1}, "Parameter 'cache-size' expects a non-negative number below 2^64"),
        ({"l2-cache-entry-size": 1000}, entry),
        ({"l2-cache-entry-size": 256}, entry),
        ({"l2-cache-entry-size": 1 << 20}, entry),
        ({"cache-clean-interval": -1}, "Cache clean interval too big"),
        ({"cache-clean-interval": 1 << 32}, "Cache clean interval too big"),
        ({"encrypt": {"format": "aes"}}, "No encryption in image header, but options specified format 'aes'"),
        ({"data-file": file(other)}, "'data-file' can only be set for images with an external data file"),
    ]  # fmt: skip
    for options, text in refused:
        reply = monitor("blockdev-add", driver="qcow2", node_name="n0", file=file(path), **options)
        assert reply.get("error", {}).get("desc") == text, options
    assert monitor("query-named-block-nodes") == {"return": []}
    taken = {"cache-size": 4 << 20, "l2-cache-entry-size": 4096, "cache-clean-interval": 600}
    added = monitor("blockdev-add", driver="qcow2", node_name="n0", file=file(path), **taken)
    assert added == {"return": {}}


def test_a_bottom_that_is_not_behind(monitor: Monitor) -> None:
    assert monitor("blockdev-add", driver="null-co", node_name="other") == {"return": {}}
    reply = monitor("blockdev-add", driver="copy-on-read", node_name="n0", file={"driver": "null-co"}, bottom="other")
    assert reply["error"]["desc"] == "Bottom node 'other' not found"


@pytest.mark.parametrize("mode", ["break-guest-write", "break-snapshot"])
def test_a_copy_that_cannot_be_saved(vm: VM, monitor: Monitor, tmp_path: Path, mode: str) -> None:
    """The guest's write fails, or goes on and what was saved is given up."""
    disk, saved = tmp_path / "disk.raw", tmp_path / "saved.raw"
    for path in (disk, saved):
        path.write_bytes(bytes(MEBIBYTE))
    errors = [{"event": "none", "iotype": "write", "once": True}]
    target = {"driver": "blkdebug", "image": file(saved), "inject-error": errors}
    options: dict[str, Any] = {"file": file(disk), "target": target, "on-cbw-error": mode}
    assert monitor("blockdev-add", driver="copy-before-write", node_name="n0", **options) == {"return": {}}
    assert monitor("device_add", driver="virtio-blk-pci", id="d0", drive="n0") == {"return": {}}
    first = vm.guest.write("d0", offset=0, length=512, pattern=1).state
    second = vm.guest.write("d0", offset="64k", length=512, pattern=2).state
    assert (first, second) == (("failed", "done") if mode == "break-guest-write" else ("done", "done"))
    vm.close()
    content = disk.read_bytes()
    assert content[0] == (0 if mode == "break-guest-write" else 1)
    assert content[65536] == 2


@pytest.mark.parametrize("mode", ["break-guest-write", "break-snapshot"])
def test_a_copy_that_takes_too_long(vm: VM, monitor: Monitor, tmp_path: Path, mode: str) -> None:
    """The target's limit lets the second copy through after the time that the guest's writes have for it."""
    for name in ("disk", "saved"):
        (tmp_path / name).write_bytes(bytes(MEBIBYTE))
    limits = {"bps-write": 300 << 10}
    assert monitor("object-add", qom_type="throttle-group", id="g", limits=limits) == {"return": {}}
    target = {"driver": "throttle", "throttle-group": "g", "file": file(tmp_path / "saved")}
    options: dict[str, Any] = {"file": file(tmp_path / "disk"), "target": target, "cbw-timeout": 1}
    added = monitor("blockdev-add", driver="copy-before-write", node_name="n0", on_cbw_error=mode, **options)
    assert added == {"return": {}}
    assert monitor("blockdev-add", driver="snapshot-access", node_name="a", file="n0") == {"return": {}}
    assert monitor("device_add", driver="virtio-blk-pci", id="d0", drive="n0", werror="report") == {"return": {}}
    assert vm.guest.write("d0", offset=0, length="512K", pattern=1).state == "done"
    assert vm.guest.write("d0", offset="512K", length="512K", pattern=2).state == "waiting"
    vm.clock.advance("900ms")
    assert not any(each["event"] == "BLOCK_IO_ERROR" for each in monitor.events)
    vm.clock.advance("200ms")
    monitor("query-status")
    failed = [each["data"]["reason"] for each in monitor.events if each["event"] == "BLOCK_IO_ERROR"]
    assert failed == (["Connection timed out"] if mode == "break-guest-write" else [])
    # Once the limit lets more through all is as it was.
    vm.clock.advance("10s")
    assert vm.guest.write("d0", offset="512K", length="64K", pattern=3).state == "done"
    monitor.human('qemu-io a "read 0 512"')
    vm.close()
    content, saved = (tmp_path / "disk").read_bytes(), (tmp_path / "saved").read_bytes()
    assert content[0] == 1
    assert (content[512 << 10], content[600 << 10]) == (3, 0 if mode == "break-guest-write" else 2)
    assert saved == bytes(MEBIBYTE)


def test_writes_wait_for_a_target_that_is_limited(vm: VM, monitor: Monitor, tmp_path: Path) -> None:
    for name in ("disk", "saved"):
        (tmp_path / name).write_bytes(bytes(MEBIBYTE))
    limits = {"bps-write": 256 << 10}
    assert monitor("object-add", qom_type="throttle-group", id="g", limits=limits) == {"return": {}}
    target = {"driver": "throttle", "throttle-group": "g", "file": file(tmp_path / "saved")}
    options: dict[str, Any] = {"file": file(tmp_path / "disk"), "target": target}
    assert monitor("blockdev-add", driver="copy-before-write", node_name="n0", **options) == {"return": {}}
    assert monitor("device_add", driver="virtio-blk-pci", id="d0", drive="n0") == {"return": {}}
    assert vm.guest.write("d0", offset=0, length="512K", pattern=1).state == "done"
    # What has been copied need not be copied again.
    assert vm.guest.write("d0", offset=0, length="512K", pattern=2).state == "done"
    assert vm.guest.write("d0", offset="512K", length="512K", pattern=2).state == "waiting"
    vm.clock.advance("1s")
    assert (tmp_path / "disk").read_bytes()[512 << 10] == 0
    vm.clock.advance("2s")
    assert (tmp_path / "disk").read_bytes()[512 << 10] == 2


def test_a_bitmap_that_copying_begins_with(monitor: Monitor) -> None:
    nodes: dict[str, Any] = {"file": {"driver": "null-co"}, "target": {"driver": "null-co"}}
    options = {"driver": "copy-before-write", "node_name": "n0", **nodes, "bitmap": {"node": "n", "name": "b"}}
    assert monitor("blockdev-add", **options)["error"]["desc"] == "Node 'n' not found"
    monitor("blockdev-add", driver="null-co", node_name="n")
    assert monitor("blockdev-add", **options)["error"]["desc"] == "Dirty bitmap 'b' not found"
    assert monitor("block-dirty-bitmap-add", node="n", name="b") == {"return": {}}
    assert monitor("blockdev-add", **options) == {"return": {}}


def test_a_log_goes_on_where_it_ended(vm: VM, monitor: Monitor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    sizes = []
    both: list[dict[str, Any]] = [{"log-super-update-interval": 1}, {"log-append": True}]
    for number, options in enumerate(both, 1):
        nodes = {"file": {"driver": "null-co", "size": MEBIBYTE}, "log": file(log)}
        added = monitor("blockdev-add", driver="blklogwrites", node_name=f"n{number}", **nodes, **options)
        assert added == {"return": {}}
        device = f"d{number}"
        assert monitor("device_add", driver="virtio-blk-pci", id=device, drive=f"n{number}") == {"return": {}}
        vm.guest.write(device, offset=0, length=1024, pattern=number)
        if number == 2:
            vm.guest.flush(device)
        sizes.append(struct.unpack_from("<QQQI", log.read_bytes()))
        assert monitor("device_del", id=device) == {"return": {}}
        vm.clock.run_until_quiet()
        assert monitor("blockdev-del", node_name=f"n{number}") == {"return": {}}
    assert [entries for _, _, entries, _ in sizes] == [1, 3]
    content = log.read_bytes()
    assert content[1024:2048] == b"\1" * 1024
    assert content[2560:3584] == b"\2" * 1024


@needs_qemu_img
@pytest.mark.parametrize("kind", ["vmdk", "vdi", "vpc", "vhdx"])
def test_a_format_that_is_not_written_is_told_at_every_door(tmp_path: Path, kind: str) -> None:
    """No drive is taken for a raw disk, or for an empty one, in silence; those that are read-only have theirs."""
    pytest.importorskip("dissect.hypervisor", reason="the extra 'images' is not installed")
    path, unused = tmp_path / "image", tmp_path / "unused"
    for each in (path, unused):
        qemu_img("create", "-q", "-f", kind, each, "1M")
    says = f"qmpd does not model writing to {kind} images; it reads those that are opened read-only"
    lines = [
        ("-drive", f"if=none,id=a,file={path},format={kind}"), ("-drive", f"if=none,id=b,file={path},readonly=on"),
        ("-blockdev", f"driver={kind},node-name=c,file.driver=file,file.filename={path}"), ("-cdrom", str(path)),
    ]  # fmt: skip
    words = [word for line in lines for word in line]
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        with running(*QUIET, *words, "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", stderr=stderr):
            connect(tmp_path / "qmp").close()
            with closing(Monitor(str(tmp_path / "qmp"))) as monitor:
                reply = monitor("blockdev-add", driver=kind, node_name="d", file=file(unused))
                assert reply["error"]["desc"] == says
                for more in (f"format={kind}", "if=none"):
                    assert says in monitor.human(f"drive_add 0 if=none,id=e,file={unused},{more}")
                found = {each["device"]: each.get("inserted") for each in monitor("query-block")["return"]}
                assert {name: medium and medium["drv"] for name, medium in found.items()} == {
                    "a": None, "b": kind, "ide1-cd0": kind,
                }  # fmt: skip
    told = [line for line in errors.read_text().splitlines() if says in line]
    assert len(told) == 2, told


@needs_qemu_img
@pytest.mark.parametrize("extended", ["on", "off"])
def test_clusters_that_stay(qmpd: VMFactory, tmp_path: Path, extended: str) -> None:
    """`discard-no-unref`: what is discarded reads as zeros, and its room is kept for it.  (Seen with QEMU 10.0.)"""
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"extended_l2={extended}", path, "1M")
    options = "driver=qcow2,node-name=n,discard=unmap,discard-no-unref=on"
    node = f"{options},file.driver=file,file.filename={path}"
    vm = qmpd(command_line=["-machine", "pc", "-blockdev", node], guest="", clock="virtual", release="10.0")
    with closing(Monitor(vm.qmp_path)) as monitor:
        for line in ("write -P 1 0 1M", "discard 64k 128k", "write -z -u 512k 128k"):
            monitor.human(f'qemu-io n "{line}"')
    vm.close()
    pieces = json.loads(qemu_img("map", "--output=json", path))
    first = pieces[0]["offset"]
    zeros = [(each["start"] >> 10, each["length"] >> 10) for each in pieces if each["zero"]]
    assert zeros == [(64, 128), (512, 128)]
    assert all(each["offset"] == first + each["start"] for each in pieces)
    assert "No errors were found" in qemu_img("check", path)


def test_what_passes_the_cache_by_asks_for_whole_sectors(qmpd: VMFactory, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(MEBIBYTE))
    node = f"driver=raw,node-name=n0,file.driver=file,file.filename={tmp_path}/disk,file.cache.direct=on"
    vm = qmpd(command_line=["-blockdev", node], guest="", release="11.1")
    with closing(Monitor(vm.qmp_path)) as monitor:
        nodes = {each["drv"]: each["image"]["limits"] for each in monitor("query-named-block-nodes")["return"]}
    asked = {drv: (each["request-alignment"], each["min-mem-alignment"]) for drv, each in nodes.items()}
    assert asked == {"raw": (1, 512), "file": (512, 512)}
