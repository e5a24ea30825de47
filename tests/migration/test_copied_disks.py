"""Disks that are copied along with a migration (`blk`, `inc`), which releases up to 7.2 have."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img
from tests.migration.support import without_passes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.support import Side, Sides

MEBIBYTE = 1 << 20


def _drive(path: Path, kind: str = "raw", name: str = "d") -> list[str]:
    return ["-drive", f"file={path},format={kind},id={name},if=virtio"]


def _pair(sides: Sides, tmp_path: Path, mine: list[str], theirs: list[str], release: str) -> tuple[Side, Side]:
    there = sides.one(release, *theirs, "-incoming", f"unix:{tmp_path}/m.sock")
    return sides.one(release, *mine), there


@pytest.mark.parametrize("release", ["5.2", "7.2"])
def test_a_disk_is_the_same_at_the_other_side(
    sides: Sides, tmp_path: Path, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytes(MEBIBYTE) + b"one" * 1000 + bytes(2 * MEBIBYTE - 3000) + b"end" * 7 + bytes(MEBIBYTE - 21)
    (tmp_path / "here").write_bytes(content)
    (tmp_path / "there").write_bytes(b"x" * 4 * MEBIBYTE)
    mine, theirs = _drive(tmp_path / "here"), _drive(tmp_path / "there")
    here, there = _pair(sides, tmp_path, mine, theirs, release)
    here.vm.guest.write("d", 3 * MEBIBYTE + 4096, 512, pattern=7)
    assert here("migrate", uri=f"unix:{tmp_path}/m.sock", blk=True) == {}
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    told = "Completed 25 %\rCompleted 50 %\rCompleted 75 %\rCompleted 100 %\n"
    assert capsys.readouterr().out == f"Receiving block device images\n{told}"
    assert there.vm.guest.read("d", 3 * MEBIBYTE + 4096, 512).pattern == 7
    there("quit")
    assert there.is_at_end()
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert (tmp_path / "here").read_bytes()[:MEBIBYTE * 3] == content[:MEBIBYTE * 3]


def test_a_disk_may_be_added_while_a_machine_is_waited_for(sides: Sides, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"a" * MEBIBYTE)
    (tmp_path / "there").write_bytes(bytes(MEBIBYTE))
    options = "if=none,id=d,format=raw,file="
    mine = ["-drive", f"{options}{tmp_path}/here", "-device", "virtio-blk-pci,drive=d,id=v"]
    here, there = _pair(sides, tmp_path, mine, [], "7.2")
    there("human-monitor-command", command_line=f"drive_add 0 {options}{tmp_path}/there")
    assert there("device_add", driver="virtio-blk-pci", drive="d", id="v") == {}
    here("migrate", uri=f"unix:{tmp_path}/m.sock", blk=True)
    assert here.until("completed", "failed")[-1] == "completed"
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


@needs_qemu_img
def test_of_an_image_what_is_in_it_alone_is_copied_where_that_is_asked_for(sides: Sides, tmp_path: Path) -> None:
    def run(*words: Any) -> None:
        subprocess.run([*map(str, words)], check=True, capture_output=True)

    run("qemu-img", "create", "-f", "qcow2", tmp_path / "base", "4M")
    run("qemu-io", "-c", "write -P 1 0 4M", tmp_path / "base")
    for name in ("here", "there"):
        run("qemu-img", "create", "-f", "qcow2", "-b", tmp_path / "base", "-F", "qcow2", tmp_path / name)
    run("qemu-io", "-c", "write -P 2 2M 64k", tmp_path / "here")
    mine, theirs = _drive(tmp_path / "here", "qcow2"), _drive(tmp_path / "there", "qcow2")
    here, there = _pair(sides, tmp_path, mine, theirs, "7.2")
    here("migrate", uri=f"unix:{tmp_path}/m.sock", inc=True)
    assert there.until("completed")[-1] == "completed"
    there("quit")
    assert there.is_at_end()
    run("qemu-io", "-c", "read -P 1 0 2M", "-c", "read -P 2 2M 64k", tmp_path / "there")
    assert (tmp_path / "there").stat().st_size < 3 * MEBIBYTE


# Measured on 7.2: sizes and the target's drive, whether the last pass is told, and whether a reason is.
@pytest.mark.parametrize(
    ("mine", "theirs", "name", "told"),
    [
        (MEBIBYTE, MEBIBYTE // 2, "d", {}),
        (20992, 20992, "d", {}),
        (MEBIBYTE, MEBIBYTE, "e", {"error-desc": "Unable to write to socket: Broken pipe"}),
        (MEBIBYTE, 0, "", {"error-desc": "Unable to write to socket: Broken pipe"}),
    ],
)
def test_a_disk_that_the_other_side_cannot_take(
    sides: Sides, tmp_path: Path, mine: int, theirs: int, name: str, told: dict[str, str]
) -> None:
    for path, size in (("here", mine), ("there", theirs)):
        (tmp_path / path).write_bytes(bytes(size))
    target = _drive(tmp_path / "there", name=name) if name else []
    here, there = _pair(sides, tmp_path, _drive(tmp_path / "here"), target, "7.2")
    here("migrate", uri=f"unix:{tmp_path}/m.sock", blk=True)
    stopped = [] if told else ["STOP"]
    assert without_passes(here.until("failed")) == ["setup", "active", *stopped, "failed"]
    assert here.migration == {"status": "failed", **told}
    assert there.until("failed") == ["active", "failed"]
    assert there.is_at_end()
    assert here.state == "running"
    assert here.vm.guest.write("d", 0, 512, pattern=1).state == "done"


def test_a_disk_goes_through_a_file(sides: Sides, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"a" * 2 * MEBIBYTE)
    (tmp_path / "there").write_bytes(bytes(2 * MEBIBYTE))
    here = sides.one("7.2", *_drive(tmp_path / "here"))
    here("migrate", uri=f"exec:cat > {tmp_path}/state", blk=True)
    assert here.until("completed")[-1] == "completed"
    there = sides.one("7.2", *_drive(tmp_path / "there"), "-incoming", f"exec:cat {tmp_path}/state")
    there.until("completed")
    there("quit")
    assert there.is_at_end()
    assert (tmp_path / "there").read_bytes() == b"a" * 2 * MEBIBYTE
