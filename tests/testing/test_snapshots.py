"""A VM that is kept in memory, and is again as it was, as often as a test wants."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

# Here, and not in the middle of a test: what is first imported in a test run within a test is forgotten after it.
import qmpd.hardware.snapshot
from qmpd.block.files import FileStorage
from qmpd.block.images.qcow2.creation import Options, create
from qmpd.testing import ControlError, kept_disks, start
from tests.testing.client import Client

if TYPE_CHECKING:
    from pathlib import Path

assert qmpd.hardware.snapshot.__doc__


def test_a_vm_is_again_as_it_was() -> None:
    options = ["-device", "e1000,id=n0", "-name", "kept"]
    with start(guest="boot-time=20s,on-unplug=ignore", clock="virtual", options=options) as vm:
        vm.clock.run_until_quiet()
        with Client(vm.qmp_path) as client:
            client.execute("object-add", **{"qom-type": "iothread", "id": "io1"})
            client.execute("blockdev-add", driver="null-co", **{"node-name": "disk"})
        vm.faults.delay_reply("5s", command="query-kvm")
        saved = vm.snapshot()
        for _ in range(3):
            with Client(vm.qmp_path) as client:
                assert client.execute("query-status")["status"] == "running"
                assert client.execute("query-name") == {"name": "kept"}
                assert [each["id"] for each in client.execute("query-iothreads")] == ["io1"]
                assert [each["node-name"] for each in client.execute("query-named-block-nodes")] == ["disk"]
                assert len(vm.faults.query()) == 1
                before = vm.clock.query().time
                client.execute("blockdev-del", **{"node-name": "disk"})
                client.execute("object-del", id="io1")
                client.execute("stop")
                vm.faults.clear()
                vm.clock.advance("1h")
                assert vm.run_state == "paused"
                vm.restore(saved)
                assert client.lines.readline() == b""
            assert vm.run_state == "running"
            assert vm.clock.query().time == before


def test_a_vm_that_has_ended_runs_again() -> None:
    with start(guest="boot-time=0,firmware=none", clock="virtual") as vm:
        vm.clock.run_until_quiet()
        saved = vm.snapshot()
        for _ in range(2):
            vm.guest.shut_down()
            assert vm.wait_until_ended() == 0
            vm.restore(saved)
            assert vm.exit_status is None
            vm.guest.reboot()
            assert vm.wait_for_event("RESET").data["reason"] == "guest-reset"
            with Client(vm.qmp_path) as client:
                assert client.execute("query-status")["status"] == "running"
            vm.assert_sent("query-status")


def test_a_sleeping_guest_sleeps_on() -> None:
    with start(guest="boot-time=0,firmware=none", clock="virtual") as vm:
        vm.clock.run_until_quiet()
        vm.guest.suspend()
        saved = vm.snapshot()
        vm.guest.wake()
        assert vm.run_state == "running"
        vm.restore(saved)
        assert vm.run_state == "suspended"
        vm.guest.wake()
        vm.wait_for_event("WAKEUP")


def test_what_cannot_be_kept(tmp_path: object) -> None:
    with start(machine="none") as vm, start(machine="none") as other:
        with pytest.raises(ControlError, match="another VM's"):
            other.restore(vm.snapshot())
    with pytest.raises(ControlError, match="has ended"):
        vm.snapshot()
    with start(machine="none", subprocess=True) as vm, pytest.raises(ControlError, match="only a VM in this process"):
        vm.snapshot()


def test_a_machine_in_the_middle_of_a_command_cannot_be_kept(tmp_path: Path) -> None:
    picture = str(tmp_path / "screen.ppm")
    with start(guest="boot-time=0", clock="virtual", options=["-device", "VGA"]) as vm:
        hold = vm.faults.hold_activity("reply")
        with Client(vm.qmp_path) as client:
            client.send("screendump", filename=picture)
            while not vm.clock.activities():
                time.sleep(0.01)
            with pytest.raises(ControlError, match="is executing a command"):
                vm.snapshot()
            vm.faults.clear(hold.id)
            while "event" in (message := client.message()):
                pass
            assert message == {"return": {}}
        vm.snapshot()


def test_restoring_is_quick() -> None:
    with start(guest="boot-time=0", clock="virtual") as vm:
        saved = vm.snapshot()
        begun = time.process_time()
        for _ in range(20):
            vm.restore(saved)
        assert time.process_time() - begun < 5


def kept_disk(tmp_path: Path, kind: str) -> list[str]:
    """Options for a disk `d0` in a file, whose node is `n0`."""
    path = tmp_path / "disk"
    if kind == "raw":
        path.write_bytes(b"\x11" * (1 << 20))
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        create(FileStorage(descriptor), Options(size=1 << 20)).flush()
        os.close(descriptor)
    node = f"driver={kind},node-name=n0,file.driver=file,file.filename={path}"
    return ["-nodefaults", "-machine", "pc", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0,id=d0"]


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_disks_go_back_as_well(tmp_path: Path, kind: str) -> None:
    with start(guest="", clock="virtual", command_line=kept_disk(tmp_path, kind)) as vm:
        vm.guest.write("d0", offset=0, length="64k", pattern=1)
        first = vm.snapshot()
        vm.guest.write("d0", offset=512, length=512, pattern=2)
        second = vm.snapshot()
        with Client(vm.qmp_path) as client:
            client.execute("block_resize", **{"node-name": "n0", "size": 2 << 20})
        vm.guest.write("d0", offset="1M", length="64k", pattern=3)
        for saved, patterns in ((first, (1, 1)), (second, (1, 2)), (first, (1, 1)), (second, (1, 2))):
            vm.restore(saved)
            found = tuple(vm.guest.read("d0", offset=place, length=512).pattern for place in (0, 512))
            assert found == patterns
            vm.guest.write("d0", offset=0, length=1024, pattern=9)
            assert vm.guest.flush("d0").state == "done"
            with Client(vm.qmp_path) as client:
                (node,) = [each for each in client.execute("query-named-block-nodes") if each["node-name"] == "n0"]
            assert node["image"]["virtual-size"] == 1 << 20
        last = vm.snapshot()
        unchanged = (tmp_path / "disk").stat().st_mtime_ns
        vm.restore(last)
        assert (tmp_path / "disk").stat().st_mtime_ns == unchanged, "what is as it was is not written"


def test_disks_that_cannot_be_kept_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(guest="", clock="virtual", command_line=kept_disk(tmp_path, "raw")) as vm:
        with monkeypatch.context() as patch:
            patch.setattr(kept_disks, "MOST", 1000)
            with pytest.raises(ControlError, match="the VM's disks have 1 MiB of data; 0 can be kept"):
                vm.snapshot()
    line = ["-nodefaults", "-machine", "pc", "-drive", f"if=none,file={tmp_path}/disk,format=raw,snapshot=on"]
    with start(guest="", clock="virtual", command_line=line) as vm:
        with pytest.raises(ControlError, match="a drive with snapshot=on cannot be kept"):
            vm.snapshot()
