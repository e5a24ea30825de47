"""Persistent bitmaps of disks that go to another machine and come back, and what bitmaps are called on the way."""

from __future__ import annotations

import subprocess
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img
from tests.block.support import Monitor
from tests.migration.support import without_passes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VM, VMFactory
    from tests.migration.support import Side, Sides


def _node(name: str, alias: str, *bitmaps: tuple[str, str]) -> dict[str, Any]:
    return {"node-name": name, "alias": alias, "bitmaps": [{"name": own, "alias": way} for own, way in bitmaps]}


@pytest.mark.parametrize(
    ("mapping", "wrong"),
    [
        ([_node("a", "1x")], "The node alias '1x' is not well-formed"),
        ([_node("a", "x" * 256)], f"The node alias '{'x' * 256}' is longer than 255 bytes"),
        ([_node("a" * 32, "x")], f"The node name '{'a' * 32}' is longer than 31 bytes"),
        ([_node("a", "x"), _node("a", "y")], "The node name 'a' is mapped twice"),
        ([_node("a", "x"), _node("b", "x")], "The node alias 'x' is used twice"),
        ([_node("a", "x", ("q", "z"), ("q", "y"))], "The bitmap 'a'/'q' is mapped twice"),
        ([_node("a", "x", ("q", "z"), ("r", "z"))], "The bitmap alias 'x'/'z' is used twice"),
        ([_node("a", "x", ("q", "z" * 256))], f"The bitmap alias '{'z' * 256}' is longer than 255 bytes"),
        ([_node("a", "x", ("q" * 1024, "z"))], f"The bitmap name '{'q' * 1024}' is longer than 1023 bytes"),
        ([_node("a", "x", ("q", "z"), ("r", "y")), _node("b", "y", ("q", "z"))], None),
    ],
)
def test_names_on_the_way_are_checked(qmpd: VMFactory, mapping: list[dict[str, Any]], wrong: str | None) -> None:
    vm = qmpd(guest="")
    with closing(Monitor(vm.qmp_path)) as monitor:
        reply = monitor("migrate-set-parameters", block_bitmap_mapping=mapping)
    if wrong is None:
        assert reply == {"return": {}}
    else:
        assert reply["error"]["desc"] == f"Invalid mapping given for block-bitmap-mapping: {wrong}"


def _vm(qmpd: VMFactory, path: Path, *more: str) -> VM:
    words = ["-machine", "pc", "-drive", f"if=virtio,id=d,format=qcow2,file={path}", *more]
    return qmpd(command_line=words, guest="", clock="real")


def _bitmap(monitor: Monitor) -> dict[str, Any]:
    return monitor("x-debug-block-dirty-bitmap-sha256", node="d", name="b")


@needs_qemu_img
@pytest.mark.parametrize("goes_along", [False, True])
def test_a_persistent_bitmap_is_stored_once(qmpd: VMFactory, tmp_path: Path, goes_along: bool) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    first = _vm(qmpd, path)
    with closing(Monitor(first.qmp_path)) as monitor:
        monitor("migrate-set-capabilities", capabilities=[{"capability": "dirty-bitmaps", "state": goes_along}])
        monitor("block-dirty-bitmap-add", node="d", name="b", persistent=True)
        monitor.human('qemu-io d "write 0 128k"')
        content = _bitmap(monitor)
        monitor("migrate", uri="exec:cat > /dev/null")
        first.wait_for_run_state("postmigrate")
        # What went along is still here; what was stored is in the image alone, which is another machine's.
        there = _bitmap(monitor)
        assert there == content if goes_along else there["error"]["desc"] == "Dirty bitmap 'b' not found"
        monitor("cont")
        assert _bitmap(monitor) == content
        monitor("quit")
    first.wait_until_ended()
    with closing(Monitor(_vm(qmpd, path, "-S").qmp_path)) as monitor:
        assert _bitmap(monitor) == content


