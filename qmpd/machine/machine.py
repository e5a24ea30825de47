"""One virtual machine: its run state, its pending requests and the operations on it.

A machine is driven from outside and by one task alone: commands call the operations below, then `turn`
while `pending` is set; `run_timers` when `next_deadline` has passed.  Operations that QEMU performs in its
main loop only leave a request here; the rest take effect at once, as in QEMU (`stop`, `cont`, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.machine.blueprint import PanicAction, RebootAction, ShutdownAction, WatchdogAction
from qmpd.machine.errors import NOT_SUSPENDED, InvalidTransition, MachineError
from qmpd.machine.events import Event
from qmpd.machine.requests import Requests, ShutdownCause, WakeupReason
from qmpd.machine.run_state import LIVE, NEEDS_RESET, RunState, transitions
from qmpd.schedule.activity import Activities
from qmpd.schedule.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.machine.behaviour import CoreBehaviour
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.machine.parts import Guest, Parts
    from qmpd.schedule.clock import Clock

RESET_REQUIRED = "Resetting the Virtual Machine is required"
NO_WAKEUP_SUPPORT = "wake-up from suspend is not supported by this guest"
NOT_CREATED = "the machine does not exist yet"
MIGRATION_NOT_FINALIZED = "Migration is not finalized yet"


class Observer(Protocol):
    """Somebody who is told what happens in a machine (`Machine.observer`); nothing may be changed from there."""

    def state_changed(self, old: RunState, new: RunState) -> None:
        """The machine has entered another run state."""

    def emitted(self, event: Event) -> None:
        """An event is emitted; a rate limit may still hold it back."""

    def guest_step(self, name: str) -> None:
        """The guest takes the next step of its course, named as in `Guest.query`."""


class Debugger(Protocol):
    """What is there for debuggers (`qmpd.debugger.stub.Stub`); `listens`: they can connect."""

    listens: bool

    def stopped(self, state: RunState) -> None:
        """The vCPUs have stopped, and the machine is in `state`."""

    def reset(self) -> None:
        """The machine was reset."""

    def ended(self, status: int) -> None:
        """The process is about to end with this exit status."""


def ignore_event(event: Event) -> None:
    """What becomes of an event where nobody listens."""


def ignore_report(line: str) -> None:
    """What becomes of a line for standard error where nobody takes it."""


def unknown_sender(pid: int) -> str | None:
    """The name of a process where nobody can tell it."""
    return None


class Machine:
    """The run-state core.

    `emit`, which is kept as `deliver`, is called with every event; `wake` when a request has come that makes a turn
    necessary (more than once, or from inside a turn's caller, is harmless); `report` with each line that QEMU would
    print on standard error, without the program's name.

    Attributes to read: `state`; `pending`: a turn has something to do; `exit_status`: set once the main
    loop has ended; `preconfig`: the machine waits for `x-exit-preconfig`; `autostart`; the four actions and
    `reboot_reset`; `requests`; `guest`: the virtual guest, or None.  `observer`: who watches, and `debugger`: what
    debuggers talk to; both None by default.  `sender_name` gives the name of the process with this id, for the report
    of a signal; None where there is none.
    """

    __slots__ = (
        "_activities", "_left", "_transitions", "_wake", "autostart", "behaviour", "busy_with", "clock", "debugger",
        "deliver", "exit_code", "exit_status", "guest", "has_run", "observer", "panic_action", "parts", "pending",
        "preconfig", "reboot_action", "reboot_reset", "report", "requests", "schedule", "sender_name", "settings",
        "shutdown_action", "stage_check", "start_by", "state", "was_suspended", "watchdog_action", "when_created",
    )

    def __init__(
        self,
        settings: MachineSettings,
        behaviour: CoreBehaviour,
        clock: Clock,
        emit: Callable[[Event], None],
        wake: Callable[[], None],
        report: Callable[[str], None] = ignore_report,
    ) -> None:
        self.settings = settings.begun_at(clock.wall_microseconds())
        self.behaviour = behaviour
        self.clock = clock
        self.report = report
        self.deliver = emit
        self._wake = wake
        self.observer: Observer | None = None
        self.sender_name: Callable[[int], str | None] = unknown_sender
        self._transitions = transitions(behaviour)
        self.requests = Requests()
        self.pending = False
        self.preconfig = settings.preconfig
        self.state = RunState(behaviour.preconfig_run_state) if self.preconfig else RunState.PRELAUNCH
        if settings.incoming is not None:
            self.state = RunState.INMIGRATE
        self.autostart = not settings.start_paused
        self.reboot_action = settings.reboot
        self.shutdown_action = settings.shutdown
        self.panic_action = settings.panic
        self.watchdog_action = settings.watchdog
        self.reboot_reset = settings.reboot_reset
        # Whether the guest slept (ACPI S3) when the machine was stopped, and still would.
        self.was_suspended = False
        # Whether the vCPUs have ever run: QEMU's virtual clock stands at 0 until then.
        self.has_run = False
        # The status that a shutdown requested by isa-debug-exit ends with.
        self.exit_code = 0
        self.exit_status: int | None = None
        self.schedule = Schedule(clock)
        self._activities: Activities | None = None
        # What the next turn has to do before all else.
        self._left: list[Callable[[], None]] | None = None
        # Whoever makes the machine gives it a guest, if it has one, and its objects and devices once they are wanted.
        self.guest: Guest | None = None
        self.parts: Parts | None = None
        # What there is to do once the machine exists; what sets it going where something is to be loaded first.
        self.when_created: Callable[[], None] | None = None
        self.start_by: Callable[[], None] | None = None
        self.busy_with: str | None = None  # Why nobody may stop it, or set it going, just now.
        self.debugger: Debugger | None = None
        # Asked at the start of every turn while a live update is under way.
        self.stage_check: Callable[[], None] | None = None

    # What the main loop and the devices are built from.

    def set_state(self, state: RunState) -> None:
        """Enter a run state.

        :raise InvalidTransition: the table does not allow it; a bug of the core.
        """
        if state is not self.state:
            if state not in self._transitions[self.state]:
                raise InvalidTransition(f"invalid runstate transition: '{self.state}' -> '{state}'")
            old, self.state = self.state, state
            if self.observer is not None:
                self.observer.state_changed(old, state)

    def may_enter(self, state: RunState) -> bool:
        """Whether the table allows `state` next."""
        return state is self.state or state in self._transitions[self.state]

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event that happens now."""
        event = Event(name, data, self.clock.wall_microseconds())
        if self.observer is not None:
            self.observer.emitted(event)
        self.deliver(event)

    def emit_cause(self, name: str, cause: ShutdownCause) -> None:
        """Emit RESET or SHUTDOWN, with its cause where the release tells it."""
        data: dict[str, object] | None = None
        if self.behaviour.events_carry_cause:
            data = {"guest": cause.by_guest, "reason": str(cause)}
        self.emit(name, data)

    def notify(self) -> None:
        """Ask for a turn (QEMU's `qemu_notify_event`)."""
        if not self.pending:
            self.pending = True
            self._wake()

    def later(self, action: Callable[[], None]) -> None:
        """Do something once the main loop has nothing more to execute, as what QEMU leaves to a callback."""
        self.schedule.soon(action)
        self._wake()

    def in_turn(self, action: Callable[[], None]) -> None:
        """Do something in the next turn, before all else there: what QEMU leaves to a bottom half."""
        if self._left is None:
            self._left = []
        self._left.append(action)
        self.notify()

    def run_left(self) -> bool:
        """Do what was left to the turn; whether there was something.  What that leaves waits for the turn after it."""
        if self._left is None:
            return False
        left, self._left = self._left, None
        for action in left:
            action()
        return True

    def end(self, status: int) -> None:
        """End the process with `status`, without SHUTDOWN: what a device does that calls exit()."""
        if self.exit_status is None:
            # A debugger is not told, either.
            self.debugger = None
            self.exit_status = status
            self.notify()

    def vm_stop(self, state: RunState) -> None:
        """Stop the vCPUs for the reason that `state` names, and emit STOP, where they run; let the disks come to rest.

        Where `stop` affects a suspended guest the same happens to one, but for states that the table keeps
        apart from `suspended` (an I/O error while it sleeps): QEMU aborts there, here it sleeps on.
        """
        if self._stops(state):
            self._stop(state)
        if self.parts is not None:
            self.parts.drain()

    def _stops(self, state: RunState) -> bool:
        """Whether there is something to stop."""
        if self.state is RunState.RUNNING:
            return True
        return self.state is RunState.SUSPENDED and self.behaviour.stop_affects_suspended and self.may_enter(state)

    def _stop(self, state: RunState) -> None:
        old = self.state
        self.was_suspended = old is RunState.SUSPENDED
        self.set_state(state)
        self.schedule.stop()
        if self.debugger is not None:
            self.debugger.stopped(state)
        self.emit("STOP")

    def vm_start(self) -> None:
        """Start the vCPUs and emit RESUME; nothing where they run.

        A stop that was requested and not served is taken back; where the vCPUs run, STOP and RESUME tell
        of it (QEMU's `vm_prepare_start`).
        """
        requested, self.requests.vmstop = self.requests.vmstop, None
        if self.state is RunState.RUNNING:
            if requested is not None:
                self.emit("STOP")
                self.emit("RESUME")
            return
        self.emit("RESUME")
        self.set_state(RunState.SUSPENDED if self.was_suspended else RunState.RUNNING)
        self.was_suspended = False
        self.has_run = True
        self.schedule.go_on()
        self.resume_all_vcpus()
        if self.parts is not None:
            self.parts.vcpus_run()
        if self.requests.suspend:
            self.notify()

    def resume_all_vcpus(self) -> None:
        """Set the vCPUs going, if the machine runs."""
        if self.state is RunState.RUNNING and self.guest is not None:
            self.guest.vcpus_run()

    def create(self) -> None:
        """What follows the end of configuration: the machine exists, and starts unless it waits for something."""
        self.preconfig = False
        if self.when_created is not None:
            self.when_created()
        if self.settings.incoming is None:
            self.set_state(RunState.PRELAUNCH)
            if self.start_by is not None:
                self.start_by()
            elif self.autostart:
                self.vm_start()

    # The life of the process.

    def start(self) -> None:
        """Begin: to be called once, before the first turn.

        :raise ValueError: there is no such run state as the settings have it begin in.
        """
        if self.settings.run_state is not None:
            self._find(RunState(self.settings.run_state))
        elif not self.preconfig:
            self.create()

    def _find(self, state: RunState) -> None:
        """Be in a run state that nobody saw it enter: a copy of a machine that is in it."""
        self.preconfig = self.autostart = False
        self.state = state
        self.has_run = state not in {RunState.PRELAUNCH, RunState.INMIGRATE}
        if self.guest is not None:
            self.guest.found(state)
        if state in LIVE:
            self.schedule.go_on()

    @property
    def activities(self) -> Activities:
        """Its long work; most machines have none, and nothing is kept for it."""
        if self._activities is None:
            self._activities = Activities(self.schedule, self._wake)
        return self._activities

    def next_deadline(self) -> int | None:
        """When the earliest timer is due, on the clock's monotonic nanoseconds; None without one."""
        return self.schedule.next_deadline()

    def run_timers(self) -> None:
        """Run what is due by now."""
        self.schedule.run()

    # Operations, named as QEMU names them.

    def stop(self) -> None:
        """Pause the guest (QMP `stop`); an incoming migration will leave it paused.

        :raise MachineError: the machine does not exist yet, or something has it stand still.
        """
        self._require_free()
        if self.state is RunState.INMIGRATE:
            self.autostart = False
        else:
            self.vm_stop(RunState.PAUSED)

    def cont(self) -> None:
        """Resume the guest (QMP `cont`); after an incoming migration it will start.

        :raise MachineError: only a reset helps, something has the machine stand still, or it does not exist yet.
        """
        self._require_free()
        state = self.state
        if state in NEEDS_RESET:
            raise MachineError(RESET_REQUIRED)
        if state is RunState.SUSPENDED:
            return
        if state is RunState.FINISH_MIGRATE:
            raise MachineError(MIGRATION_NOT_FINALIZED)
        if self.parts is not None:
            self.parts.continued()
        if state is RunState.INMIGRATE:
            self.autostart = True
        else:
            self.vm_start()

    def system_reset(self, cause: ShutdownCause = ShutdownCause.HOST_QMP_SYSTEM_RESET) -> None:
        """Ask for a reset (QEMU's `qemu_system_reset_request`).

        Under `no-reboot` or `reboot-reset` it becomes a shutdown with the reset's cause.  Whether that is announced
        as RESET is what `reboot-reset` says then, whatever it said before.

        :raise MachineError: the machine does not exist yet.
        """
        self._require_created()
        requests = self.requests
        requests.reset_time = self.clock.wall_microseconds()
        if cause is ShutdownCause.SUBSYSTEM_RESET:
            requests.reset = cause
        elif self.reboot_action is RebootAction.SHUTDOWN or self.reboot_reset:
            requests.shutdown = cause
            requests.reset_is_shutdown = self.reboot_reset
        else:
            requests.reset = cause
        self.notify()

    def system_powerdown(self) -> None:
        """Ask for a press of the power button (QMP `system_powerdown`).

        :raise MachineError: the machine does not exist yet.
        """
        self._require_created()
        self.requests.powerdown = True
        self.notify()

    def system_sleep(self) -> None:
        """Ask for a press of the sleep button.

        :raise MachineError: the machine does not exist yet.
        """
        self._require_created()
        self.requests.sleep = True
        self.notify()

    def system_suspend(self) -> None:
        """Ask for the guest to be suspended: what a guest's write to its ACPI registers does."""
        if self.state is not RunState.SUSPENDED:
            self.requests.suspend = True
            self.notify()

    def system_debug(self) -> None:
        """Ask for a stop in `debug`: what a breakpoint does."""
        self.requests.debug = True
        self.notify()

    def system_vmstop(self, state: RunState) -> None:
        """Ask for a stop in `state`: what a vCPU or a device does, which cannot stop the machine itself."""
        self.requests.vmstop = state
        self.notify()

    @property
    def wakeup_suspend_support(self) -> bool:
        """Whether the machine can wake a suspended guest (`query-current-machine`)."""
        return self.settings.wakes

    def system_wakeup(self, reason: WakeupReason = WakeupReason.OTHER) -> None:
        """Wake a suspended guest (QMP `system_wakeup`): it is `running` at once, the rest waits for the turn.

        :raise MachineError: the machine cannot, or the guest is not suspended; where the release tells of that.
        """
        if not self.behaviour.wakeup_refused:
            if self.state is not RunState.SUSPENDED:
                return
        elif not self.wakeup_suspend_support:
            raise MachineError(NO_WAKEUP_SUPPORT)
        elif self.state is not RunState.SUSPENDED:
            raise MachineError(NOT_SUSPENDED)
        self.set_state(RunState.RUNNING)
        self.requests.wakeup = reason
        self.notify()

    def system_shutdown(self, cause: ShutdownCause, exit_code: int | None = None) -> None:
        """Ask for a shutdown; `exit_code` is kept for the one that ends the process, be it this or a later one.

        One that stands for a reset and waits for its turn gets this cause, and is announced as RESET all the same.
        """
        if exit_code is not None:
            self.exit_code = exit_code
        self.requests.shutdown = cause
        self.notify()

    def quit(self, cause: ShutdownCause = ShutdownCause.HOST_QMP_QUIT) -> None:
        """End the process by a shutdown, whatever the shutdown action was (QMP `quit`)."""
        self.shutdown_action = ShutdownAction.POWEROFF
        self.system_shutdown(cause)

    def request_shutdown_by_signal(self, number: int, pid: int = 0) -> None:
        """End the process as a signal does; `pid` is the sender's, 0 where it is not known.

        The turn that serves it reports who sent it, by the name that `sender_name` then gives.
        """
        self.requests.signal = (number, pid)
        self.quit(ShutdownCause.HOST_SIGNAL)

    def inject_nmi(self) -> None:
        """Inject a non-maskable interrupt into all vCPUs (QMP `inject-nmi`).

        :raise MachineError: the machine has none.
        """
        if self.guest is None:
            raise MachineError(self.behaviour.no_nmi)
        self.guest.nmi()

    def set_action(
        self,
        *,
        reboot: RebootAction | None = None,
        shutdown: ShutdownAction | None = None,
        panic: PanicAction | None = None,
        watchdog: WatchdogAction | None = None,
    ) -> None:
        """Change what the machine does when something happens to the guest (QMP `set-action`)."""
        if reboot is not None:
            self.reboot_action = reboot
        if panic is not None:
            self.panic_action = panic
        if watchdog is not None:
            self.watchdog_action = watchdog
        if shutdown is not None:
            self.shutdown_action = shutdown

    def watchdog_set_action(self, action: WatchdogAction) -> None:
        """Change what an expired watchdog does (QMP `watchdog-set-action`)."""
        self.watchdog_action = action

    def _require_created(self) -> None:
        if self.preconfig:
            raise MachineError(NOT_CREATED)

    def _require_free(self) -> None:
        self._require_created()
        if self.busy_with is not None:
            raise MachineError(self.busy_with)

    def exit_preconfig(self) -> None:
        """Create the machine (QMP `x-exit-preconfig`); where `preconfig` is a run state, in the next turn.

        :raise MachineError: the machine exists.
        """
        if not self.preconfig:
            raise MachineError(self.behaviour.exit_preconfig_refusal)
        if self.state is RunState.PRECONFIG:
            self.requests.exit_preconfig = True
            self.notify()
        else:
            self.create()
