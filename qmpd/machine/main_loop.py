"""The main loop's turn: every pending request is served, in QEMU's order.

The order is that of QEMU's `main_loop_should_exit`: debug, suspend, shutdown, reset, wakeup, powerdown,
sleep (the live-update line's own), vmstop.  It can be seen from outside: a shutdown that ends the process
leaves the rest unserved, a reset goes before the stop that a panic asked for, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.blueprint import PanicAction, ShutdownAction
from qmpd.machine.requests import SILENT_RESETS, ShutdownCause
from qmpd.machine.run_state import KEPT_BY_RESET, NEEDS_RESET, RunState
from qmpd.schedule.clock import SteppedClock

if TYPE_CHECKING:
    from qmpd.machine.machine import Machine

UNKNOWN_PROCESS = "<unknown process>"
"""The name of a process that has ended, or that the system does not show."""


def turn(machine: Machine) -> int | None:
    """Serve what is pending; the exit status where the main loop has ended, then and ever after."""
    machine.pending = False
    if machine.exit_status is not None:
        return machine.exit_status
    machine.run_left()
    if machine.stage_check is not None:
        machine.stage_check()
    requests = machine.requests
    if requests.exit_preconfig:
        requests.exit_preconfig = False
        machine.create()
    if requests.debug:
        requests.debug = False
        machine.vm_stop(RunState.DEBUG)
    if requests.suspend:
        _suspend(machine)
    if requests.shutdown is not None:
        status = _shutdown(machine)
        if status is not None:
            machine.exit_status = status
            return status
    if requests.reset is not None:
        cause, requests.reset = requests.reset, None
        _reset(machine, cause)
    if requests.wakeup is not None:
        _wakeup(machine)
    if requests.powerdown:
        requests.powerdown = False
        machine.emit("POWERDOWN")
        if machine.guest is not None:
            machine.guest.power_button()
    if requests.sleep:
        requests.sleep = False
        if machine.guest is not None:
            machine.guest.sleep_button()
    if requests.vmstop is not None:
        state, requests.vmstop = requests.vmstop, None
        machine.vm_stop(state)
    return None


def _suspend(machine: Machine) -> None:
    """Suspend a running guest.

    The guest asked while it ran; where the machine was stopped since, it sleeps as soon as it runs again.
    QEMU aborts there, or (where the table allows it) forgets that it was stopped.
    """
    if machine.state is not RunState.RUNNING:
        return
    machine.requests.suspend = False
    if machine.guest is not None:
        machine.guest.suspended()
    machine.set_state(RunState.SUSPENDED)
    machine.emit("SUSPEND")


def _shutdown(machine: Machine) -> int | None:
    """Announce the shutdown, then end the loop with a status or, under `shutdown=pause`, stop."""
    requests = machine.requests
    cause, requests.shutdown = requests.shutdown, None
    assert cause is not None
    if requests.signal is not None:
        _report_signal(machine)
    announced_as_reset, requests.reset_is_shutdown = requests.reset_is_shutdown, False
    machine.emit_cause("RESET" if announced_as_reset else "SHUTDOWN", cause)
    if machine.shutdown_action is ShutdownAction.PAUSE:
        machine.vm_stop(RunState.SHUTDOWN)
        # The loop looks once more before it waits.
        machine.pending = True
        return None
    if machine.exit_code:
        return machine.exit_code
    return int(cause is ShutdownCause.GUEST_PANIC and machine.panic_action is PanicAction.EXIT_FAILURE)


def _report_signal(machine: Machine) -> None:
    signal, machine.requests.signal = machine.requests.signal, None
    assert signal is not None
    if isinstance(machine.clock, SteppedClock):
        return  # a test program ends the machine with a signal as a matter of course
    number, pid = signal
    machine.report(signal_report(number, pid, machine.sender_name(pid)))


def signal_report(number: int, pid: int, name: str | None) -> str:
    """What is reported of a signal that ends a process: its number, and its sender's id (0: the system) and name.

    The name is what the sender was called by: empty where it has ended and its parent does not know it yet, None where
    there is no such process (QEMU's `qemu_kill_report`).
    """
    if not pid:
        return f"terminating on signal {number}"
    return f"terminating on signal {number} from pid {pid} ({UNKNOWN_PROCESS if name is None else name})"


def _reset(machine: Machine, cause: ShutdownCause) -> None:
    """Reset the devices and the vCPUs, tell of it unless it is a silent one, and see what state that leaves."""
    reset_silently(machine)
    if cause not in SILENT_RESETS:
        machine.emit_cause("RESET", cause)
    machine.was_suspended = False
    machine.resume_all_vcpus()
    if machine.behaviour.reset_keeps_state:
        if machine.state in NEEDS_RESET:
            machine.set_state(RunState.PAUSED)
    elif machine.state not in KEPT_BY_RESET:
        machine.set_state(RunState.PRELAUNCH)


def reset_silently(machine: Machine) -> None:
    """Reset the devices and the vCPUs, as before a state is loaded into them; nobody is told."""
    machine.requests.suspend = False
    if machine.guest is not None:
        machine.guest.reset()
    if machine.parts is not None:
        machine.parts.reset()
    if machine.debugger is not None:
        machine.debugger.reset()


def _wakeup(machine: Machine) -> None:
    """Reset the devices in silence and tell the guest why it wakes; then forget why, run, and emit WAKEUP."""
    reason = machine.requests.wakeup
    assert reason is not None
    if machine.parts is not None:
        machine.parts.reset()
    if machine.guest is not None:
        machine.guest.woken(reason)
    machine.requests.wakeup = None
    machine.resume_all_vcpus()
    machine.emit("WAKEUP")
