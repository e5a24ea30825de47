"""A reset takes back what the guest was about to do: afterwards it goes on as one does that had nothing in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qmpd.machine import GuestAction, GuestSettings, RunState
from qmpd.machine.blueprint import Firmware

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machine.conftest import Bench, Build

    Do = Callable[[Bench], None]

SECOND = 1_000_000_000


def _wake(vm: Bench) -> None:
    vm.guest.suspend()
    vm.turns()
    vm.machine.system_wakeup()


def _boot(vm: Bench) -> None:
    vm.machine.system_reset()
    vm.turns()
    vm.advance(SECOND)


def _stop_and_reset(vm: Bench) -> None:
    vm.machine.stop()
    vm.turns()
    vm.machine.system_reset()


# Each leaves something to come by itself.
BEGUN: dict[str, Do] = {
    "nothing": lambda vm: None,
    "it shuts down": lambda vm: vm.machine.system_powerdown(),
    "it is asked for a device": lambda vm: vm.guest.unplug_asked("/machine/peripheral/d0"),
    "it is asked for memory": lambda vm: vm.guest.balloon_asked(),
    "it sleeps, and has set an alarm": lambda vm: vm.guest.suspend(),
    "it wakes up": _wake,
    "it boots": _boot,
}
RESETS: dict[str, Do] = {"by command": lambda vm: vm.machine.system_reset(), "while stopped": _stop_and_reset}


def told(bench: Build, begun: Do, reset: Do, release: str) -> tuple[list[tuple[str, int]], str, dict[str, int]]:
    """What a machine says in the ten minutes after a reset, and where its guest is then."""
    settings = GuestSettings(
        firmware=Firmware.NONE,
        boot_time=3 * SECOND,
        on_powerdown=GuestAction.SHUTDOWN,
        powerdown_delay=20 * SECOND,
        sleep_time=30 * SECOND,
        unplug_delay=25 * SECOND,
        balloon_delay=25 * SECOND,
    )
    vm = bench(release, guest=settings)
    vm.advance(60 * SECOND)
    assert vm.guest.query()["phase"] == "running"
    begun(vm)
    vm.turns()
    vm.advance(SECOND // 2)
    reset(vm)
    vm.turns()
    if vm.machine.state is not RunState.RUNNING:
        vm.machine.cont()
        vm.turns()
    start = vm.clock.monotonic_nanoseconds()
    steps = vm.guest.query()["steps"]
    assert isinstance(steps, dict)
    vm.take()
    vm.advance(600 * SECOND)
    assert vm.exit_status is None
    events = [(name, time - start) for name, time in zip(vm.events, vm.times, strict=True)]
    return events, str(vm.guest.query()["phase"]), steps


@pytest.mark.parametrize("release", ["5.2", "10.0"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("begun", BEGUN)
def test_nothing_is_left_of_what_it_was_about_to_do(bench: Build, begun: str, reset: str, release: str) -> None:
    plain = told(bench, BEGUN["nothing"], RESETS["by command"], release)
    assert told(bench, BEGUN[begun], RESETS[reset], release) == plain
    assert plain == ([], "running", plain[2])
