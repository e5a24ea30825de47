"""What the human monitor does with disks by itself, as release 7.2 (and the others) answered it."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qmpd.testing import StartError
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor
from tests.emulator.support import run

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory


@needs_qemu_img
@pytest.mark.parametrize("which", ["d", "all"])
def test_commit(qmpd: VMFactory, tmp_path: Path, which: str) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, "2M")
    drives = ["-drive", f"if=none,id=d,file={top},node-name=n", "-drive", "if=none,id=x"]
    vm = qmpd(command_line=["-nodefaults", *drives, "-drive", "if=none,id=y,driver=null-co"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor.human('qemu-io d "write -P 1 1536k 64k"') == ""
        assert monitor.human(f"commit {which}") == ""
        assert monitor.human("commit x") == "Device 'x' has no medium\n"
        assert monitor.human("commit y") == "'commit' error for 'y': Operation not supported\n"
        assert monitor.human("commit z") == "Device 'z' not found\n"
        behind = [each for each in monitor("query-named-block-nodes")["return"] if each["file"] == str(base)]
        assert all(each["ro"] for each in behind)
    vm.close()
    assert '"start": 1572864, "length": 65536, "depth": 1' in qemu_img("map", "--output=json", top)
    assert qemu_img("check", top).startswith("No errors")
    assert "2 MiB" in qemu_img("info", base)


@needs_qemu_img
def test_writeback_is_the_drives(qmpd: VMFactory, tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qmpd(command_line=["-drive", f"if=none,file={path},cache.writeback=off"])
    with pytest.raises(StartError, match="Block protocol 'file' doesn't support the option 'cache.writeback'"):
        qmpd(command_line=["-drive", f"if=none,file={path},file.cache.writeback=off"])


@pytest.mark.parametrize(("release", "first"), [("7.2", True), ("5.2", False)])
def test_an_export_ends_with_the_medium_of_its_drive(
    qmpd: VMFactory, tmp_path: Path, release: str, first: bool
) -> None:  # fmt: skip
    drive = ["-drive", "if=none,media=cdrom,id=d,driver=null-co", "-device", "ide-cd,drive=d"]
    vm = qmpd(release=release, command_line=["-nodefaults", *drive])
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "s")}})
        assert monitor("nbd-server-add", device="d") == {"return": {}}
        assert monitor("eject", device="d") == {"return": {}}
        told = [each["event"] for each in monitor.events]
        assert ("BLOCK_EXPORT_DELETED" in told) is first
        assert monitor("query-block-exports") == {"return": []}
        assert [each["data"] for each in monitor.events if each["event"] == "BLOCK_EXPORT_DELETED"] == [{"id": "d"}]


@needs_qemu_img
def test_what_is_behind_a_read_only_image_is_noted_anew(qmpd: VMFactory, tmp_path: Path) -> None:
    for name, behind in (("a", ""), ("b", "a"), ("c", "b")):
        more = ["-b", f"{tmp_path}/{behind}", "-F", "qcow2"] if behind else []
        qemu_img("create", "-q", "-f", "qcow2", *more, tmp_path / name, "1M")
    vm = qmpd(command_line=["-nodefaults", "-drive", f"if=none,id=d,file={tmp_path}/c,backing.node-name=mid"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        changed = monitor("change-backing-file", device="d", image_node_name="mid", backing_file="/dev/null")
        assert changed == {"return": {}}
        nodes = {each["node-name"]: each for each in monitor("query-named-block-nodes")["return"]}
        assert nodes["mid"]["ro"] is True
    vm.close()
    assert "backing file: /dev/null\n" in qemu_img("info", tmp_path / "b")


@needs_qemu_img
def test_what_is_read_is_kept_through_raw_nodes(qmpd: VMFactory, tmp_path: Path) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    base.write_bytes(b"\1" * 65536 + bytes(65536))
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
    vm = qmpd(command_line=["-nodefaults"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        image = {"driver": "qcow2", "file": {"driver": "file", "filename": str(top)}}
        inner = {"driver": "copy-on-read", "file": {"driver": "raw", "file": image}}
        nodes = {"driver": "copy-on-read", "node_name": "n", "file": {"driver": "raw", "file": inner}}
        assert monitor("blockdev-add", **nodes) == {"return": {}}
        assert monitor.human('qemu-io n "read 0 128k"') == ""
    vm.close()
    base.write_bytes(bytes(131072))
    assert subprocess.run(["qemu-io", "-c", "read -P 1 0 64k", top], check=False, capture_output=True).returncode == 0


@needs_qemu_img
def test_a_mirror_into_an_image_opens_what_is_behind_that_in_the_end(qmpd: VMFactory, tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.write_bytes(b"\1" * 65536 + bytes(100))
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", tmp_path / "none", "-F", "raw", target, "132k")
    vm = qmpd(command_line=["-nodefaults", "-drive", f"if=none,id=d,file={source},format=raw"], clock="virtual")
    with closing(Monitor(vm.qmp_path)) as monitor:
        asked = {"device": "d", "target": str(target), "mode": "existing", "sync": "full"}
        assert monitor("drive-mirror", **asked) == {"return": {}}
        overlay = {"device": "d", "snapshot_file": f"{tmp_path}/o", "format": "qcow2"}
        monitor("block-job-cancel", device="d")
        vm.wait_for_event("JOB_STATUS_CHANGE", {"id": "d", "status": "null"})
        assert monitor("blockdev-snapshot-sync", **overlay) == {"return": {}}
    vm.close()
    assert "(66048 bytes)" in qemu_img("info", tmp_path / "o")


@needs_qemu_img
def test_bitmaps_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("bitmap", "--add", path, "b")
    done = run("-nodefaults", "-display", "none", "-monitor", "stdio", "-drive", f"if=none,file={path}", text="quit\n")
    assert done.stderr == ""
    assert "in-use" not in qemu_img("info", path)


@needs_qemu_img
def test_room_that_was_made_in_advance_goes_when_nobody_writes_any_more(qmpd: VMFactory, tmp_path: Path) -> None:
    path = tmp_path / "a"
    qemu_img("create", "-q", "-f", "qcow2", path, "10M")
    file = f"file.driver=preallocate,file.file.driver=file,file.file.filename={path}"
    drive = f"if=none,id=d,driver=qcow2,{file}"
    vm = qmpd(command_line=["-nodefaults", "-drive", drive])
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human('qemu-io d "write 0 1M"')
        assert path.stat().st_size > 100 << 20
        taken = monitor("blockdev-snapshot-sync", device="d", snapshot_file=str(tmp_path / "b"))
        assert taken == {"return": {}}
        assert path.stat().st_size < 10 << 20


def test_names_and_drivers_of_files(qmpd: VMFactory, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(65536))
    debug = "if=none,id=d,file=blkdebug::null-co://,driver=blkdebug,align=65536"
    image = f"if=none,id=e,file=blkdebug::{path},format=raw,aio=native,cache=none"
    vm = qmpd(command_line=["-nodefaults", "-drive", debug, "-drive", image], clock="virtual")
    with closing(Monitor(vm.qmp_path)) as monitor:
        shown = monitor.human("info block d").splitlines()[0]
        told = '{"image": {"driver": "null-co"}, "driver": "blkdebug", "align": "65536"}'
        assert shown.endswith(f"json:{told} (blkdebug)")
        asked = {"device": "e", "target": str(tmp_path / "b"), "format": "file", "sync": "full"}
        assert monitor("drive-backup", **asked) == {"return": {}}
        vm.wait_for_event("JOB_STATUS_CHANGE", {"id": "e", "status": "null"})
    assert (tmp_path / "b").read_bytes() == bytes(65536)


@needs_qemu_img
def test_options_of_images_are_looked_at_when_they_are_given_anew(qmpd: VMFactory, tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "a", "1M")
    options = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": str(tmp_path / "a")}}
    with closing(Monitor(qmpd(command_line=["-nodefaults"]).qmp_path)) as monitor:
        assert monitor("blockdev-add", **options) == {"return": {}}
        said = monitor("blockdev-reopen", options=[{**options, "l2-cache-entry-size": 131072}])["error"]["desc"]
        assert said == "L2 cache entry size must be a power of two between 512 and the cluster size (65536)"


@needs_qemu_img
def test_an_image_that_somebody_may_write_takes_part_in_snapshots(qmpd: VMFactory, tmp_path: Path) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    line = ["-nodefaults"]
    for name, path, more in (("b", base, ""), ("t", top, ",backing=b")):
        line += ["-blockdev", f"driver=qcow2,node-name={name},file.driver=file,file.filename={path}{more}"]
    vm = qmpd(command_line=line)
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor.human(f"nbd_server_start unix:{tmp_path}/s") == ""
        assert monitor.human("savevm one") == ""
        assert monitor.human("nbd_server_add -w b") == ""
        assert monitor.human("savevm two") == ""
    vm.close()
    assert "one" not in qemu_img("snapshot", "-l", base)
    assert "two" in qemu_img("snapshot", "-l", base)
    assert "one" in qemu_img("snapshot", "-l", top)
