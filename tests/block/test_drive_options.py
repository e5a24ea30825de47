"""What `-drive` says of a drive's nodes and of its account comes about; the forms were seen with QEMU 5.2 to 11.1."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import StartError
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor

if TYPE_CHECKING:

    from qmpd.testing import VM, VMFactory
    from tests.block.support import Talk


DEVICE = ("-device", "virtio-blk-pci,drive=d,id=d0")


def drive(qmpd: VMFactory, options: str, *more: str) -> VM:
    """A VM whose guest runs, with a disk `d0` on the drive `d`."""
    line = ["-machine", "pc", "-nodefaults", "-drive", f"if=none,id=d,{options}", *DEVICE, *more]
    return qmpd(command_line=line, guest="", clock="virtual")


def nodes(monitor: Monitor) -> list[dict[str, Any]]:
    return [
        {"name": each["node-name"], "driver": each["drv"], "ro": each["ro"], "flush": not each["cache"]["no-flush"],
         "depth": each["backing_file_depth"]}
        for each in monitor("query-named-block-nodes")["return"]
    ]  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(b"\x11" * (1 << 20))
    return path


@pytest.mark.parametrize("by", ["option", "global", "drive_add"])
def test_a_temporary_image_gets_what_is_written(
    talk: Talk, qmpd: VMFactory, raw: Path, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    own = f"file={raw},format=raw,node-name=n0"
    if by == "drive_add":
        vm = qmpd(command_line=["-machine", "pc"], guest="", clock="virtual")
    else:
        vm = drive(qmpd, f"{own},snapshot=on" if by == "option" else own, *(["-snapshot"] if by == "global" else []))
    monitor = talk(vm)
    if by == "drive_add":
        assert monitor.human(f"drive_add 0 if=none,id=d,{own},snapshot=on") == "OK\n"
        assert monitor("device_add", driver="virtio-blk-pci", drive="d", id="d0") == {"return": {}}
    found = nodes(monitor)
    overlay = {"driver": "qcow2", "ro": False, "flush": False, "depth": 1}
    assert {name: value for name, value in found[0].items() if name != "name"} == overlay
    assert [(each["driver"], each["ro"], each["flush"]) for each in found[1:]] == [
        ("file", False, False), ("raw", True, True), ("file", True, True),
    ]  # fmt: skip
    assert found[2]["name"] == "n0"
    (shown,) = [each["inserted"] for each in monitor("query-block")["return"] if each["device"] == "d"]
    text = json.loads(shown["file"].removeprefix("json:"))
    assert text["backing"] == {"driver": "raw", "file": {"driver": "file", "filename": str(raw)}}
    name = text["file"]["filename"]
    assert Path(name).parent == tmp_path
    assert len(Path(name).name) == len("vl.123456")
    assert not os.path.exists(name), "it is deleted at once, so that it ends with the process"
    assert vm.guest.write("d0", offset="64k", length="64k", pattern=0x22).state == "done"
    assert vm.guest.read("d0", offset="64k", length=512).pattern == 0x22
    assert vm.guest.read("d0", offset=0, length=512).pattern == 0x11
    vm.close()
    assert raw.read_bytes() == b"\x11" * (1 << 20)
    assert [each.name for each in tmp_path.iterdir()] == ["a.raw"]


def test_snapshot_off_goes_before_the_global_option(qmpd: VMFactory, raw: Path) -> None:
    vm = drive(qmpd, f"file={raw},format=raw,snapshot=off", "-snapshot")
    assert vm.guest.write("d0", offset=0, length=512, pattern=0x22).state == "done"
    vm.close()
    assert raw.read_bytes()[:512] == b"\x22" * 512


@needs_qemu_img
def test_what_is_read_from_behind_is_copied(talk: Talk, qmpd: VMFactory, raw: Path, tmp_path: Path) -> None:
    raw.write_bytes(b"\x11" * (128 << 10) + bytes(896 << 10))
    top = tmp_path / "c.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "a.raw", "-F", "raw", top)
    vm = drive(qmpd, f"file={top},format=qcow2,copy-on-read=on")
    assert vm.guest.read("d0", offset="66k", length=512).pattern == 0x11
    assert vm.guest.read("d0", offset="256k", length=512).pattern == 0
    monitor = talk(vm)
    assert [each["driver"] for each in nodes(monitor)] == ["raw", "file", "qcow2", "file"], "no filter stands for it"
    vm.close()
    pieces = json.loads(qemu_img("map", "--output=json", top))
    copied = [(each["start"] >> 10, each["length"] >> 10, each["zero"]) for each in pieces if each["depth"] == 0]
    # Whole clusters are, and zeros as such.
    assert copied == [(64, 64, False), (256, 64, True)]


def test_the_account(talk: Talk, qmpd: VMFactory, raw: Path) -> None:
    ten = "10".zfill(5000)
    vm = drive(qmpd, f"file={raw},format=raw,stats-account-failed=off,stats-intervals.0={ten},stats-intervals.1=60")
    monitor = talk(vm)

    def told() -> dict[str, Any]:
        (drive,) = [each for each in monitor("query-blockstats")["return"] if each["device"] == "d"]
        stats: dict[str, Any] = drive["stats"]
        return stats

    begun = told()
    assert (begun["account_invalid"], begun["account_failed"]) == (True, False)
    assert [each["interval_length"] for each in begun["timed_stats"]] == [10, 60]
    assert {value for each in begun["timed_stats"] for name, value in each.items() if name != "interval_length"} == {0}
    monitor("block_set_io_throttle", device="d", bps=0, bps_rd=0, bps_wr=65536, iops=0, iops_rd=0, iops_wr=0)
    for _ in range(3):
        vm.guest.write("d0", offset=0, length="64k", pattern=1)
    vm.clock.advance(5)
    now = told()["timed_stats"]
    assert now[0]["max_wr_latency_ns"] == now[1]["max_wr_latency_ns"] > 100_000_000
    assert now[0]["avg_wr_queue_depth"] > now[1]["avg_wr_queue_depth"] > 0
    vm.clock.advance(20)
    later = told()["timed_stats"]
    assert (later[0]["max_wr_latency_ns"], later[1]) == (0, now[1])


def test_a_null_device_takes_its_time(talk: Talk, qmpd: VMFactory) -> None:
    """`latency-ns` is on the machine's clock."""
    vm = drive(qmpd, "driver=null-co,latency-ns=2000000000,size=1M")
    request = vm.guest.write("d0", offset=0, length=512)
    assert request.state != "done"
    monitor = talk(vm)
    vm.clock.advance(1)
    assert _writes(monitor) == 0
    vm.clock.advance(1)
    assert _writes(monitor) == 1