@needs_qemu_img
def test_a_disk_that_is_to_come_has_another_machines_bitmaps(qmpd: VMFactory, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    subprocess.run(["qemu-img", "bitmap", "--add", path, "b"], check=True)
    before = path.read_bytes()
    with closing(Monitor(_vm(qmpd, path, "-incoming", "defer").qmp_path)) as monitor:
        assert _bitmap(monitor)["error"]["desc"] == "Dirty bitmap 'b' not found"
        assert path.read_bytes() == before


def _pair(sides: Sides, tmp_path: Path, release: str) -> tuple[Side, Side]:
    """A machine with a disk and another that waits for it, both of whose bitmaps go along."""
    node = ["-blockdev", "driver=null-co,node-name=n,size=1048576,read-zeroes=on"]
    there = sides.one(release, *node, "-incoming", "defer")
    here = sides.one(release, *node)
    for each in (here, there):
        each.capabilities("dirty-bitmaps", "postcopy-ram")
        each("migrate-set-parameters", max_bandwidth=4096)
    there("migrate-incoming", uri=f"unix:{tmp_path}/m.sock")
    return here, there


# Measured on the real programs, whose migration fails as soon as it is active.
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("is_busy", "why"),
    [
        (False, f"Cannot migrate bitmap '{'b' * 256}' on node 'n': Name is longer than 255 bytes"),
        (True, "Bitmap 'b' is currently in use by another operation and cannot be used"),
    ],
)
def test_a_bitmap_that_cannot_go_along(sides: Sides, tmp_path: Path, release: str, is_busy: bool, why: str) -> None:
    here, _ = _pair(sides, tmp_path, release)
    here("block-dirty-bitmap-add", node="n", name="b" if is_busy else "b" * 256, disabled=True)
    if is_busy:
        here("nbd-server-start", addr={"type": "unix", "data": {"path": f"{tmp_path}/nbd.sock"}})
        assert here("block-export-add", type="nbd", id="e", node_name="n", bitmaps=["b"]) == {}
        # That it is not to go along is no help.
        nothing = [{"node-name": "n", "alias": "n", "bitmaps": []}]
        assert here("migrate-set-parameters", block_bitmap_mapping=nothing) == {}
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    told = ["setup", "active", *(["failing"] if release == "11.1" else []), "failed"]
    assert without_passes(here.until("failed")) == told
    reason = {} if release in ("5.2", "7.2") else {"error-desc": why}
    assert here.migration == {"status": "failed", **reason}
    assert here.state == "running"


def test_a_bitmap_of_a_node_that_is_not_meant_is_no_hindrance(sides: Sides, tmp_path: Path) -> None:
    here, there = _pair(sides, tmp_path, "7.2")
    here("block-dirty-bitmap-add", node="n", name="b", disabled=True)
    here("nbd-server-start", addr={"type": "unix", "data": {"path": f"{tmp_path}/nbd.sock"}})
    assert here("block-export-add", type="nbd", id="e", node_name="n", bitmaps=["b"]) == {}
    other = [{"node-name": "m", "alias": "n", "bitmaps": []}]
    here("migrate-set-parameters", block_bitmap_mapping=other, max_bandwidth=0)
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


_IMAGE = "driver=null-co,size=1048576,read-zeroes=on"
_DRIVE = ["-drive", f"if=none,id=d,{_IMAGE}"]


# Measured on 7.2 and 11.1.
@pytest.mark.parametrize(
    ("theirs", "mapping", "where", "told"),
    [
        # Whatever number a node of the drive has been given there.
        (["-drive", f"if=none,id=e,{_IMAGE}", *_DRIVE], None, "d", ""),
        (["-blockdev", f"{_IMAGE},node-name=d"], None, "d", ""),
        (["-blockdev", f"{_IMAGE},node-name=e"], None, None, "Cannot find device='d' nor node-name='d'"),
        (_DRIVE, "x", None, "Cannot find device='' nor node-name='x'"),
    ],
)
def test_the_node_of_a_drive_goes_by_the_name_of_the_drive(
    sides: Sides, tmp_path: Path, capfd: pytest.CaptureFixture[str], theirs: list[str], mapping: str | None,
    where: str | None, told: str,
) -> None:  # fmt: skip
    there, here = sides.one("7.2", *theirs, "-incoming", "defer"), sides.one("7.2", *_DRIVE)
    for each in (here, there):
        each.capabilities("dirty-bitmaps")
    if mapping is not None:
        there("migrate-set-parameters", block_bitmap_mapping=[_node(mapping, "d", ("b", "b"))])
    there("migrate-incoming", uri=f"unix:{tmp_path}/m.sock")
    here("block-dirty-bitmap-add", node="d", name="b")
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert told in capfd.readouterr().err
    nodes = there("query-named-block-nodes")
    assert sum(len(each.get("dirty-bitmaps", ())) for each in nodes) == (where is not None)
    if where is not None:
        assert "sha256" in there("x-debug-block-dirty-bitmap-sha256", node=where, name="b")


