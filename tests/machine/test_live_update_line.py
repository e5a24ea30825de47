"""What the live-update line does otherwise."""

from __future__ import annotations

import pytest

from qmpd.machine import (
    CoreBehaviour,
    GuestAction,
    GuestSettings,
    MachineSettings,
    RebootAction,
    RunState,
    ShutdownAction,
    ShutdownCause,
    main_loop,
)
from qmpd.qapi import Behaviour, load_release
from tests.machine.conftest import SECOND, Bench

LINE = Behaviour(
    **{
        **vars(load_release("5.2").behaviour),
        "events_carry_cause": False,
        "reset_keeps_state": True,
        "preconfig_run_state": "prelaunch",
        "panic_reported_twice": False,
    }
)


def line(**settings: object) -> Bench:
    return Bench(MachineSettings(**settings), LINE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RunState.INTERNAL_ERROR, "paused"),
        (RunState.SHUTDOWN, "paused"),
        (RunState.PAUSED, "paused"),
        (RunState.WATCHDOG, "watchdog"),
        (RunState.GUEST_PANICKED, "guest-panicked"),
    ],
)
def test_reset_keeps_states_that_need_none(before: RunState, after: str) -> None:
    vm = line(machine_type="none")
    vm.machine.vm_stop(before)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    assert vm.data == [None]
    assert (vm.take(), vm.machine.state) == (["RESET"], after)


def test_reset_keeps_suspended_and_the_wakeup_starts_the_firmware_anew() -> None:
    vm = line(guest=GuestSettings(on_boot=GuestAction.SUSPEND))
    vm.advance(SECOND)
    assert vm.take() == ["RESUME", "SUSPEND"]
    vm.machine.system_reset()
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.machine.state) == (["RESET"], "suspended")
    vm.machine.system_wakeup()
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.machine.state) == (["WAKEUP", "RESET", "SUSPEND"], "suspended")


@pytest.mark.parametrize("behaviour", [LINE, load_release("7.2").behaviour])
def test_reboot_reset_is_announced_as_reset_once(behaviour: CoreBehaviour) -> None:
    vm = Bench(MachineSettings(machine_type="none", reboot_reset=True, shutdown=ShutdownAction.PAUSE), behaviour)
    vm.take()
    vm.machine.system_reset(ShutdownCause.GUEST_RESET)
    assert vm.machine.requests.reset_is_shutdown
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["RESET", "STOP"], "shutdown")
    vm.machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
    vm.turns()
    assert vm.take() == ["SHUTDOWN"]


def test_reboot_reset_ends_the_process_without_no_shutdown() -> None:
    vm = line(machine_type="none", reboot_reset=True)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    assert (vm.take(), vm.exit_status) == (["RESET"], 0)


@pytest.mark.parametrize("reboot", RebootAction)
@pytest.mark.parametrize("later", ["quit", "guest-shutdown", "signal", "debug-exit", "panic"])
def test_a_shutdown_before_the_turn_is_announced_as_the_reset_was(reboot: RebootAction, later: str) -> None:
    """One event, RESET, for a reset and the shutdown that was asked for before the turn; with the later cause."""
    behaviour = load_release("7.2").behaviour
    vm = Bench(MachineSettings(machine_type="none", reboot_reset=True, reboot=reboot), behaviour)
    vm.take()
    vm.machine.system_reset(ShutdownCause.GUEST_RESET)
    cause = _shut_down(vm, later)
    vm.turns()
    assert (vm.data[-1], vm.take()) == ({"guest": cause.by_guest, "reason": str(cause)}, ["RESET"])


def _shut_down(vm: Bench, how: str) -> ShutdownCause:
    if how == "quit":
        vm.machine.quit()
        return ShutdownCause.HOST_QMP_QUIT
    if how == "signal":
        vm.machine.request_shutdown_by_signal(15)
        return ShutdownCause.HOST_SIGNAL
    cause = ShutdownCause.GUEST_PANIC if how == "panic" else ShutdownCause.GUEST_SHUTDOWN
    vm.machine.system_shutdown(cause, 7 if how == "debug-exit" else None)
    return cause


def test_a_shutdown_that_came_first_is_announced_as_the_reset_is() -> None:
    vm = line(machine_type="none", reboot_reset=True)
    vm.take()
    vm.machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
    vm.machine.system_reset(ShutdownCause.GUEST_RESET)
    vm.turns()
    assert vm.take() == ["RESET"]


def test_reboot_reset_tells_how_no_reboot_announces() -> None:
    vm = line(machine_type="none", reboot_reset=True, reboot=RebootAction.SHUTDOWN)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    assert (vm.take(), vm.exit_status) == (["RESET"], 0)


def test_a_further_reset_says_anew_how_the_shutdown_is_announced() -> None:
    vm = line(machine_type="none", reboot_reset=True, reboot=RebootAction.SHUTDOWN)
    vm.take()
    vm.machine.system_reset()
    vm.machine.reboot_reset = False
    vm.machine.system_reset()
    vm.turns()
    assert vm.take() == ["SHUTDOWN"]


def test_what_becomes_no_shutdown_leaves_the_flag() -> None:
    """A reset asked for while nothing makes it a shutdown does not change how a waiting one is announced."""
    vm = line(machine_type="none", reboot_reset=True, shutdown=ShutdownAction.PAUSE)
    vm.take()
    vm.machine.system_reset()
    vm.machine.reboot_reset = False
    vm.machine.system_reset()
    vm.turns()
    assert vm.take() == ["RESET", "STOP", "RESET"]
    vm.machine.quit()
    vm.turns()
    assert vm.take() == ["SHUTDOWN"]


@pytest.mark.parametrize(
    ("settings", "sequence", "state"),
    [
        ({}, ["RESUME", "RESET", "RESET"], "running"),
        ({"reboot": RebootAction.SHUTDOWN}, ["RESUME", "SHUTDOWN", "STOP"], "shutdown"),
        ({"reboot_reset": True}, ["RESUME", "RESET", "STOP"], "shutdown"),
    ],
)
def test_a_guests_reboot_up_to_the_second_reset(settings: dict[str, object], sequence: list[str], state: str) -> None:
    vm = line(shutdown=ShutdownAction.PAUSE, guest=GuestSettings(), **settings)
    vm.advance(SECOND)
    vm.guest.reboot()
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.machine.state) == (sequence, state)


def test_time_of_the_reset_request_is_kept() -> None:
    vm = line(machine_type="none")
    assert vm.machine.requests.reset_time is None
    vm.advance(SECOND)
    asked = vm.clock.wall_microseconds()
    vm.machine.system_reset()
    vm.advance(SECOND)
    vm.turns()
    assert vm.machine.requests.reset_time == asked


@pytest.mark.parametrize(("on_sleep", "state"), [(None, "suspended"), (GuestAction.NONE, "running")])
def test_sleep_button(on_sleep: GuestAction | None, state: str) -> None:
    vm = line(guest=GuestSettings(on_sleep=on_sleep))
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_sleep()
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.machine.state) == (["SUSPEND"] if state == "suspended" else [], state)


def test_sleep_comes_after_powerdown_and_before_vmstop() -> None:
    vm = line(guest=GuestSettings(powerdown_delay=SECOND))
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_sleep()
    vm.machine.system_powerdown()
    main_loop.turn(vm.machine)
    steps = vm.guest.query()["steps"]
    assert isinstance(steps, dict)
    # The guest heeds the power button, which came first, and is no longer awake to the other.
    assert list(steps) == ["power-button"]