def _writes(monitor: Monitor) -> int:
    (drive,) = [each for each in monitor("query-blockstats")["return"] if each["device"] == "d"]
    count: int = drive["stats"]["wr_operations"]
    return count


def test_native_input_and_output_passes_the_cache_by(talk: Talk, qmpd: VMFactory, raw: Path) -> None:
    vm = qmpd()
    monitor = talk(vm)
    options = {"driver": "file", "node_name": "f", "filename": str(raw), "aio": "native"}
    wrong = "aio=native was specified, but it requires cache.direct=on, which was not specified."
    assert monitor("blockdev-add", **options)["error"]["desc"] == wrong
    assert monitor("blockdev-add", **options, cache={"direct": True}) == {"return": {}}


def test_limits_are_shown(talk: Talk, qmpd: VMFactory, raw: Path) -> None:
    monitor = talk(drive(qmpd, f"file={raw},format=raw,iops=10,iops_max=20,iops_size=4096,bps_rd=5"))
    line = (
        "    I/O throttling:   bps=0 bps_rd=5 bps_wr=0 bps_max=0 bps_rd_max=0 bps_wr_max=0 iops=10 iops_rd=0 iops_wr=0 "
        "iops_max=20 iops_rd_max=0 iops_wr_max=0 iops_size=4096 group=d"
    )
    assert line in monitor.human("info block d").splitlines()


def test_what_happens_at_errors_is_not_automatic_in_words(qmpd: VMFactory, raw: Path) -> None:
    with pytest.raises(StartError, match="'auto' invalid write error action"):
        drive(qmpd, f"file={raw},format=raw,werror=auto")
