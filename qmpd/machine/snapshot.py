"""A machine as plain data: all of it for a process that takes it over, its guest's side for a snapshot, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.machine.blueprint import PanicAction, RebootAction, ShutdownAction, WatchdogAction
from qmpd.machine.requests import Requests
from qmpd.machine.run_state import LIVE, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.machine.machine import Machine


def take_guest_side(machine: Machine) -> dict[str, object]:
    """What of a machine goes with its guest, wherever that goes: into an image, or to another process.

    `time` is the machine's own, in nanoseconds.
    """
    return {
        "state": str(machine.state),
        "was_suspended": machine.was_suspended,
        "has_run": machine.has_run,
        "time": machine.schedule.now(),
        "guest": None if machine.guest is None else machine.guest.snapshot(),
    }


def put_guest_side(machine: Machine, state: Mapping[str, Any]) -> None:
    """Have the guest of a machine whose vCPUs stand still be as it was when `take_guest_side` made `state` of it.

    The run state is not changed: what it was then is for whoever sets the machine going.
    """
    machine.was_suspended = bool(state["was_suspended"])
    machine.has_run = bool(state["has_run"])
    machine.schedule.stand_at(int(state["time"]))
    if machine.guest is not None:
        machine.guest.restore(state["guest"])


def take(machine: Machine) -> dict[str, object]:
    """All that `machine` is beside its settings, for a process that takes it over."""
    return {
        **take_guest_side(machine),
        "preconfig": machine.preconfig,
        "autostart": machine.autostart,
        "exit_code": machine.exit_code,
        "exit_status": machine.exit_status,
        "pending": machine.pending,
        "actions": {
            "reboot": str(machine.reboot_action),
            "shutdown": str(machine.shutdown_action),
            "panic": str(machine.panic_action),
            "watchdog": str(machine.watchdog_action),
            "reboot_reset": machine.reboot_reset,
        },
        "requests": machine.requests.snapshot(),
    }


def put(machine: Machine, state: Mapping[str, Any]) -> None:
    """Make a new machine what `take` made `state` of."""
    machine.state = RunState(state["state"])
    machine.preconfig = state["preconfig"]
    machine.autostart = state["autostart"]
    machine.exit_code = state["exit_code"]
    machine.exit_status = state["exit_status"]
    action = state["actions"]
    machine.reboot_action = RebootAction(action["reboot"])
    machine.shutdown_action = ShutdownAction(action["shutdown"])
    machine.panic_action = PanicAction(action["panic"])
    machine.watchdog_action = WatchdogAction(action["watchdog"])
    machine.reboot_reset = action["reboot_reset"]
    machine.requests = Requests.restore(state["requests"])
    put_guest_side(machine, state)
    if machine.state in LIVE:
        machine.schedule.go_on()
    if state["pending"]:
        machine.notify()
