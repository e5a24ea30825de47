"""What a guest writes is on the disk, and qemu-img and qemu-io read it; what fails has QEMU's consequences."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import ControlError
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import disk
from tests.waiting import wait_until

if TYPE_CHECKING:

    from qmpd.testing import VM, VMFactory
    from tests.block.support import Talk


MEBIBYTE = 1 << 20


def qemu_io(path: Path, kind: str, *commands: str) -> str:
    words = [word for command in commands for word in ("-c", command)]
    ended = subprocess.run(
        ["qemu-io", "-r", "-f", kind, *words, str(path)], capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "16M")
    return path


@needs_qemu_img
@pytest.mark.parametrize("clock", ["virtual", "real"])
def test_what_the_guest_writes_is_on_the_disk(qmpd: VMFactory, image: Path, clock: str) -> None:
    vm = disk(qmpd, image, clock=clock)
    assert vm.guest.write("d0", offset="1M", length="64k", pattern="0xab").state == "done"
    assert vm.guest.write("d0", offset="1M", length=512, zeroes=True).state == "done"
    found = vm.guest.read("d0", offset=MEBIBYTE + 512, length="512")
    assert (found.pattern, found.data) == (0xAB, "ab" * 512)
    assert vm.guest.read("d0", offset=MEBIBYTE, length=1024).pattern is None
    assert vm.guest.flush("d0").state == "done"
    vm.close()
    said = qemu_io(image, "qcow2", "read -P 0xab 1049088 65024", "read -P 0 1M 512", "read -P 0 0 1M")
    assert "verification failed" not in said
    assert "No errors were found" in qemu_img("check", image)


@needs_qemu_img
def test_what_qemu_writes_is_read(qmpd: VMFactory, tmp_path: Path) -> None:
    base, middle, top = (tmp_path / name for name in ("base.img", "middle.qcow2", "top.qcow2"))
    base.write_bytes(b"\x11" * (3 * MEBIBYTE))
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", middle, "4M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x22 1M 64k", middle], check=True, capture_output=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x33 2M 64k", top], check=True, capture_output=True)
    vm = disk(qmpd, top)
    found = [vm.guest.read("d0", offset=place, length="64k").pattern for place in (0, "1M", "2M", "3M")]
    assert found == [0x11, 0x22, 0x33, 0]
    vm.guest.write("d0", offset=0, length=512, pattern=0x44)
    vm.close()
    assert "verification failed" not in qemu_io(top, "qcow2", "read -P 0x44 0 512", "read -P 0x11 512 65024")
    assert base.read_bytes() == b"\x11" * (3 * MEBIBYTE)


@needs_qemu_img
def test_a_file_in_use_is_locked(qmpd: VMFactory, image: Path) -> None:
    disk(qmpd, image)
    ended = subprocess.run(["qemu-img", "resize", image, "32M"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'Failed to get "write" lock\nIs another process using the image' in ended.stderr


@needs_qemu_img
def test_what_somebody_else_has_locked_is_refused(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    disk(qmpd, image)
    other = qmpd(machine="pc")
    monitor = talk(other)
    file = {"driver": "file", "filename": str(image)}
    refused = monitor("blockdev-add", driver="qcow2", node_name="n", file=file)
    assert refused["error"]["desc"] == 'Failed to get "write" lock'
    unlocked = {**file, "locking": "off"}
    assert monitor("blockdev-add", driver="qcow2", node_name="n", file=unlocked) == {"return": {}}


@needs_qemu_img
def test_who_lets_go_of_a_file_is_not_refused(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    """Somebody who does not mind locks before says afterwards that nobody may write: the job's end is none of his."""
    vm = disk(qmpd, image)
    monitor = talk(vm)
    size = next(each["image"]["virtual-size"] for each in monitor("query-named-block-nodes")["return"]
                if each["node-name"] == "n0")  # fmt: skip
    monitor("blockdev-add", driver="null-co", node_name="t", size=size)
    job = {"job_id": "j", "device": "n0", "target": "t", "sync": "full", "speed": 1}
    assert monitor("blockdev-backup", **job) == {"return": {}}
    with image.open("rb") as other:
        # Byte 201 stands for "nobody else may write" (block/file-posix.c).
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
        assert monitor("block-job-cancel", device="j", force=True) == {"return": {}}
        wait_until(lambda: monitor("query-block-jobs") == {"return": []})
        assert monitor("blockdev-del", node_name="t") == {"return": {}}


