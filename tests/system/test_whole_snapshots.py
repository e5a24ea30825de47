"""Snapshots of the whole machine: the state lies in the image, and another machine goes on from it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.block.files import FileStorage
from qmpd.block.images.qcow2 import snapshots
from qmpd.block.images.qcow2.image import Qcow2
from qmpd.block.machine_snapshots import Disks
from qmpd.machine import MachineSettings, VirtualClock
from qmpd.migration import stream
from qmpd.qapi import load_release
from qmpd.system import machine_state
from qmpd.system.system import System
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.block.nodes import BlockNode
    from qmpd.testing import VM, VMFactory

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def _image(path: Path, *arguments: str) -> str:
    return subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=True, cwd=path.parent).stdout


def _new(path: Path, size: str = "4M") -> Path:
    _image(path, "create", "-q", "-f", "qcow2", path.name, size)
    return path


def _listed(path: Path) -> list[dict[str, Any]]:
    told = json.loads(_image(path, "info", "-U", "--output=json", path.name))
    found: list[dict[str, Any]] = told.get("snapshots", [])
    return found


def _start(qmpd: VMFactory, path: Path, *more: str) -> VM:
    node = f"driver=qcow2,node-name=n0,discard=unmap,file.driver=file,file.filename={path}"
    command_line = ["-machine", "pc", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0,id=d0", *more]
    return qmpd(command_line=command_line, guest="boot-time=10s", clock="virtual")


def test_another_machine_goes_on_where_the_snapshot_was_taken(qmpd: VMFactory, tmp_path: Path) -> None:
    path = _new(tmp_path / "disk.qcow2")
    vm = _start(qmpd, path)
    vm.clock.advance("30s")
    assert vm.guest.query().phase == "running"
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor.human('qemu-io -d d0/virtio-backend "write -P 1 0 64k"') == ""
        assert monitor.human("savevm before") == ""
        assert [each["event"] for each in monitor.events] == ["STOP", "RESUME"]
        assert monitor.human('qemu-io -d d0/virtio-backend "write -P 2 0 64k"') == ""
        assert "before" in monitor.human("info snapshots")
    vm.close()
    (kept,) = _listed(path)
    assert (kept["name"], kept["vm-clock-sec"]) == ("before", 30)
    assert kept["vm-state-size"] > 400_000
    _image(path, "check", "-q", path.name)

    other = _start(qmpd, path, "-S")
    assert other.guest.query().phase == "reset"
    with closing(Monitor(other.qmp_path)) as monitor:
        assert monitor.human("loadvm before") == ""
        assert monitor("query-status")["return"]["status"] == "prelaunch"
        assert monitor("cont") == {"return": {}}
        assert other.guest.query().phase == "running"
        assert monitor.human('qemu-io -d d0/virtio-backend "read -P 1 0 64k"') == ""
        assert monitor.human("delvm before") == ""
    other.close()
    assert _listed(path) == []
    _image(path, "check", "-q", path.name)
    raw = path.with_suffix(".raw")
    _image(path, "convert", "-O", "raw", path.name, raw.name)
    assert raw.read_bytes()[:1] == b"\1"


@pytest.mark.parametrize(("release", "passes"), [("7.2", [1, 2]), ("11.1", [])])
def test_a_snapshot_tells_of_itself_as_of_a_migration(
    qmpd: VMFactory, tmp_path: Path, release: str, passes: list[int]
) -> None:
    """libvirt wants the events, and tells of the passes.  The same was seen of the real programs."""
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.filename={_new(tmp_path / 'disk.qcow2')}"
    vm = qmpd(command_line=["-machine", "pc", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0"], release=release)
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        assert monitor.human("savevm before") == ""
        told = [(event["event"], *event.get("data", {}).values()) for event in monitor.events]
    assert told == [
        ("STOP",), ("MIGRATION", "setup"), *(("MIGRATION_PASS", each) for each in passes), ("MIGRATION", "completed"),
        ("RESUME",),
    ]  # fmt: skip


def test_a_machine_starts_from_a_snapshot(qmpd: VMFactory, tmp_path: Path) -> None:
    path = _new(tmp_path / "disk.qcow2")
    vm = _start(qmpd, path)
    vm.clock.advance("30s")
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human("savevm here")
    vm.close()
    vm = _start(qmpd, path, "-loadvm", "here")
    vm.wait_for_run_state("running")
    assert vm.guest.query().phase == "running"


def test_nobody_is_served_before_the_snapshot_is_loaded(
    qmpd: VMFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _new(tmp_path / "disk.qcow2")
    line = ["-machine", "none", "-drive", f"if=none,id=d,file={path}"]
    vm = qmpd(command_line=line)
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human('qemu-io d "write -P 1 0 64k"')
        monitor.human("savevm here")
        monitor.human('qemu-io d "write -P 2 0 64k"')
    vm.close()
    lacking = Disks.lacking

    def slowly(self: Disks, tag: str) -> BlockNode | None:
        time.sleep(0.3)
        return lacking(self, tag)

    monkeypatch.setattr(Disks, "lacking", slowly)
    vm = qmpd(command_line=[*line, "-loadvm", "here"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor("query-status")["return"]["status"] == "running"
        assert monitor.human('qemu-io d "read -P 1 0 64k"') == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"QEVM\0\0\0\3" + bytes(4000),
        stream.MAGIC + (9).to_bytes(4, "big"),
        stream.write({"machine": {"type": "q35"}, "core": {}, "devices": {}}),
        stream.write({"something": 1}),
        stream.MAGIC + b"\0\0\0\1\4core" + (1 << 31).to_bytes(4, "big") * 2,
        stream.MAGIC + b"\0\0\0\1\4core" + b"\0\0\0\3" + zlib.crc32(b"abc").to_bytes(4, "big") + b"abc",
        random.Random(1).randbytes(5000),
    ],
    ids=["nothing", "real", "version", "other machine", "unknown", "short", "not deflated", "garbage"],
)
def test_a_state_of_something_else_is_an_error_and_the_machine_lives(
    qmpd: VMFactory, tmp_path: Path, content: bytes
) -> None:
    path = _new(tmp_path / "disk.qcow2")
    _put_snapshot(path, content)
    vm = disk(qmpd, path)
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert "\nError: Error -" in monitor.human("loadvm bad")
        assert monitor("query-status")["return"]["status"] == "restore-vm"
        assert monitor("cont") == {"return": {}}
        assert monitor.human("savevm good") == ""
        assert monitor.human("loadvm good") == ""
        assert monitor("query-status")["return"]["status"] == "running"


def _put_snapshot(path: Path, content: bytes) -> None:
    """Have a snapshot `bad` in an image, with this in place of a machine's state."""
    with path.open("r+b") as file:
        image = Qcow2(FileStorage(file.fileno()), read_only=False)
        snapshots.write_state(image, 0, content)
        snapshots.take(image, "bad", seconds=1, state_size=max(1, len(content)))
        snapshots.drop_state(image, max(1, len(content)))


