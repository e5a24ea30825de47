"""The phases of a guest's course, and the tables that belong to them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from qmpd.guest import effects as devices
from qmpd.machine.blueprint import AgentFault, Firmware, GuestAction, GuestUnplug, GuestWakeup
from qmpd.machine.run_state import RunState

if TYPE_CHECKING:
    from collections.abc import Callable


class GuestPhase(enum.StrEnum):
    """Where a guest is in its course."""

    RESET = "reset"
    """The vCPUs have been reset and have not run since."""
    FIRMWARE_RESTART = "firmware-restart"
    """SeaBIOS has found that it has run before and is about to reset."""
    FIRMWARE = "firmware"
    NOTHING_TO_BOOT = "nothing-to-boot"
    BOOTING = "booting"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    """The operating system does what the power button asked for."""
    STOPPING = "stopping"
    """It has asked for a reset, for power off or for sleep, which has not come yet."""
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    HALTED = "halted"


BEFORE_DISKS = frozenset({GuestPhase.RESET, GuestPhase.FIRMWARE_RESTART, GuestPhase.FIRMWARE})
"""Where nobody drives the disks yet."""

DEVICES: dict[GuestAction, frozenset[str]] = {
    GuestAction.PANIC: devices.PVPANIC,
    GuestAction.CRASH_LOAD: devices.PVPANIC,
    GuestAction.WATCHDOG: devices.WATCHDOGS,
    GuestAction.DEBUG_EXIT: devices.DEBUG_EXIT,
}
"""What takes a device, and the drivers of those that will do."""

PHASE_AFTER: dict[GuestAction, GuestPhase] = {
    GuestAction.HALT: GuestPhase.HALTED,
    GuestAction.PANIC: GuestPhase.HALTED,
    GuestAction.REBOOT: GuestPhase.STOPPING,
    GuestAction.TRIPLE_FAULT: GuestPhase.STOPPING,
    GuestAction.SHUTDOWN: GuestPhase.STOPPING,
    GuestAction.HIBERNATE: GuestPhase.STOPPING,
    GuestAction.SUSPEND: GuestPhase.STOPPING,
    GuestAction.DEBUG_EXIT: GuestPhase.STOPPING,
}
"""What ends the guest's course for now, and the phase that it is in then."""

CLOSES_PORTS = frozenset({
    GuestAction.HALT, GuestAction.REBOOT, GuestAction.SHUTDOWN, GuestAction.HIBERNATE, GuestAction.SUSPEND,
})  # fmt: skip
"""What an operating system does only after it has put its devices away; its agent's port closes with them."""

FOUND: dict[RunState, GuestPhase] = {
    RunState.SUSPENDED: GuestPhase.SUSPENDED,
    RunState.SHUTDOWN: GuestPhase.HALTED,
    RunState.INTERNAL_ERROR: GuestPhase.HALTED,
    RunState.GUEST_PANICKED: GuestPhase.HALTED,
}
"""The phases of guests that have got to some end."""

SETTING_KINDS: dict[str, Callable[[str], enum.StrEnum]] = {
    "firmware": Firmware,
    "on_boot": GuestAction,
    "on_powerdown": GuestAction,
    "on_sleep": GuestAction,
    "on_nmi": GuestAction,
    "on_wakeup": GuestWakeup,
    "on_ctrl_alt_delete": GuestAction,
    "on_unplug": GuestUnplug,
    "agent_fault": AgentFault,
}
