"""The turn's order and its effects, request by request."""

from __future__ import annotations

import pytest

from qmpd.machine import (
    InvalidTransition,
    MachineError,
    PanicAction,
    RebootAction,
    RunState,
    ShutdownAction,
    ShutdownCause,
    WatchdogAction,
    main_loop,
)
from tests.machine.conftest import Build


def test_requests_are_served_in_order(bench: Build) -> None:
    vm = bench(machine_type="none", shutdown=ShutdownAction.PAUSE)
    vm.take()
    machine = vm.machine
    machine.system_vmstop(RunState.WATCHDOG)
    machine.system_powerdown()
    machine.system_reset()
    machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
    assert main_loop.turn(machine) is None
    # The shutdown has stopped the machine, so the reset leaves prelaunch and the stop finds nothing to do.
    assert vm.take() == ["SHUTDOWN", "STOP", "RESET", "POWERDOWN"]
    assert machine.state == "prelaunch"


def test_debug_goes_before_suspend_and_suspend_sleeps_once_the_machine_runs(bench: Build) -> None:
    vm = bench()
    vm.take()
    vm.machine.system_suspend()
    vm.machine.system_debug()
    vm.turns()
    assert (vm.take(), vm.machine.state, vm.machine.pending) == (["STOP"], "debug", False)
    vm.machine.cont()
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["RESUME", "SUSPEND"], "suspended")


def test_a_suspend_that_waits_is_forgotten_by_a_reset(bench: Build) -> None:
    vm = bench()
    vm.machine.system_suspend()
    vm.machine.stop()
    vm.turns()
    vm.machine.system_reset()
    vm.turns()
    vm.machine.cont()
    vm.turns()
    assert vm.take()[-1] == "RESUME"
    assert vm.machine.state == "running"


def test_shutdown_that_ends_leaves_the_rest_unserved(bench: Build) -> None:
    vm = bench(machine_type="none")
    vm.take()
    vm.machine.system_powerdown()
    vm.machine.system_reset()
    vm.machine.quit()
    assert main_loop.turn(vm.machine) == 0
    assert vm.take() == ["SHUTDOWN"]
    assert main_loop.turn(vm.machine) == 0
    assert vm.take() == []


def test_shutdown_under_no_shutdown_takes_one_more_turn(bench: Build) -> None:
    vm = bench(machine_type="none", shutdown=ShutdownAction.PAUSE)
    vm.machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
    assert [(main_loop.turn(vm.machine), vm.machine.pending) for _ in range(2)] == [(None, True), (None, False)]
    with pytest.raises(MachineError, match="Resetting the Virtual Machine is required"):
        vm.machine.cont()


def test_quit_ends_in_spite_of_no_shutdown(bench: Build) -> None:
    vm = bench(shutdown=ShutdownAction.PAUSE)
    vm.machine.quit()
    assert main_loop.turn(vm.machine) == 0


@pytest.mark.parametrize(
    ("cause", "by_guest"),
    [
        (ShutdownCause.HOST_QMP_SYSTEM_RESET, False),
        (ShutdownCause.HOST_UI, False),
        (ShutdownCause.GUEST_RESET, True),
        (ShutdownCause.GUEST_PANIC, True),
    ],
)
def test_reset_carries_its_cause(bench: Build, cause: ShutdownCause, by_guest: bool) -> None:
    vm = bench(machine_type="none")
    vm.machine.system_reset(cause)
    vm.turns()
    assert vm.data[-1] == {"guest": by_guest, "reason": str(cause)}


@pytest.mark.parametrize("cause", [ShutdownCause.SUBSYSTEM_RESET, ShutdownCause.SNAPSHOT_LOAD])
def test_silent_reset(bench: Build, cause: ShutdownCause) -> None:
    vm = bench(machine_type="none", start_paused=True)
    vm.machine.cont()
    vm.machine.stop()
    vm.take()
    vm.machine.system_reset(cause)
    vm.turns()
    assert (vm.take(), vm.machine.state) == ([], "prelaunch")


def test_no_reboot_does_not_concern_a_subsystem(bench: Build) -> None:
    vm = bench(machine_type="none", reboot=RebootAction.SHUTDOWN)
    statuses = []
    for cause in (ShutdownCause.SUBSYSTEM_RESET, ShutdownCause.GUEST_RESET):
        vm.machine.system_reset(cause)
        vm.turns()
        statuses.append(vm.exit_status)
    assert statuses == [None, 0]
    assert vm.data[-1] == {"guest": True, "reason": "guest-reset"}


