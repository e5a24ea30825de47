"""Dirty bitmaps: what they note, and that a real qemu-img reads the persistent ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.bitmaps.bits import Bits
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory
    from tests.block.support import Talk


MOST = 70_000
ranges = st.tuples(st.booleans(), st.integers(0, MOST), st.integers(0, 40_000))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ranges, max_size=6), st.integers(0, MOST))
def test_bits_are_a_set_of_numbers(changes: list[tuple[bool, int, int]], start: int) -> None:
    bits, model = Bits(), set[int]()
    for into, first, length in changes:
        numbers = range(first, first + length)
        if into:
            bits.set(first, first + length)
            model.update(numbers)
        else:
            bits.clear(first, first + length)
            model.difference_update(numbers)
    assert bits.count == len(model)
    assert bits.first_from(start) == min((each for each in model if each >= start), default=None)
    assert {number for first, end in bits.runs() for number in range(first, end)} == model
    length = (MOST + 40_000) // 8 + 1
    again = Bits()
    again.put_bytes(0, bits.to_bytes(0, length))
    assert list(again.runs()) == list(bits.runs())


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(1, 5000)), max_size=8), st.sampled_from([9, 10, 12]))
def test_a_merge_covers_what_was_dirty_and_nothing_else(writes: list[tuple[int, int]], bits: int) -> None:
    size = 16384
    fine, coarse = DirtyBitmap("fine", 512, size), DirtyBitmap("coarse", 1 << bits, size)
    for offset, length in writes:
        fine.set(offset, length)
    coarse.merge(fine)
    for offset in range(0, size, 512):
        piece = offset >> bits << bits
        assert coarse.is_dirty(offset) == any(fine.is_dirty(each) for each in range(piece, piece + (1 << bits), 512))


def _bitmaps(monitor: Monitor, node: str = "n0") -> dict[str, dict[str, Any]]:
    nodes = monitor("query-named-block-nodes", flat=True)["return"]
    (found,) = [each for each in nodes if each["node-name"] == node]
    return {each["name"]: each for each in found.get("dirty-bitmaps", [])}


def _described(image: Path) -> dict[str, Any]:
    data = json.loads(qemu_img("info", "--output=json", "-U", image))["format-specific"]["data"]
    return {each["name"]: each for each in data.get("bitmaps", [])}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    return path


@needs_qemu_img
def test_persistent_bitmaps_are_in_the_image_once_it_is_closed(qmpd: VMFactory, image: Path, talk: Talk) -> None:
    vm = disk(qmpd, image)
    monitor = talk(vm)
    monitor("block-dirty-bitmap-add", node="n0", name="kept", persistent=True)
    monitor("block-dirty-bitmap-add", node="n0", name="off", persistent=True, disabled=True, granularity=4096)
    monitor("block-dirty-bitmap-add", node="n0", name="lost")
    vm.guest.write("d0", offset=1 << 20, length=100_352, pattern=7)
    assert _bitmaps(monitor)["kept"]["count"] == 2 << 16
    assert _described(image) == {}, "they are written when the image is closed"
    monitor("quit")
    vm.wait_until_ended()
    vm.close()
    assert {name: each["flags"] for name, each in _described(image).items()} == {"off": [], "kept": ["auto"]}
    assert "No errors" in qemu_img("check", image)

    vm = disk(qmpd, image)
    monitor = talk(vm)
    found = _bitmaps(monitor)
    assert found["kept"]["count"] == 2 << 16
    assert found["kept"]["recording"]
    assert not found["off"]["recording"]
    assert _described(image)["kept"]["flags"] == ["in-use", "auto"]
    # A machine that is killed has not stored them.
    vm.faults.kill()
    vm.wait_until_ended()
    vm.close()
    assert _described(image)["kept"]["flags"] == ["in-use", "auto"]
    monitor = talk(disk(qmpd, image))
    assert _bitmaps(monitor)["kept"]["inconsistent"]
    assert "inconsistent" in monitor("block-dirty-bitmap-clear", node="n0", name="kept")["error"]["desc"]
    monitor("block-dirty-bitmap-remove", node="n0", name="kept")
    assert list(_described(image)) == ["off"]


@needs_qemu_img
def test_bitmaps_of_qemu_img_are_read_and_follow_a_resize(qmpd: VMFactory, image: Path, talk: Talk) -> None:
    qemu_img("bitmap", "--add", "--enable", "-g", "4096", image, "made")
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.filename={image}"
    with qmpd(command_line=["-machine", "none", "-blockdev", node], clock="virtual") as vm:
        monitor = talk(vm)
        assert monitor.human('qemu-io n0 "write 0 5k"') == ""
        assert monitor("block_resize", node_name="n0", size=1 << 20) == {"return": {}}
        assert monitor.human('qemu-io n0 "write 1020k 4k"') == ""
        assert _bitmaps(monitor)["made"]["count"] == 3 << 12
        # A node that becomes read-only stores them, one that is opened so leaves them alone.
        options = {"driver": "qcow2", "node-name": "n0", "file": {"driver": "file", "filename": str(image)}}
        assert monitor("blockdev-reopen", options=[{**options, "read-only": True}]) == {"return": {}}
        assert _described(image)["made"]["flags"] == ["auto"]
        assert "readonly" in monitor("block-dirty-bitmap-clear", node="n0", name="made")["error"]["desc"]
        assert monitor("blockdev-reopen", options=[options]) == {"return": {}}
        assert _described(image)["made"]["flags"] == ["in-use", "auto"]
        monitor("quit")
        vm.wait_until_ended()
    qemu_img("bitmap", "--merge", "made", image, "made")
    assert _described(image)["made"]["granularity"] == 4096
    assert "No errors" in qemu_img("check", image)


def test_a_merge_of_nothing_does_nothing(qmpd: VMFactory, talk: Talk) -> None:
    node = "driver=null-co,node-name=n0,size=1048576,read-zeroes=on"
    vm = qmpd(command_line=["-machine", "none", "-blockdev", node], release="7.2")
    monitor = talk(vm)
    monitor("block-dirty-bitmap-add", node="n0", name="b0")
    assert monitor("block-dirty-bitmap-merge", node="n0", target="b0", bitmaps=[]) == {"return": {}}
