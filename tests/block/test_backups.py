"""Backups: what is in the target is what was in the source, as a real qemu-img sees it."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk
from tests.waiting import wait_until

if TYPE_CHECKING:

    from qmpd.testing import VM, VMFactory
    from tests.block.support import Talk


SIZE = 4 << 20
RELEASES = ("5.2", "7.2", "10.0", "11.1")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    return path


def _end(monitor: Monitor, job: str) -> dict[str, Any]:
    """Wait for the end of a backup; what was told of it."""
    while True:
        for event in monitor.events:
            if event["event"].startswith("BLOCK_JOB_C") and event["data"]["device"] == job:
                monitor.events.remove(event)
                data: dict[str, Any] = event["data"]
                return data
        monitor("query-status")


def _bitmaps(monitor: Monitor, node: str) -> dict[str, dict[str, Any]]:
    nodes = monitor("query-named-block-nodes", flat=True)["return"]
    (found,) = [each for each in nodes if each["node-name"] == node]
    return {each.get("name", ""): each for each in found.get("dirty-bitmaps", [])}


def _write_some(vm: VM, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        offset = chance.randrange(SIZE // 512 - 1) * 512
        length = min(chance.choice([512, 4096, 65536, 200_192]), SIZE - offset)
        vm.guest.write("d0", offset=offset, length=length, pattern=chance.randrange(256))


@needs_qemu_img
@pytest.mark.parametrize("release", RELEASES)
def test_a_chain_of_incremental_backups_is_what_the_disk_is(
    qmpd: VMFactory, image: Path, tmp_path: Path, talk: Talk, release: str
) -> None:
    chance = random.Random(release)
    node = f"driver=qcow2,node-name=n0,discard=unmap,file.driver=file,file.filename={image}"
    command_line = ["-machine", "pc", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0,id=d0"]
    vm = qmpd(command_line=command_line, guest="", clock="virtual", release=release)
    monitor = talk(vm)
    _write_some(vm, chance)
    first = {"job-id": "j", "device": "n0", "target": str(tmp_path / "full"), "format": "qcow2", "sync": "full"}
    actions = [
        {"type": "block-dirty-bitmap-add", "data": {"node": "n0", "name": "b0"}},
        {"type": "drive-backup", "data": first},
    ]
    assert monitor("transaction", actions=actions) == {"return": {}}
    assert "error" not in _end(monitor, "j")
    before = tmp_path / "full"
    for number in range(3):
        _write_some(vm, chance)
        dirty = _bitmaps(monitor, "n0")["b0"]["count"]
        after = tmp_path / f"increment{number}"
        qemu_img("create", "-q", "-f", "qcow2", "-b", before, "-F", "qcow2", after)
        started = monitor(
            "drive-backup", job_id="j", device="n0", target=str(after), format="qcow2", mode="existing",
            sync="incremental", bitmap="b0",
        )  # fmt: skip
        assert started == {"return": {}}
        ended = _end(monitor, "j")
        assert (ended["len"], ended["offset"]) == (dirty, dirty)
        assert _bitmaps(monitor, "n0")["b0"]["count"] == 0
        before = after
    monitor("quit")
    vm.wait_until_ended()
    vm.close()
    assert "identical" in qemu_img("compare", image, before)
    assert "No errors" in qemu_img("check", before)


@needs_qemu_img
@pytest.mark.parametrize("release", ["5.2", "7.2"])
def test_the_target_of_a_backup_without_a_copy_of_its_own_shows_the_disk_as_it_was(
    qmpd: VMFactory, image: Path, tmp_path: Path, talk: Talk, release: str
) -> None:
    """What fleecing is: old bytes are copied before they are overwritten, all others show through."""
    chance = random.Random(7)
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.filename={image}"
    command_line = ["-machine", "pc", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0,id=d0"]
    vm = qmpd(command_line=command_line, guest="", clock="virtual", release=release)
    monitor = talk(vm)
    _write_some(vm, chance)
    places = [chance.randrange(SIZE // 512) * 512 for _ in range(20)]
    were = [vm.guest.read("d0", offset=place, length=512).pattern for place in places]
    target = tmp_path / "fleece"
    qemu_img("create", "-q", "-f", "qcow2", target, SIZE)
    added = monitor(
        "blockdev-add", driver="qcow2", node_name="t0", file={"driver": "file", "filename": str(target)}, backing="n0"
    )
    assert added == {"return": {}}
    assert monitor("blockdev-backup", job_id="j", device="n0", target="t0", sync="none") == {"return": {}}
    for place in places:
        vm.guest.write("d0", offset=place, length=512, pattern=0xEE)
    for place, was in zip(places, were, strict=True):
        assert monitor.human(f'qemu-io t0 "read -P {was} {place} 512"') == ""
        assert vm.guest.read("d0", offset=place, length=512).pattern == 0xEE
    saved = len({place // 65536 for place in places}) * 65536
    (job,) = monitor("query-block-jobs")["return"]
    assert (job["len"], job["offset"]) == (SIZE, saved)
    assert monitor("block-job-cancel", device="j") == {"return": {}}
    _end(monitor, "j")


@needs_qemu_img
def test_a_compressed_backup_is_smaller_and_the_same(qmpd: VMFactory, image: Path, tmp_path: Path, talk: Talk) -> None:
    vm = disk(qmpd, image)
    monitor = talk(vm)
    vm.guest.write("d0", offset=0, length="2M", pattern=0x41)
    target = tmp_path / "small"
    options = {"job_id": "j", "device": "n0", "target": str(target), "sync": "full"}
    assert "Compression" in monitor("drive-backup", **options, format="raw", compress=True)["error"]["desc"]
    assert monitor("drive-backup", **options, format="qcow2", compress=True) == {"return": {}}
    assert "error" not in _end(monitor, "j")
    monitor("quit")
    vm.wait_until_ended()
    vm.close()
    assert "identical" in qemu_img("compare", image, target)
    assert target.stat().st_blocks * 512 < 1 << 20


def test_an_error_that_is_ignored_for_ever_holds_nobody_up(qmpd: VMFactory, talk: Talk) -> None:
    nodes = [
        {"driver": "null-co", "node-name": "t0", "size": SIZE},
        {
            "driver": "blkdebug", "node-name": "n0", "image": {"driver": "null-co", "size": SIZE},
            "inject-error": [{"event": "none", "iotype": "read", "errno": 5}],
        },
    ]  # fmt: skip
    command_line = ["-machine", "none"]
    for each in nodes:
        command_line += ["-blockdev", json.dumps(each)]
    vm = qmpd(command_line=command_line, release="7.2", clock="virtual")
    monitor = talk(vm)
    monitor("blockdev-backup", job_id="j", device="n0", target="t0", sync="full", on_source_error="ignore")
    vm.clock.advance("5ms")
    told = [each for each in monitor.events if each["event"] == "BLOCK_JOB_ERROR"]
    assert monitor("query-block-jobs")["return"][0]["offset"] == 0
    told = [each for each in monitor.events if each["event"] == "BLOCK_JOB_ERROR"]
    assert 1 < len(told) < 20
    monitor("block-job-cancel", device="j")
    assert _end(monitor, "j")["offset"] == 0


@needs_qemu_img
@pytest.mark.parametrize("release", RELEASES[1:])
def test_a_node_shows_the_disk_as_it_was(
    qmpd: VMFactory, image: Path, tmp_path: Path, talk: Talk, release: str
) -> None:
    chance = random.Random(release)
    kept, temporary, copy = tmp_path / "kept", tmp_path / "temporary", tmp_path / "copy"
    for path in (kept, temporary, copy):
        qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    node = f"driver=qcow2,node-name=n0,discard=unmap,file.driver=file,file.filename={image}"
    saved = f"driver=qcow2,node-name=t0,file.driver=file,file.filename={temporary}"
    nodes = [node, saved, "driver=copy-before-write,node-name=c0,file=n0,target=t0"]
    blockdevs = [part for each in nodes for part in ("-blockdev", each)]
    command_line = ["-machine", "pc", *blockdevs, "-device", "virtio-blk-pci,drive=c0,id=d0"]
    vm = qmpd(command_line=command_line, guest="", clock="virtual", release=release)
    monitor = talk(vm)

    def add(name: str, path: Path) -> None:
        added = monitor("blockdev-add", driver="qcow2", node_name=name, file={"driver": "file", "filename": str(path)})
        assert added == {"return": {}}

    def back_up(source: str, target: str) -> None:
        started = monitor("blockdev-backup", job_id="j", device=source, target=target, sync="full")
        assert started == {"return": {}}
        assert "error" not in _end(monitor, "j")

    assert monitor("blockdev-add", driver="snapshot-access", node_name="a0", file="c0") == {"return": {}}
    add("kept", kept)
    add("copy", copy)
    back_up("a0", "kept")
    for _ in range(4):
        _write_some(vm, chance)
    back_up("a0", "copy")
    monitor("quit")
    vm.wait_until_ended()
    vm.close()
    assert "identical" in qemu_img("compare", kept, copy)
    assert "identical" not in qemu_img("compare", kept, image, fails=True)


@pytest.mark.parametrize(
    ("release", "status", "why"),
    [
        ("5.2", "completed", None), ("7.2", "failed", None),
        ("10.0", "failed", "Error in migration completion: Bad address"),
        ("11.1", "failed", "Block inactivate failed during switchover"),
    ],
)  # fmt: skip
def test_a_disk_that_a_backup_writes_to_is_not_given_away(
    qmpd: VMFactory, tmp_path: Path, release: str, status: str, why: str | None
) -> None:
    """The migration fails, and the machine goes on here with its backup; real QEMU said so of each release."""
    words = ["-machine", "pc", "-nodefaults"]
    for name in ("n", "t"):
        (tmp_path / name).write_bytes(b"x" * (8 << 20))
        words += ["-blockdev", f"driver=raw,node-name={name},file.driver=file,file.filename={tmp_path / name}"]
    words += ["-device", "virtio-blk-pci,drive=n"]
    vm = qmpd(command_line=words, guest="boot-time=0", clock="real", release=release)
    with closing(Monitor(vm.qmp_path)) as monitor:
        backup = {"job_id": "j", "device": "n", "target": "t", "sync": "full", "speed": 1}
        assert monitor("blockdev-backup", **backup) == {"return": {}}
        assert monitor("migrate", uri="exec:cat > /dev/null") == {"return": {}}

        wait_until(lambda: monitor("query-migrate")["return"]["status"] in ("completed", "failed"))
        told = monitor("query-migrate")["return"]
        assert (told["status"], told.get("error-desc")) == (status, why)
        goes_on = status == "failed"
        assert monitor("query-status")["return"]["running"] is goes_on
        assert [job["status"] for job in monitor("query-block-jobs")["return"]] == ["running"]
        assert monitor("block-job-set-speed", device="j", speed=0) == {"return": {}}
        wait_until(lambda: not goes_on or not monitor("query-block-jobs")["return"])
    assert not goes_on or (tmp_path / "t").read_bytes() == (tmp_path / "n").read_bytes()


@pytest.mark.parametrize("release", RELEASES)
def test_a_drive_that_leaves_with_its_device_takes_its_jobs_along(
    qmpd: VMFactory, tmp_path: Path, release: str
) -> None:
    for name in ("n", "t"):
        (tmp_path / name).write_bytes(b"x" * (8 << 20))
    words = ["-machine", "pc", "-nodefaults", "-device", "virtio-scsi-pci"]
    words += ["-drive", f"if=none,id=dr,file={tmp_path}/n,format=raw"]
    words += ["-device", "scsi-hd,id=d,drive=dr", "-blockdev", f"driver=file,node-name=t,filename={tmp_path}/t"]
    vm = qmpd(command_line=words, guest="boot-time=0", clock="real", release=release)
    with closing(Monitor(vm.qmp_path)) as monitor:
        wait_until(lambda: vm.guest.query().phase == "running")
        assert monitor("blockdev-backup", job_id="j", device="dr", target="t", sync="full", speed=1) == {"return": {}}
        assert monitor("device_del", id="d") == {"return": {}}
        wait_until(lambda: not monitor("query-block")["return"] and not monitor("query-block-jobs")["return"])
        told = [event["event"] for event in monitor.events]
        assert {"BLOCK_JOB_CANCELLED", "DEVICE_DELETED"} <= set(told)
