"""What a turn leaves behind: each request is served once, and then is as if it had never been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qmpd.machine import GuestSettings, RunState, ShutdownAction, ShutdownCause, WakeupReason, main_loop
from qmpd.machine.blueprint import Firmware
from qmpd.machine.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.machine import Machine
    from tests.machine.conftest import Bench, Build

    Ask = Callable[[Machine], object]

ASKED: dict[str, tuple[Ask, list[str]]] = {
    "debug": (lambda machine: machine.system_debug(), ["STOP"]),
    "suspend": (lambda machine: machine.system_suspend(), ["SUSPEND"]),
    "shutdown": (lambda machine: machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN), ["SHUTDOWN", "STOP"]),
    "reset": (lambda machine: machine.system_reset(), ["RESET"]),
    "power button": (lambda machine: machine.system_powerdown(), ["POWERDOWN"]),
    "sleep button": (lambda machine: machine.system_sleep(), []),
    "stop": (lambda machine: machine.system_vmstop(RunState.WATCHDOG), ["STOP"]),
}


def notes(machine: Machine) -> dict[str, object]:
    """What is asked of the next turn."""
    return {name: getattr(machine.requests, name) for name in Requests.__slots__ if name != "reset_time"}


NOTHING = {name: getattr(Requests(), name) for name in Requests.__slots__ if name != "reset_time"}


def running(bench: Build, **settings: object) -> Bench:
    vm = bench(shutdown=ShutdownAction.PAUSE, guest=GuestSettings(firmware=Firmware.NONE), **settings)
    vm.advance(1_000_000_000)
    vm.take()
    return vm


@pytest.mark.parametrize("name", ASKED)
def test_what_was_served_is_forgotten(bench: Build, name: str) -> None:
    vm = running(bench)
    ask, events = ASKED[name]
    ask(vm.machine)
    vm.turns()
    assert vm.take() == events
    assert notes(vm.machine) == NOTHING
    assert not vm.machine.pending
    for _ in range(2):
        assert main_loop.turn(vm.machine) is None
    assert vm.take() == []


# Asked the other way round. Of two that are pending QEMU serves the first one first (`main_loop_should_exit`); what the
# second finds then is what the first has left.
PAIRS: dict[tuple[str, str], tuple[list[str], str]] = {
    ("debug", "suspend"): (["STOP"], "debug"),
    ("debug", "shutdown"): (["STOP", "SHUTDOWN"], "debug"),
    ("debug", "power button"): (["STOP", "POWERDOWN"], "debug"),
    ("debug", "stop"): (["STOP"], "debug"),
    ("suspend", "shutdown"): (["SUSPEND", "SHUTDOWN"], "suspended"),
    ("suspend", "power button"): (["SUSPEND", "POWERDOWN"], "suspended"),
    ("suspend", "stop"): (["SUSPEND"], "suspended"),
    ("shutdown", "reset"): (["SHUTDOWN", "STOP", "RESET"], "prelaunch"),
    ("shutdown", "power button"): (["SHUTDOWN", "STOP", "POWERDOWN"], "shutdown"),
    ("shutdown", "stop"): (["SHUTDOWN", "STOP"], "shutdown"),
    ("reset", "power button"): (["RESET", "POWERDOWN"], "running"),
    ("reset", "stop"): (["RESET", "STOP"], "watchdog"),
    ("power button", "stop"): (["POWERDOWN", "STOP"], "watchdog"),
}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_requests_the_first_is_served_first(bench: Build, first: str, second: str) -> None:
    vm = running(bench)
    for name in (second, first):
        ASKED[name][0](vm.machine)
    vm.turns()
    assert (vm.take(), str(vm.machine.state)) == PAIRS[first, second]


@pytest.mark.parametrize("release", ["5.2", "7.2"])
def test_a_machine_is_made_once(bench: Build, release: str) -> None:
    """Where `preconfig` is a run state the next turn makes it."""
    vm = bench(release, preconfig=True)
    vm.machine.exit_preconfig()
    vm.turns()
    vm.take()
    assert notes(vm.machine) == NOTHING
    assert main_loop.turn(vm.machine) is None
    assert vm.machine.state == "running"


@pytest.mark.parametrize("reason", list(WakeupReason))
def test_a_wakeup_tells_the_guest_why(bench: Build, reason: WakeupReason) -> None:
    vm = running(bench)
    vm.machine.system_suspend()
    vm.turns()
    vm.machine.system_wakeup(reason)
    vm.turns()
    assert vm.take() == ["SUSPEND", "WAKEUP"]
    assert vm.guest.wakeup_reason is reason
    assert notes(vm.machine) == NOTHING


def test_a_reset_forgets_that_a_stopped_guest_slept(bench: Build) -> None:
    vm = running(bench, release="10.0")
    vm.machine.system_suspend()
    vm.turns()
    vm.machine.stop()
    slept = [vm.machine.was_suspended]
    vm.machine.system_reset()
    vm.turns()
    slept.append(vm.machine.was_suspended)
    assert slept == [True, False]
    assert vm.take() == ["SUSPEND", "STOP", "RESET"]
    vm.machine.cont()
    assert (vm.take(), vm.machine.state) == (["RESUME"], "running")
