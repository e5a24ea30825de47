"""Snapshots of disks: overlays in files of their own, and internal ones, as `qemu-img` then finds them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.block.files import FileStorage
from qmpd.block.images.qcow2 import snapshot_table
from qmpd.block.images.qcow2.image import Qcow2
from tests.block.support import Monitor, disk
from tests.waiting import wait_until

if TYPE_CHECKING:
    from qmpd.testing import VMFactory

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def _image(path: Path, *arguments: str) -> str:
    return subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=True, cwd=path).stdout


def _read(path: Path, offset: int) -> bytes:
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", path, raw], check=True)
    return raw.read_bytes()[offset : offset + 1]


def test_what_is_written_after_a_snapshot_goes_to_the_overlay(qmpd: VMFactory, tmp_path: Path) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "base.qcow2", "4M")
    vm = disk(qmpd, tmp_path / "base.qcow2")
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor.human('qemu-io -d d0/virtio-backend "write -P 1 0 64k"') == ""
        made = monitor(
            "blockdev-snapshot-sync", node_name="n0", snapshot_file=str(tmp_path / "top.qcow2"),
            snapshot_node_name="n1",
        )  # fmt: skip
        assert made == {"return": {}}
        assert monitor.human('qemu-io -d d0/virtio-backend "write -P 2 0 64k"') == ""
        said = monitor("blockdev-snapshot-sync", node_name="n0", snapshot_file="x", snapshot_node_name="n2")
        assert "node is used as backing hd of 'n1'" in said["error"]["desc"]
        (drive,) = [each for each in monitor("query-block")["return"] if each["qdev"].endswith("virtio-backend")]
        assert drive["inserted"]["node-name"] == "n1"
        (base,) = [each for each in monitor("query-named-block-nodes")["return"] if each["node-name"] == "n0"]
        assert base["ro"]
    vm.close()
    told = json.loads(_image(tmp_path, "info", "--output=json", "top.qcow2"))
    assert told["backing-filename"] == str(tmp_path / "base.qcow2")
    assert _read(tmp_path / "base.qcow2", 0) == b"\1"
    assert _read(tmp_path / "top.qcow2", 0) == b"\2"


def test_an_overlay_that_cannot_be_is_undone(qmpd: VMFactory, tmp_path: Path) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "base.qcow2", "4M")
    _image(tmp_path, "create", "-q", "-f", "raw", "other.raw", "4M")
    vm = disk(qmpd, tmp_path / "base.qcow2")
    with closing(Monitor(vm.qmp_path)) as monitor:
        before = monitor("query-named-block-nodes")
        for arguments, words in (
            ({"snapshot_file": "other.raw", "format": "raw", "mode": "existing"}, "does not support backing"),
            ({"snapshot_file": "no/folder"}, "No such file or directory"),
            ({"snapshot_file": "base.qcow2"}, "same filename as the backing file"),
        ):
            given: dict[str, Any] = {**arguments, "snapshot_file": str(tmp_path / arguments["snapshot_file"])}
            said = monitor("blockdev-snapshot-sync", node_name="n0", snapshot_node_name="n1", **given)
            assert words in said["error"]["desc"]
        assert monitor("query-named-block-nodes") == before
        assert monitor.human('qemu-io -d d0/virtio-backend "write -P 3 0 64k"') == ""
    vm.close()
    assert _read(tmp_path / "base.qcow2", 0) == b"\3"


def test_the_target_of_a_mirror_may_be_put_on_top(qmpd: VMFactory, tmp_path: Path) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "source.qcow2", "1M")
    _image(tmp_path, "create", "-q", "-f", "qcow2", "target.qcow2", "1M")
    vm = disk(qmpd, tmp_path / "source.qcow2", node="driver=null-co,node-name=n1,size=1048576", device="pvpanic")
    with closing(Monitor(vm.qmp_path)) as monitor:
        for name in ("source", "target"):
            file = {"driver": "file", "filename": str(tmp_path / f"{name}.qcow2")}
            monitor("blockdev-add", driver="qcow2", node_name=name, file=file)
        done = monitor("blockdev-mirror", job_id="j", device="source", target="target", sync="none")
        assert done == {"return": {}}
        assert monitor("blockdev-snapshot", node="n1", overlay="target") == {"return": {}}


def test_a_disk_that_is_another_machines_has_no_snapshots(qmpd: VMFactory, tmp_path: Path) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "base.qcow2", "1M")
    drive = ["-drive", f"if=none,id=d0,format=qcow2,file={tmp_path / 'base.qcow2'}"]
    for release, words in (("7.2", "is writable but does not support"), ("5.2", "does not have the requested")):
        vm = qmpd(release=release, command_line=["-machine", "none", "-incoming", "defer", *drive])
        with closing(Monitor(vm.qmp_path)) as monitor:
            assert f"Error: Device 'd0' {words} snapshot" in monitor.human("loadvm s")


def test_internal_snapshots_are_found_by_qemu_img(qmpd: VMFactory, tmp_path: Path) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "base.qcow2", "4M")
    vm = disk(qmpd, tmp_path / "base.qcow2")
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human('qemu-io -d d0/virtio-backend "write -P 1 0 64k"')
        assert monitor("blockdev-snapshot-internal-sync", device="n0", name="first") == {"return": {}}
        monitor.human('qemu-io -d d0/virtio-backend "write -P 2 0 64k"')
        assert monitor("blockdev-snapshot-internal-sync", device="n0", name="second") == {"return": {}}
        again = monitor("blockdev-snapshot-internal-sync", device="n0", name="first")
        assert again["error"]["desc"] == "Snapshot with name 'first' already exists on device 'n0'"
        gone = monitor("blockdev-snapshot-delete-internal-sync", device="n0", id="2")["return"]
        assert (gone["name"], gone["vm-state-size"]) == ("second", 0)
    vm.close()
    told = json.loads(_image(tmp_path, "info", "--output=json", "base.qcow2"))
    assert [each["name"] for each in told["snapshots"]] == ["first"]
    _image(tmp_path, "check", "-q", "base.qcow2")
    assert _read(tmp_path / "base.qcow2", 0) == b"\2"
    _image(tmp_path, "snapshot", "-a", "first", "base.qcow2")
    assert _read(tmp_path / "base.qcow2", 0) == b"\1"


@pytest.mark.parametrize("digits", [30, 5000])
def test_after_an_id_that_is_no_number_of_64_bits_counting_begins_anew(
    qmpd: VMFactory, tmp_path: Path, digits: int
) -> None:
    path = tmp_path / "base.qcow2"
    _image(tmp_path, "create", "-q", "-f", "qcow2", path.name, "1M")
    _image(tmp_path, "snapshot", "-c", "first", path.name)
    with path.open("r+b") as file:
        image = Qcow2(FileStorage(file.fileno()), read_only=False)
        [first] = snapshot_table.read_snapshots(image)
        snapshot_table.write_snapshots(image, [dataclasses.replace(first, identifier="9" * digits)])
    shutil.copy(path, tmp_path / "other.qcow2")
    with closing(Monitor(disk(qmpd, path).qmp_path)) as monitor:
        assert monitor("blockdev-snapshot-internal-sync", device="n0", name="second") == {"return": {}}
        monitor("quit")
    _image(tmp_path, "snapshot", "-c", "second", "other.qcow2")

    for name in (path.name, "other.qcow2"):
        told = json.loads(_image(tmp_path, "info", "-U", "--output=json", name))
        assert [(each["name"], each["id"][:9]) for each in told["snapshots"]] == [("first", "9" * 9), ("second", "0")]


@pytest.mark.parametrize(("release", "passes"), [("5.2", 2), ("10.0", 2), ("11.1", 1)])
def test_a_saved_state_is_a_migration_that_took_no_time(
    qmpd: VMFactory, tmp_path: Path, release: str, passes: int
) -> None:
    _image(tmp_path, "create", "-q", "-f", "qcow2", "base.qcow2", "4M")
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.filename={tmp_path}/base.qcow2"
    options = ["-machine", "pc", "-m", "16", "-nodefaults", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0"]
    vm = qmpd(command_line=options, release=release, guest="")
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor("query-migrate") == {"return": {}}
        assert monitor.human("savevm a") == ""
        told = monitor("query-migrate")["return"]
        assert (told["status"], told["total-time"], told["setup-time"], told["downtime"]) == ("completed", 0, 0, 0)
        ram = told["ram"]
        assert (ram["duplicate"] + ram["normal"]) * ram["page-size"] == ram["total"]
        assert (ram["dirty-sync-count"], ram["remaining"]) == (passes, 0)
        shown = monitor.human("info migrate")
        assert "ompleted" in shown
        assert ("Time (ms)" in shown) is False
        monitor("migrate", uri="exec:exit 1")
        states = ("setup", "active", "failing")
        wait_until(lambda: monitor("query-migrate")["return"]["status"] not in states)
        assert monitor("query-migrate")["return"]["status"] == "failed"


@pytest.mark.parametrize(
    ("options", "passed"), [("", True), ("pass-discard-snapshot=off,", False), ("file.discard=ignore,", False)]
)
def test_the_file_system_has_back_what_a_snapshot_alone_used(
    qmpd: VMFactory, tmp_path: Path, options: str, passed: bool
) -> None:
    image = tmp_path / "base.qcow2"
    _image(tmp_path, "create", "-q", "-f", "qcow2", image.name, "8M")
    node = f"driver=qcow2,node-name=n0,{options}file.driver=file,file.filename={image}"
    vm = qmpd(command_line=["-machine", "none", "-blockdev", node])
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human('qemu-io n0 "write -P 1 0 4M"')
        assert monitor("blockdev-snapshot-internal-sync", device="n0", name="s") == {"return": {}}
        monitor.human('qemu-io n0 "write -P 2 0 4M"')
        monitor.human('qemu-io n0 "flush"')
        before = image.stat().st_blocks * 512
        assert monitor("blockdev-snapshot-delete-internal-sync", device="n0", name="s")["return"]["name"] == "s"
        assert (before - image.stat().st_blocks * 512 > 3 << 20) is passed
        # So it is with what is gone as the machine goes back to a snapshot.
        assert monitor.human("savevm s") == ""
        monitor.human('qemu-io n0 "write -P 3 0 4M"')
        monitor.human('qemu-io n0 "flush"')
        before = image.stat().st_blocks * 512
        assert monitor.human("loadvm s") == ""
        assert (before - image.stat().st_blocks * 512 > 3 << 20) is passed
    vm.close()
    _image(tmp_path, "check", "-q", image.name)
    assert _read(image, (4 << 20) - 1) == b"\2"


def test_images_are_found_by_names_relative_to_the_one_above(qmpd: VMFactory, tmp_path: Path) -> None:
    """And by what the chain really is, not by what an image says that has another one behind it."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    _image(tmp_path, "create", "-q", "-f", "qcow2", "a/base", "1M")
    _image(tmp_path, "create", "-q", "-f", "qcow2", "-b", "../a/base", "-F", "qcow2", "b/mid")
    _image(tmp_path, "create", "-q", "-f", "qcow2", "-b", "../b/mid", "-F", "qcow2", "b/top")
    _image(tmp_path, "create", "-q", "-f", "qcow2", "a/other", "1M")
    vm = disk(qmpd, tmp_path / "b" / "top")
    with closing(Monitor(vm.qmp_path)) as monitor:
        text = "Can't find '../a/no' in the backing chain"
        refused = monitor("block-commit", job_id="j", device="n0", top="../b/mid", base="../a/no")
        assert refused["error"]["desc"] == text
        assert monitor("block-commit", job_id="j", device="n0", top="../b/mid", base="../a/base") == {"return": {}}
        vm.clock.run_until_quiet()
        assert monitor("query-block-jobs") == {"return": []}
        told = {each["node-name"]: each for each in monitor("query-named-block-nodes")["return"]}
        assert told["n0"]["backing_file"].endswith("/../a/base")
        file = {"driver": "file", "filename": str(tmp_path / "b" / "top2")}
        _image(tmp_path, "create", "-q", "-f", "qcow2", "-b", "../a/base", "-F", "qcow2", "b/top2")
        other = {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "a" / "other")}}
        assert monitor("blockdev-add", driver="qcow2", node_name="n2", file=file, backing=other) == {"return": {}}
        refused = monitor("block-commit", job_id="j", device="n2", base="../a/base")
        assert refused["error"]["desc"] == "Can't find '../a/base' in the backing chain"
