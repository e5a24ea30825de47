"""What a guest and its devices do to the machine.

Each function is what one device of QEMU does when the guest uses it.  All of them run in a vCPU or in a
timer, never in the main loop, so what they ask for waits for the next turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.blueprint import PanicAction, ShutdownAction, WatchdogAction
from qmpd.machine.requests import ShutdownCause
from qmpd.machine.run_state import RunState

if TYPE_CHECKING:
    from qmpd.machine.machine import Machine

PVPANIC = frozenset({"pvpanic", "pvpanic-pci"})
WATCHDOGS = frozenset({"ib700", "i6300esb"})
DEBUG_EXIT = frozenset({"isa-debug-exit"})
ACTING = PVPANIC | WATCHDOGS | DEBUG_EXIT
"""The drivers of all devices that do something to the machine, whether it is known what they are made of or not."""


def has_device(machine: Machine, drivers: frozenset[str]) -> bool:
    """Whether the machine has a device of one of these drivers."""
    if machine.parts is not None and machine.parts.has_devices:
        return not drivers.isdisjoint(machine.parts.drivers())
    return any(device.driver in drivers for device in machine.settings.devices)


def hibernate(machine: Machine) -> None:
    """ACPI S4: the guest has saved itself and powers off (hw/acpi/core.c)."""
    machine.emit("SUSPEND_DISK")
    machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)


def guest_panicked(machine: Machine, info: dict[str, object] | None = None) -> None:
    """pvpanic tells of a panic; `info` is QAPI's `GuestPanicInformation` (system/runstate.c)."""
    action = machine.panic_action
    if action is PanicAction.NONE:
        _tell_panic(machine, "GUEST_PANICKED", "run", info)
        return
    pauses = action is PanicAction.PAUSE or (
        action is PanicAction.SHUTDOWN and machine.shutdown_action is ShutdownAction.PAUSE
    )
    if pauses or machine.behaviour.panic_reported_twice:
        _tell_panic(machine, "GUEST_PANICKED", "pause", info)
    if not pauses:
        _tell_panic(machine, "GUEST_PANICKED", "poweroff", info)
        machine.system_shutdown(ShutdownCause.GUEST_PANIC)
    machine.system_vmstop(RunState.GUEST_PANICKED)


def guest_crashloaded(machine: Machine, info: dict[str, object] | None = None) -> None:
    """pvpanic tells that a panicked guest goes on in its crash kernel."""
    _tell_panic(machine, "GUEST_CRASHLOADED", "run", info)


def _tell_panic(machine: Machine, event: str, action: str, info: dict[str, object] | None) -> None:
    data: dict[str, object] = {"action": action}
    if info is not None:
        data["info"] = info
    machine.emit(event, data)


def watchdog_expired(machine: Machine) -> None:
    """The watchdog's timer has run out (hw/watchdog/watchdog.c)."""
    action = machine.watchdog_action
    machine.emit("WATCHDOG", {"action": str(action)})
    if action is WatchdogAction.RESET:
        machine.system_reset(ShutdownCause.GUEST_RESET)
    elif action is WatchdogAction.SHUTDOWN:
        machine.system_powerdown()
    elif action is WatchdogAction.POWEROFF:
        machine.end(0)
    elif action is WatchdogAction.PAUSE:
        machine.system_vmstop(RunState.WATCHDOG)
    elif action is WatchdogAction.DEBUG:
        machine.report("watchdog: timer fired")
    elif action is WatchdogAction.INJECT_NMI:
        machine.inject_nmi()


def debug_exit(machine: Machine, value: int) -> None:
    """The guest writes `value` to isa-debug-exit: the exit status is twice that and one (hw/misc/debugexit.c)."""
    status = (value << 1 | 1) & 0xFF
    if machine.behaviour.debug_exit_announced:
        machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN, status)
    else:
        machine.end(status)


def internal_error(machine: Machine) -> None:
    """A vCPU cannot go on (KVM's internal error)."""
    machine.system_vmstop(RunState.INTERNAL_ERROR)


def block_io_error(machine: Machine, data: dict[str, object]) -> None:
    """An error of a block device; `data` is BLOCK_IO_ERROR's, whose `action` says whether the machine stops."""
    machine.emit("BLOCK_IO_ERROR", data)
    if data.get("action") == "stop":
        machine.system_vmstop(RunState.IO_ERROR)