@needs_qemu_img
def test_a_disk_is_resized(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    vm = disk(qmpd, image)
    monitor = talk(vm)
    assert monitor("block_resize", node_name="n0", size=32 * MEBIBYTE) == {"return": {}}
    vm.guest.write("d0", offset="31M", length="64k", pattern=7)
    [drive] = monitor("query-block")["return"]
    assert drive["inserted"]["image"]["virtual-size"] == 32 * MEBIBYTE
    assert drive["inserted"]["image"]["actual-size"] == image.stat().st_blocks * 512
    vm.close()
    assert '"virtual-size": 33554432' in qemu_img("info", "--output=json", image)


@needs_qemu_img
def test_what_is_cut_off_a_disk_leaves_nothing_in_its_image(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    vm = disk(qmpd, image)
    monitor = talk(vm)
    monitor("block_resize", node_name="n0", size=1024 * MEBIBYTE)
    vm.guest.write("d0", offset="1000M", length="64k")
    twin = Path(shutil.copy(image, image.with_name("twin.qcow2")))
    assert monitor("block_resize", node_name="n0", size=32 * MEBIBYTE) == {"return": {}}
    qemu_img("resize", "--shrink", twin, "32M")
    assert image.stat().st_size == twin.stat().st_size
    vm.close()
    qemu_img("check", image)


@needs_qemu_img
def test_what_was_done_is_counted(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    vm = disk(qmpd, image)
    monitor = talk(vm)
    for number in range(3):
        vm.guest.write("d0", offset=number * 65536, length="4k")
    vm.guest.read("d0", length="1M")
    vm.guest.flush("d0")
    vm.guest.discard("d0", offset=0, length="64k")
    [found] = monitor("query-blockstats")["return"]
    stats = found["stats"]
    assert (stats["wr_operations"], stats["wr_bytes"], stats["wr_highest_offset"]) == (3, 12288, 2 * 65536 + 4096)
    assert (stats["rd_operations"], stats["rd_bytes"]) == (1, MEBIBYTE)
    assert (stats["flush_operations"], stats["unmap_operations"], stats["unmap_bytes"]) == (1, 1, 65536)
    assert found["parent"]["stats"]["wr_highest_offset"] > 4 * 65536


@needs_qemu_img
@pytest.mark.parametrize(
    ("options", "error", "when", "action", "status"),
    [
        ("werror=stop", "EIO", "write", "stop", "failed"),
        ("werror=stop", "ENOSPC", "write", "stop", "nospace"),
        ("werror=enospc", "ENOSPC", "write", "stop", "nospace"),
        ("werror=enospc", "EIO", "write", "report", "ok"),
        ("rerror=stop", "EIO", "read", "stop", "failed"),
        ("werror=ignore,rerror=ignore", "EIO", "read", "ignore", None),
        ("werror=report,rerror=report", "EIO", "write", "report", None),
    ],
)
def test_errors(
    qmpd: VMFactory, talk: Talk, image: Path, options: str, error: str, when: str, action: str, status: str | None
) -> None:
    vm = disk(qmpd, image, device=f"virtio-blk-pci,drive=n0,id=d0,{options}")
    monitor = talk(vm)
    vm.faults.disk("n0", error=error, when=when, count=1)
    request: Any = vm.guest.write if when == "write" else vm.guest.read
    found = request("d0", offset="64k", length="64k")
    text = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}[error]
    assert (found.state, found.error, found.action) == ("waiting" if action == "stop" else "failed", text, action)
    event = vm.wait_for_event("BLOCK_IO_ERROR", {"operation": when, "action": action, "reason": text})
    assert event.data is not None
    assert event.data.get("nospace") == (None if status is None else error == "ENOSPC")
    assert monitor("query-block")["return"][0].get("io-status") == status
    assert vm.faults.query() == []
    assert vm.run_state == ("io-error" if action == "stop" else "running")
    if action == "stop":
        vm.wait_for_event("STOP")
        # The request is tried again, and this time goes well.
        assert monitor("cont") == {"return": {}}
        vm.wait_for_run_state("running")
        assert monitor("query-block")["return"][0]["io-status"] == "ok"
        stats = monitor("query-blockstats")["return"][0]["stats"]
        kind = "wr" if when == "write" else "rd"
        assert (stats[f"{kind}_operations"], stats[f"failed_{kind}_operations"]) == (1, 1)
        if when == "write":
            assert vm.guest.read("d0", offset="64k", length="64k").pattern == 0xCD


@needs_qemu_img
def test_a_load_writes_at_its_rate(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    vm = disk(qmpd, image, clock="virtual")
    load = vm.guest.start_load("d0", rate="1M", length="64k", area="4M")
    vm.clock.advance(2)
    [state] = vm.guest.query_loads()
    assert state.writes in (32, 33)
    talk(vm)("stop")
    vm.clock.advance(5)
    assert vm.guest.query_loads() == [state]
    assert not vm.guest.stop_load(load.id).active
    with pytest.raises(ControlError, match="there is no load 9"):
        vm.guest.stop_load(9)


@needs_qemu_img
def test_the_main_loop_goes_on(qmpd: VMFactory, talk: Talk, tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    vm = disk(qmpd, path, kind="raw", clock="real")
    monitor = talk(vm)
    vm.guest.start_load("d0", rate="4G", length="16M", area="512M", count=32)
    took = []
    for _ in range(100):
        begun = time.perf_counter()
        monitor("query-status")
        took.append(time.perf_counter() - begun)
        time.sleep(0.002)
    assert sorted(took)[50] < 0.1


def test_a_disk_that_is_full(qmpd: VMFactory, talk: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write error of the host's, and no made-up one: the file may not grow beyond a limit."""
    import resource
    import signal

    path = tmp_path / "disk.img"
    path.write_bytes(bytes(65536))
    vm: VM = disk(qmpd, path, kind="raw")
    monitor = talk(vm)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        refused = monitor("block_resize", node_name="n0", size=1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert refused["error"]["desc"] == "File too large"


def test_what_is_no_disk(qmpd: VMFactory, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(65536))
    vm = disk(qmpd, path, kind="raw")
    for arguments, text in (
        ({"device": "no"}, "Device 'no' not found"),
        ({"device": "d0", "offset": "64k"}, "the disk of 'd0' has 65536 bytes"),
        ({"device": "d0", "offset": 1}, "multiples of 512"),
        ({"device": "d0", "offset": "1x"}, "'1x' is not a size"),
        ({"device": "d0", "pattern": 256}, "'pattern' is a byte"),
    ):
        with pytest.raises(ControlError, match=text):
            vm.guest.write(**arguments)


@needs_qemu_img
def test_what_a_drive_is_told_reaches_its_node(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    drive = (
        f"if=none,id=d,file={image},format=qcow2,cache=unsafe,detect-zeroes=on,discard=unmap,file.locking=off,"
        "throttling.bps-total=4096,throttling.group=g"
    )
    command_line = ["-machine", "pc", "-nodefaults", "-drive", drive, "-drive", drive.replace("id=d,", "id=e,")]
    monitor = talk(qmpd(command_line=command_line, guest=""))
    first, _ = monitor("query-block")["return"]
    inserted = first["inserted"]
    assert inserted["cache"] == {"writeback": True, "direct": False, "no-flush": True}
    assert (inserted["detect_zeroes"], inserted["bps"], inserted["group"]) == ("on", 4096, "g")
    assert "Cache mode:       writeback, ignore flushes\n" in monitor.human("info block d")


@needs_qemu_img
def test_a_name_in_json(qmpd: VMFactory, talk: Talk, image: Path) -> None:
    file = {"driver": "qcow2", "file": {"driver": "file", "filename": str(image)}}
    name = json.dumps({"driver": "raw", "size": "64k", "file": file})
    drive = f"if=none,id=d,file=json:{name.replace(',', ',,')}"
    monitor = talk(qmpd(command_line=["-machine", "pc", "-nodefaults", "-drive", drive], guest=""))
    [found] = monitor("query-block")["return"]
    assert found["inserted"]["image"]["virtual-size"] == 65536
    assert '"size": "64k"' in found["inserted"]["image"]["filename"], "it is told as it was given"
    assert found["inserted"]["image"]["filename"].startswith('json:{"driver": "raw"')


@needs_qemu_img
def test_a_snapshot_that_is_not_there(image: Path) -> None:
    qemu_img("snapshot", "-c", "one", image)
    drive = ["-machine", "none", "-display", "none", "-drive", f"if=none,id=d,file={image},format=qcow2"]
    for tag, text in (
        ("no", "Snapshot 'no' does not exist in one or more devices"),
        ("one", "This is a disk-only snapshot. Revert to it  offline using qemu-img"),
    ):
        ended = subprocess.run(
            [Path(sys.executable).parent / "qmpd-system-x86_64", *drive, "-loadvm", tag],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (1, f"qmpd-system-x86_64: {text}\n")


@needs_qemu_img
def test_an_image_that_contradicts_itself(
    qmpd: VMFactory, talk: Talk, image: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An entry of the guest's points at the image's own tables: nothing is written there."""
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 64k", image], check=True, capture_output=True)
    with image.open("r+b") as file:
        file.seek(4 * 65536)  # the L2 table
        file.write((1 << 63 | 65536).to_bytes(8, "big"))
    vm = disk(qmpd, image)
    assert vm.guest.write("d0", offset=0, length=512).state == "failed"
    event = vm.wait_for_event("BLOCK_IMAGE_CORRUPTED")
    assert event.data == {
        "device": "", "node-name": "n0", "offset": 65536, "size": 512, "fatal": True,
        "msg": "Preventing invalid write on metadata (overlaps with refcount table)",
    }  # fmt: skip
    marked = f"qcow2: Marking image as corrupt: {event.data['msg']}; further corruption events will be suppressed\n"
    assert marked in capfd.readouterr().err
    assert vm.guest.read("d0", offset=0, length=512).error == "No medium found"
    [drive] = talk(vm)("query-block")["return"]
    assert drive["inserted"]["image"]["format-specific"]["data"]["corrupt"] is True
    vm.close()
    said = subprocess.run(["qemu-io", "-c", "write 0 512", image], capture_output=True, text=True, check=False)
    assert "Image is corrupt; cannot be opened read/write" in said.stderr


@needs_qemu_img
def test_what_is_no_byte_and_no_rate_is_refused(qmpd: VMFactory, image: Path) -> None:
    vm = disk(qmpd, image)
    for pattern in ("", "x", 256, "0x100"):
        with pytest.raises(ControlError, match="'pattern' is a byte"):
            vm.guest.write("d0", pattern=pattern)
        with pytest.raises(ControlError, match="'pattern' is a byte"):
            vm.guest.start_load("d0", rate="1M", length="64k", pattern=pattern)
    for rate in ("", "fast", 0):
        with pytest.raises(ControlError, match="'rate'"):
            vm.guest.start_load("d0", rate=rate, length="64k")


@pytest.mark.parametrize("release", ["5.2", "11.1"])
def test_the_firmware_asks_for_no_flushes_and_an_operating_system_does(
    qmpd: VMFactory, talk: Talk, release: str
) -> None:
    """SeaBIOS's driver for virtio disks takes neither of the features that a cache needs (real QEMU shows it)."""
    devices = ("virtio-blk-pci,id=d", "virtio-blk-pci,id=e,write-cache=off", "ide-hd,id=f")
    options = ["-machine", "pc", "-nodefaults", "-S"]
    for number, device in enumerate(devices):
        options += ["-blockdev", f"driver=null-co,node-name=n{number},size=1048576"]
        options += ["-device", f"{device},drive=n{number}"]
    vm = qmpd(command_line=options, guest="boot-time=100ms", clock="virtual", release=release)
    monitor = talk(vm)

    def write_back() -> list[bool]:
        return [each["inserted"]["cache"]["writeback"] for each in monitor("query-block")["return"]]

    assert write_back() == [True, False, True]
    monitor("cont")
    vm.clock.advance("59ms")
    assert write_back() == [True, False, True]
    vm.clock.advance("10ms")
    assert write_back() == [False, False, True]
    vm.clock.advance("100ms")
    assert write_back() == [True, False, True]
    monitor("system_reset")
    assert write_back() == [True, False, True]
    vm.clock.advance("1ms")
    assert write_back() == [True, False, True]
    vm.clock.advance("96ms")
    assert write_back() == [False, False, True]


@needs_qemu_img
@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ("discard=unmap", True), ("discard=unmap,pass-discard-request=off", False), ("discard=ignore", False),
        ("discard=unmap,file.discard=ignore", False), ("discard=ignore,pass-discard-request=on", False),
    ],
)  # fmt: skip
def test_the_file_system_has_back_what_a_guest_discards(
    qmpd: VMFactory, image: Path, options: str, passed: bool
) -> None:
    vm = disk(qmpd, image, node=f"driver=qcow2,node-name=n0,{options},file.driver=file,file.filename={image}")
    vm.guest.write("d0", offset=0, length="4M", pattern=1)
    vm.guest.flush("d0")
    before = image.stat().st_blocks * 512
    vm.guest.discard("d0", offset=MEBIBYTE, length="2M")
    assert vm.guest.read("d0", offset=3 * MEBIBYTE, length=512).pattern == 1
    vm.guest.flush("d0")
    assert (before - image.stat().st_blocks * 512 > MEBIBYTE) is passed
    vm.close()
    assert "No errors were found" in qemu_img("check", image)


@needs_qemu_img
@pytest.mark.parametrize(("release", "kept"), [("7.2", False), ("10.0", True)])
def test_who_writes_zeros_keeps_their_room_where_the_node_does(
    qmpd: VMFactory, talk: Talk, image: Path, release: str, kept: bool
) -> None:
    node = f"driver=qcow2,node-name=n0,discard=ignore,file.driver=file,file.filename={image}"
    vm = qmpd(command_line=["-machine", "none", "-blockdev", node], release=release)
    monitor = talk(vm)
    for line in ("write -P 1 0 1M", "write -z -u 0 1M"):
        assert monitor.human(f'qemu-io n0 "{line}"') == ""
    vm.close()
    first = json.loads(qemu_img("map", "--output=json", image))[0]
    assert (first["zero"], "offset" in first) == (True, kept)