def test_signal_says_who_sent_it(bench: Build) -> None:
    """The sender's name is asked for in the turn that serves the signal, not before."""
    vm = bench(machine_type="none", shutdown=ShutdownAction.PAUSE)
    vm.machine.request_shutdown_by_signal(15, 4711)
    vm.machine.sender_name = {4711: "kill"}.get
    assert vm.reports == []
    assert main_loop.turn(vm.machine) == 0
    assert vm.reports == ["terminating on signal 15 from pid 4711 (kill)"]
    assert vm.data[-1] == {"guest": False, "reason": "host-signal"}


@pytest.mark.parametrize(
    ("sender", "text"),
    [
        ((2, 0), "terminating on signal 2"),
        ((1, 99), "terminating on signal 1 from pid 99 (<unknown process>)"),
        ((1, 98), "terminating on signal 1 from pid 98 ()"),
    ],
)
def test_signal_of_unknown_sender(bench: Build, sender: tuple[int, int], text: str) -> None:
    vm = bench(machine_type="none")
    vm.machine.sender_name = {98: ""}.get
    vm.machine.request_shutdown_by_signal(*sender)
    vm.turns()
    assert vm.reports == [text]


def test_wake_is_called_once_for_requests_of_one_turn(bench: Build) -> None:
    vm = bench(machine_type="none")
    vm.machine.system_powerdown()
    vm.machine.system_reset()
    first = vm.wakes
    vm.turns()
    vm.machine.system_powerdown()
    assert (first, vm.wakes) == (1, 2)


def test_cont_takes_back_a_stop_that_was_not_served(bench: Build) -> None:
    """STOP and RESUME tell of it, as QEMU's documentation promises for BLOCK_IO_ERROR."""
    vm = bench(machine_type="none")
    vm.take()
    vm.machine.system_vmstop(RunState.IO_ERROR)
    vm.machine.cont()
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["STOP", "RESUME"], "running")


def test_incoming_migration_remembers_stop_and_cont(bench: Build) -> None:
    vm = bench(incoming="defer")
    remembered = [vm.machine.autostart]
    for operation in (vm.machine.stop, vm.machine.cont):
        operation()
        remembered.append(vm.machine.autostart)
    assert remembered == [True, False, True]
    assert (vm.machine.state, vm.take()) == ("inmigrate", [])


def test_set_action_changes_only_what_is_named(bench: Build) -> None:
    vm = bench()
    vm.machine.set_action(panic=PanicAction.NONE, watchdog=WatchdogAction.PAUSE)
    machine = vm.machine
    assert (machine.reboot_action, machine.shutdown_action) == (RebootAction.RESET, ShutdownAction.POWEROFF)
    assert (machine.panic_action, machine.watchdog_action) == (PanicAction.NONE, WatchdogAction.PAUSE)


@pytest.mark.parametrize("release", ["5.2", "7.2"])
def test_preconfig(bench: Build, release: str) -> None:
    vm = bench(release, machine_type="none", preconfig=True)
    assert vm.machine.state == ("preconfig" if release == "5.2" else "prelaunch")
    for operation in (vm.machine.cont, vm.machine.stop, vm.machine.system_reset, vm.machine.system_powerdown):
        with pytest.raises(MachineError):
            operation()
    vm.machine.exit_preconfig()
    # Where preconfig is a run state, the loop that waits for its end must turn first.
    assert vm.take() == ([] if release == "5.2" else ["RESUME"])
    vm.turns()
    assert vm.machine.state == "running"
    with pytest.raises(MachineError, match="permitted only"):
        vm.machine.exit_preconfig()


def test_stage_is_checked_in_every_turn(bench: Build) -> None:
    vm = bench(machine_type="none")
    vm.take()

    def check() -> None:
        vm.machine.stage_check = None
        vm.machine.emit("INIT_COMPLETE")

    vm.machine.stage_check = check
    vm.machine.system_powerdown()
    vm.turns()
    vm.machine.system_powerdown()
    vm.turns()
    assert vm.take() == ["INIT_COMPLETE", "POWERDOWN", "POWERDOWN"]


def test_a_transition_outside_the_table_raises(bench: Build) -> None:
    vm = bench(machine_type="none")
    with pytest.raises(InvalidTransition, match="'running' -> 'prelaunch'"):
        vm.machine.set_state(RunState.PRELAUNCH)
    assert vm.machine.state == "running"


def test_suspended_is_left_alone_by_states_that_the_table_keeps_apart(bench: Build) -> None:
    vm = bench("10.0")
    vm.machine.system_suspend()
    vm.turns()
    vm.take()
    vm.guest.io_error({"device": "ide0-hd0", "operation": "read", "action": "stop", "reason": "failed"})
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["BLOCK_IO_ERROR"], "suspended")