def test_a_bitmap_of_a_node_without_a_name_of_its_own_cannot_go_along(sides: Sides, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    here = sides.one("11.1", "-blockdev", f"driver=raw,node-name=n,file.driver=file,file.filename={path}")
    here.capabilities("dirty-bitmaps")
    (unnamed,) = (each["node-name"] for each in here("query-named-block-nodes") if each["drv"] == "file")
    here("block-dirty-bitmap-add", node=unnamed, name="b")
    here("migrate", uri="exec:cat > /dev/null")
    here.until("failed")
    why = f"Bitmap 'b' in a node with auto-generated name '{unnamed}' can't be migrated"
    assert here.migration["error-desc"] == why


@pytest.mark.parametrize("release", ["7.2", "11.1"])
def test_a_bitmap_that_comes_too_late_stays(sides: Sides, tmp_path: Path, release: str) -> None:
    """One with a long name, that is, at both sides: nobody asks for it once the migration has begun."""
    here, there = _pair(sides, tmp_path, release)
    there("block-dirty-bitmap-add", node="n", name="c" * 256)
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    here.until("active")
    here("block-dirty-bitmap-add", node="n", name="b" * 256)
    here("migrate-start-postcopy")
    here("migrate-set-parameters", max_postcopy_bandwidth=0)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    found = there("query-named-block-nodes")[0]["dirty-bitmaps"]
    assert [each["name"] for each in found] == ["c" * 256]


_IS_HELD = {"max_postcopy_bandwidth": 4096}


def _qcow2_pair(sides: Sides, tmp_path: Path, release: str, *, waits: bool) -> tuple[Side, Side]:
    """A machine with a disk and two persistent bitmaps, of which one notes nothing, and one that waits for it."""
    both = []
    for name, more in (("there", ["-incoming", f"unix:{tmp_path}/m.sock"]), ("here", [])):
        path = tmp_path / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16G"], check=True)
        both.append(sides.one(release, *_qcow2(path), *(["-S"] if waits else []), *more))
        both[-1].capabilities("dirty-bitmaps")
    there, here = both
    for name in ("b", "c"):
        here("block-dirty-bitmap-add", node="n", name=name, granularity=512, persistent=True, disabled=name == "c")
    here("human-monitor-command", command_line='qemu-io n "write 0 1M"')
    return here, there


def _qcow2(path: Path) -> list[str]:
    return ["-blockdev", f"driver=qcow2,node-name=n,file.driver=file,file.filename={path}"]


def _bitmaps(side: Side) -> dict[str | None, tuple[bool, bool, int]]:
    """By their names, whether each notes writes, whether somebody works with it, and how much is dirty."""
    (node,) = (each for each in side("query-named-block-nodes") if each["node-name"] == "n")
    return {
        each.get("name"): (each["recording"], each["busy"], each["count"]) for each in node.get("dirty-bitmaps", [])
    }


# Measured on the real programs.
@needs_qemu_img
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_bitmaps_come_once_the_guest_has_gone(sides: Sides, tmp_path: Path, release: str) -> None:
    here, there = _qcow2_pair(sides, tmp_path, release, waits=False)
    # Both are too much for the time that the guest may stand still, so nothing happens before it is asked for.
    here("migrate-set-parameters", downtime_limit=1, **_IS_HELD)
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    here.until("active")
    assert _bitmaps(here) == {"b": (True, True, 1 << 20), "c": (False, True, 0)}
    there.until("active")
    wait_until(lambda: bool(_bitmaps(there)))
    locked = release != "5.2"
    assert _bitmaps(there) == {"b": (False, True, 0), "c": (False, locked, 0), None: (False, False, 0)}
    assert here("migrate-start-postcopy") == {}
    device = ["STOP", "device", "postcopy-active"] if release in ("10.0", "11.1") else ["postcopy-active", "STOP"]
    assert without_passes(here.until(device[-1])) == device
    assert there.until("RESUME") == ["postcopy-active", "RESUME"]
    assert there.state == "running"
    assert _bitmaps(there) == {"b": (True, True, 0), "c": (False, locked, 0), None: (True, False, 0)}
    assert "in use" in there("block-dirty-bitmap-remove", node="n", name="b")
    there("human-monitor-command", command_line='qemu-io n "write 2M 1M"')
    here("migrate-set-parameters", max_postcopy_bandwidth=0)
    assert without_passes(here.until("completed")) == there.until("completed") == ["completed"]
    assert _bitmaps(there) == {"b": (True, False, 2 << 20), "c": (False, False, 0)}
    assert _bitmaps(here) == {"b": (True, False, 1 << 20), "c": (False, False, 0)}
    there("quit")
    there.vm.wait_until_ended()
    assert _bitmaps(sides.one(release, *_qcow2(tmp_path / "there.qcow2"))) == {
        "b": (True, False, 2 << 20), "c": (False, False, 0),
    }  # fmt: skip


# Measured on the real programs.
@needs_qemu_img
@pytest.mark.parametrize("release", ["7.2", "11.1"])
@pytest.mark.parametrize("verb", ["migrate-pause", "quit"])
def test_bitmaps_are_lost_on_their_way(sides: Sides, tmp_path: Path, release: str, verb: str) -> None:
    here, there = _qcow2_pair(sides, tmp_path, release, waits=True)
    here("migrate-set-parameters", downtime_limit=1, **_IS_HELD)
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    here.until("active")
    here("migrate-start-postcopy")
    there.until("postcopy-active")
    here(verb)
    assert there.until("completed") == ["completed"]
    assert there.state == "paused"
    assert _bitmaps(there) == {}
    if verb == "migrate-pause":
        assert here.until("postcopy-paused")[-1] == "postcopy-paused"
        assert here.state == "finish-migrate"


@needs_qemu_img
def test_bitmaps_that_are_not_whole_are_not_stored(sides: Sides, tmp_path: Path) -> None:
    here, there = _qcow2_pair(sides, tmp_path, "7.2", waits=False)
    here("migrate-set-parameters", downtime_limit=1, **_IS_HELD)
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    here.until("active")
    here("migrate-start-postcopy")
    there.until("RESUME")
    there("quit")
    there.vm.wait_until_ended()
    assert here.until("postcopy-paused")[-1] == "postcopy-paused"
    assert _bitmaps(sides.one("7.2", *_qcow2(tmp_path / "there.qcow2"))) == {}


@needs_qemu_img
def test_bitmaps_of_a_large_disk_are_stored_at_once(sides: Sides, tmp_path: Path) -> None:
    """What is not dirty is not looked at, so that all of them are there as the machine ends."""
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "256G"], check=True)
    here = sides.one("7.2", *_qcow2(path))
    names = [f"b{number}" for number in range(10)]
    for name in names:
        assert here("block-dirty-bitmap-add", node="n", name=name, granularity=512, persistent=True) == {}
    for place in ("64k", "128G", (1 << 38) - (1 << 16)):
        here("human-monitor-command", command_line=f'qemu-io n "write {place} 64k"')
    found = here("x-debug-block-dirty-bitmap-sha256", node="n", name="b0")
    assert "sha256" in found
    began = monotonic()
    here("quit")
    here.vm.wait_until_ended()
    assert monotonic() - began < 1.5
    again = sides.one("7.2", *_qcow2(path))
    assert list(_bitmaps(again)) == names
    assert again("x-debug-block-dirty-bitmap-sha256", node="n", name="b0") == found


# Measured on 7.2 and 11.1.
@pytest.mark.parametrize("named", ["b", "c"])
def test_where_one_bitmap_has_no_place_none_comes(sides: Sides, tmp_path: Path, named: str) -> None:
    node = ["-blockdev", "driver=null-co,node-name=n,size=1048576,read-zeroes=on"]
    there, here = sides.one("7.2", *node, "-incoming", "defer"), sides.one("7.2", *node)
    for each in (here, there):
        each.capabilities("dirty-bitmaps")
    for name in ("b", "c"):
        here("block-dirty-bitmap-add", node="n", name=name)
    there("migrate-set-parameters", block_bitmap_mapping=[_node("n", "n", (named, named))])
    there("migrate-incoming", uri=f"unix:{tmp_path}/m.sock")
    here("migrate", uri=f"unix:{tmp_path}/m.sock")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert _bitmaps(there) == {}
