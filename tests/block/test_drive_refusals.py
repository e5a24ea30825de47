"""What `-drive` says of nodes reaches them or is refused, in QEMU's words (asked of release 7.2)."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qmpd.testing import StartError
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory

CACHES = "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
REFUSED = (
    ("driver=file", "The 'file' block driver requires a file name"),
    ("file.driver=file,file.filename=", "The 'file' block driver requires a file name"),
    ("file={},file.unknown_opt=on", "Block protocol 'file' doesn't support the option 'unknown_opt'"),
    ("file={},unknown.of=on", "Block format 'qcow2' does not support the option 'unknown.of'"),
    ("file={},driver=raw,backing.file.filename=x", "Driver doesn't support backing files"),
    ("file={},file.backing.driver=qcow2", "Driver doesn't support backing files"),
    ("file.filename=foo:bar", "Could not open 'foo:bar': No such file or directory"),
    ("file={},lazy-refcounts=42", "Parameter 'lazy-refcounts' expects 'on' or 'off'"),
    ("file={}.2,lazy-refcounts=on", "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"),
    ("file={},cache-size=1M,l2-cache-size=2M", "l2-cache-size may not exceed cache-size"),
    ("file={},cache-size=1M,l2-cache-size=1M,refcount-cache-size=1M", CACHES),
    ("file={},l2-cache-entry-size=3k", "L2 cache entry size must be a power of two between 512 and the cluster size"),
    ("file={},data-file.driver=null-co", "'data-file' can only be set for images with an external data file"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", f"{path}.2", "1M")
    return path


@needs_qemu_img
@pytest.mark.parametrize(("given", "text"), REFUSED)
def test_what_is_refused(qmpd: VMFactory, path: Path, given: str, text: str) -> None:
    with pytest.raises(StartError) as raised:
        qmpd(command_line=["-drive", f"if=none,{given.format(path)}"])
    assert text in str(raised.value)


@needs_qemu_img
def test_what_is_behind_keeps_what_its_image_says_where_only_its_name_is_told(qmpd: VMFactory, path: Path) -> None:
    top = path.with_name("top.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", top], check=True)
    vm = qmpd(command_line=["-drive", f"if=none,id=d0,file={top},backing.node-name=mid"])
    monitor = Monitor(vm.qmp_path)
    assert monitor.human("info block mid").splitlines()[0].strip() in ("", f"mid: {path} (qcow2, read-only)")
    assert f"Backing file:     {path} (chain depth: 1)" in monitor.human("info block d0")
    monitor.close()


def shown(vm: object) -> list[tuple[str, str | None, bool]]:
    monitor = Monitor(vm.qmp_path)  # type: ignore[attr-defined]
    found = [(each["device"], each.get("qdev"), each["removable"]) for each in monitor("query-block")["return"]]
    monitor.close()
    return found


BOARDS = (
    # Seen on real releases, without network card, screen and parallel port.
    ("7.2", "pc", "if=floppy if=ide,media=cdrom if=ide,driver=null-co if=pflash,driver=null-co,size=1M",
     [("floppy0", 13, True), ("ide0-cd0", 19, True), ("ide0-hd1", 20, False), ("pflash0", None, False)]),
    ("7.2", "q35", "driver=null-co,index=2", [("ide2-hd0", 16, False)]),
)  # fmt: skip


@pytest.mark.parametrize(("release", "board", "given", "expected"), BOARDS)
def test_a_board_has_devices_for_its_drives(
    qmpd: VMFactory, release: str, board: str, given: str, expected: list[tuple[str, int | None, bool]]
) -> None:
    drives = [word for drive in given.split() for word in ("-drive", drive)]
    vm = qmpd(release=release, command_line=["-machine", board, "-nodefaults", *drives])
    assert shown(vm) == [
        (name, "/machine/system.flash0" if number is None else f"/machine/unattached/device[{number}]", removable)
        for name, number, removable in expected
    ]


def test_what_a_machine_has_by_default(qmpd: VMFactory) -> None:
    def names(*given: str, release: str = "7.2") -> list[str]:
        return [name for name, _, _ in shown(qmpd(release=release, command_line=list(given)))]

    assert names() == ["ide1-cd0", "floppy0", "sd0"]
    assert names(release="10.0") == ["ide1-cd0", "floppy0"]
    assert names("-machine", "q35") == ["ide2-cd0", "sd0"]
    assert names("-device", "floppy", "-drive", "driver=null-co,index=2,media=disk") == ["ide1-hd0", "sd0", ""]


def test_a_disk_that_must_be_written_to_refuses_what_is_read_only(qmpd: VMFactory) -> None:
    null = "driver=null-co,read-only=on"
    with pytest.raises(StartError, match="Block node is read-only"):
        qmpd(command_line=["-drive", f"if=none,id=d,{null}", "-device", "ide-hd,drive=d"])
    with pytest.raises(StartError, match="Block node is read-only"):
        qmpd(command_line=["-drive", f"if=ide,{null}"])
    qmpd(command_line=["-drive", f"if=none,id=d,{null}", "-device", "virtio-blk-pci,drive=d"])


SIZES = ((720, "144"), (1440, "144"), (2880, "288"), (1200, "120"), (360, "120"), (999, "288"))


def test_a_floppy_drive_is_what_its_medium_needs(qmpd: VMFactory) -> None:
    for kilobytes, kind in SIZES:
        drive = f"if=none,id=d,driver=null-co,size={kilobytes << 10}"
        vm = qmpd(command_line=["-nodefaults", "-drive", drive, "-device", "floppy,drive=d,id=f"])
        monitor = Monitor(vm.qmp_path)
        assert monitor("qom-get", path="/machine/peripheral/f", property="drive-type")["return"] == kind
        monitor.close()
        vm.close()


@needs_qemu_img
def test_what_is_looked_for_has_its_cache_from_what_is_told_of_it(qmpd: VMFactory, path: Path) -> None:
    words = f"if=none,id=d0,file={path},cache.no-flush=on,readonly=on,file.node-name=f"
    with closing(Monitor(qmpd(command_line=["-drive", words]).qmp_path)) as monitor:
        assert "Cache mode:       writeback, ignore flushes" in monitor.human("info block f")
    top = path.with_name("top.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", top], check=True)
    words = f"if=none,id=d0,file={top},backing.file.filename={path},backing.cache.no-flush=on,backing.file.node-name=b"
    with closing(Monitor(qmpd(command_line=["-drive", words]).qmp_path)) as monitor:
        assert "Cache mode:       writeback, ignore flushes" in monitor.human("info block b")
