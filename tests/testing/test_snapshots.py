"""A VM that is kept in memory, and is again as it was, as often as a test wants."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

# Here, and not in the middle of a test: what is first imported in a test run within a test is forgotten after it.
import qmpd.hardware.snapshot
from qmpd.testing import ControlError, start
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