def test_the_state_of_a_machine_with_other_devices_is_refused(qmpd: VMFactory, tmp_path: Path) -> None:
    path = _new(tmp_path / "disk.qcow2")
    vm = disk(qmpd, path, more=["-device", "virtio-rng-pci,id=rng"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor.human("savevm with")
        assert monitor("device_del", id="rng") == {"return": {}}
    vm.close()
    vm = disk(qmpd, path)
    with closing(Monitor(vm.qmp_path)) as monitor:
        said = monitor.human("loadvm with")
        assert said.startswith("Unknown savevm section or instance '/machine/peripheral/rng/virtio-rng-pci' 0.")
        assert said.endswith("\nError: Error -22 while loading VM state\n")
        assert monitor("query-status")["return"]["status"] == "restore-vm"


_NAMES = st.sampled_from(["a", "b", "1"])
_STEPS = st.one_of(
    st.tuples(st.sampled_from(["savevm", "loadvm", "delvm"]), _NAMES),
    st.tuples(st.just("write"), st.integers(0, 7), st.integers(1, 255)),
    st.tuples(st.just("advance"), st.integers(1, 20)),
)


@settings(max_examples=8, deadline=None)
@given(
    steps=st.lists(_STEPS, min_size=3, max_size=14),
    options=st.sampled_from(["cluster_size=4k", "extended_l2=on", "compat=0.10", "refcount_bits=64"]),
    paused=st.booleans(),
)
def test_any_order_of_snapshots_leaves_what_a_model_expects(
    tmp_path_factory: pytest.TempPathFactory, qmpd_class: VMFactory, steps: list[Any], options: str, paused: bool
) -> None:
    path = tmp_path_factory.mktemp("random") / "disk.qcow2"
    _image(path, "create", "-q", "-f", "qcow2", "-o", options, path.name, "1M")
    vm = _start(qmpd_class, path, *(["-S"] if paused else []))
    content, kept = bytearray(8), {}
    with closing(Monitor(vm.qmp_path)) as monitor:
        for kind, *values in steps:
            if kind == "advance":
                vm.clock.advance(f"{values[0]}s")
            elif kind == "write":
                place, pattern = values
                monitor.human(f'qemu-io -d d0/virtio-backend "write -P {pattern} {place * 64}k 64k"')
                content[place] = pattern
            elif kind == "savevm":
                assert monitor.human(f"savevm {values[0]}") == ""
                kept[values[0]] = bytearray(content), vm.guest.query().phase
            elif kind == "delvm":
                assert monitor.human(f"delvm {values[0]}") == ""
                kept.pop(values[0], None)
            elif values[0] in kept:
                assert monitor.human(f"loadvm {values[0]}") == ""
                content = bytearray(kept[values[0]][0])
                phase = kept[values[0]][1]
                assert vm.guest.query().phase == ("firmware" if phase == "reset" and not paused else phase)
            else:
                assert "does not exist" in monitor.human(f"loadvm {values[0]}")
                monitor("cont")
                paused = False
            status = monitor("query-status")["return"]["status"]
            assert status == ("prelaunch" if paused else "running")
    vm.close()
    assert {each["name"] for each in _listed(path)} == set(kept)
    _image(path, "check", "-q", path.name)
    raw = path.with_suffix(".raw")
    _image(path, "convert", "-O", "raw", path.name, raw.name)
    assert raw.read_bytes()[::65536][:8] == bytes(content)


def test_what_a_debugger_wrote_and_the_guest_s_time_go_along() -> None:
    clock = VirtualClock()
    first = System(load_release("10.0"), MachineSettings(), clock, lambda: None)
    second = System(load_release("10.0"), MachineSettings(), VirtualClock(), lambda: None)
    first.machine.start()
    clock.advance(5_000_000_000)
    first.memory_pages[7] = bytearray(b"\7" * 4096)
    sections = stream.read(stream.write(machine_state.take(first)))
    second.memory_pages[1] = bytearray(4096)
    machine_state.check(second, sections)
    machine_state.put(second, sections)
    assert second.memory_pages == first.memory_pages
    assert second.machine.schedule.now() == 5_000_000_000
    assert first.guest is not None
    assert second.guest is not None
    assert second.guest.phase == first.guest.phase != "reset"


def test_what_a_state_has_left_is_given_up_before_the_next_one(qmpd: VMFactory, tmp_path: Path) -> None:
    path = _new(tmp_path / "disk.qcow2")
    vm = _start(qmpd, path)
    vm.clock.advance("30s")
    with closing(Monitor(vm.qmp_path)) as monitor:
        for line in ("savevm a", "loadvm a", "savevm b", "loadvm b", "savevm c", "delvm a", "delvm b"):
            assert monitor.human(line) == "", line
    vm.close()
    assert [each["name"] for each in _listed(path)] == ["c"]
    assert "No errors were found" in _image(path, "check", path.name)
