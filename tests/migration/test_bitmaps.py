"""Persistent bitmaps of disks that go to another machine and come back, and what bitmaps are called on the way."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img
from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VM, VMFactory


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
        while monitor("query-status")["return"]["status"] != "postmigrate":
            time.sleep(0.01)
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
