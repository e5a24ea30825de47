"""What a machine must do, as the soak expects it: a small model that shares no code with qmpd.

It knows the commands that the soak sends, spells replies and events byte by byte, and has a clock that moves when it is
told to.  Whatever a command asks of the main loop is served before the model returns, as in a machine that waits for
its next command.  (QEMU's docs/interop/qmp-spec, docs/devel's run states, and recordings of the releases.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from endurance import plugged
from endurance.plugged import Plugged, PlugRules, Refused

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
EPOCH = 1_700_000_000_000_000
"""Microseconds that a virtual clock shows at first."""

FIRST_NOTE, NOTE, END, AGAIN = 10 * MILLISECOND, 600_000, 60 * MILLISECOND, 35 * MILLISECOND
"""SeaBIOS: until it notes that it has run, the first time and later; to its end; until it resets a second time."""

BOOT, POWERDOWN, RESUME = 2 * SECOND, 3 * SECOND // 2, MILLISECOND
"""The guest of the soak: how long it boots, shuts down and wakes up."""

UNPLUG, INFLATE = 700 * MILLISECOND, 300 * MILLISECOND
"""How long it takes to let go of a device, and to follow the balloon."""


@dataclass(frozen=True)
class Rules:
    """Where the releases differ."""

    version: tuple[int, int, int]
    reply_first: bool = False
    singlestep: bool = False
    stop_wakes: bool = False
    panic_twice: bool = False
    has_set_action: bool = True
    debug_exit_told: bool = False
    qom_path: bool = False
    postcopy: str = "postcopy-active"
    no_nmi: str = "this feature or command is not currently supported"
    plugging: PlugRules = field(default_factory=PlugRules)


RULES = {
    "5.2": Rules((5, 2, 0), reply_first=True, singlestep=True, panic_twice=True, has_set_action=False,
                 plugging=plugged.OLD),
    "7.2": Rules((7, 2, 22), singlestep=True),
    "10.0": Rules((10, 0, 13), stop_wakes=True, debug_exit_told=True, qom_path=True,
                  postcopy="postcopy-active or postcopy-recover", no_nmi="machine does not provide NMIs"),
    "11.1": Rules((11, 1, 3), stop_wakes=True, debug_exit_told=True, qom_path=True,
                  postcopy="postcopy-active or postcopy-recover", no_nmi="machine does not provide NMIs",
                  plugging=plugged.NEW),
}  # fmt: skip

EMPTY = "{}"
CHOICES = {
    "reboot": ("reset", "shutdown"),
    "shutdown": ("poweroff", "pause"),
    "panic": ("pause", "shutdown", "exit-failure", "none"),
    "watchdog": ("reset", "shutdown", "poweroff", "pause", "debug", "none"),
}
"""The values of `set-action`'s arguments that the soak sends."""


@dataclass
class Machine:
    """One machine.  `said` are the events since it was last emptied."""

    release: str
    has_guest: bool
    now: int = 0
    state: str = "running"
    ended: bool = False
    was_suspended: bool = False
    reboot: str = "reset"
    shutdown: str = "poweroff"
    panic: str = "shutdown"
    watchdog: str = "reset"
    # The guest: its phase, its next steps and how many nanoseconds of its own time are left until each.
    phase: str = "reset"
    timers: dict[str, int] = field(default_factory=dict)
    has_run: bool = False
    # How often the firmware was set going.
    starts: int = 0
    # The events that are limited: until when, and the one that waits.
    limited: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    plugged: Plugged = field(init=False)

    def __post_init__(self) -> None:
        self.plugged = Plugged(self.rules.plugging, self.has_guest)
        if self.phase == "reset" and self.state == "running":
            self._vcpus_run()

    @property
    def rules(self) -> Rules:
        return RULES[self.release]

    def copy(self) -> Machine:
        """Another one in the same state."""
        other = copy.copy(self)
        other.said = list(self.said)
        other.timers = dict(self.timers)
        other.limited = dict(self.limited)
        other.plugged = self.plugged.copy()
        return other

    def key(self) -> str:
        """All of its state as text."""
        return repr(self)

    # What it says

    def _event(self, name: str, data: str = "") -> None:
        self.said.append(event_line(name, data, EPOCH + self.now // 1000))

    def tell(self, name: str, data: str) -> None:
        """Something else than what this model is of has happened in it: an event of that."""
        self._event(name, data)

    def _limited_event(self, name: str, data: str) -> None:
        """An event that comes once a second at most; the last of those that come meanwhile comes then."""
        line = event_line(name, data, EPOCH + self.now // 1000)
        if name in self.limited:
            self.limited[name] = (self.limited[name][0], line)
        else:
            self.limited[name] = (self.now + SECOND, None)
            self.said.append(line)

    @property
    def owes(self) -> bool:
        """Whether there are events that come later than what brought them about."""
        return self.plugged.owes(self.now) and not self.ended

    def tell_later(self) -> None:
        """What comes later has come."""
        if self.owes:
            for data in self.plugged.tell():
                self._event("DEVICE_DELETED", data)

    def take(self) -> list[str]:
        """The events since the last time."""
        said, self.said = self.said, []
        return said

    # Commands

    def execute(self, name: str, arguments: dict[str, Any], negotiated: bool) -> str:
        """Execute a command; the `return` of its reply.  The events it brought about are in `said`.

        :raise Refused: it fails.
        """
        if not negotiated:
            raise Refused("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        if name == "query-balloon":
            if not self.plugged.has_balloon:
                raise Refused(plugged.NO_BALLOON, "DeviceNotActive")
            return f'{{"actual": {self.plugged.actual}}}'
        if name in plugged.COMMANDS:
            try:
                self._ask(self.plugged.execute(name, arguments))
            finally:
                if self.plugged.until == plugged.AT_ONCE:
                    self.tell_later()
            return EMPTY
        method = getattr(self, "_" + name.replace("-", "_"), None)
        if method is None or (name == "set-action" and not self.rules.has_set_action):
            raise Refused(f"The command {name} has not been found", "CommandNotFound")
        if arguments and name not in ("set-action", "watchdog-set-action", "live-update-commit"):
            raise Refused(f"Parameter '{next(iter(arguments))}' is unexpected")
        result: str = method(**arguments)
        return result

    def _query_status(self) -> str:
        singlestep = '"singlestep": false, ' if self.rules.singlestep else ""
        running = "true" if self.state == "running" else "false"
        return f'{{"status": "{self.state}", {singlestep}"running": {running}}}'

    def _query_name(self) -> str:
        return EMPTY

    def _query_uuid(self) -> str:
        return '{"UUID": "00000000-0000-0000-0000-000000000000"}'

    def _query_kvm(self) -> str:
        return '{"enabled": false, "present": true}'

    def _query_qmp_schema(self) -> str:
        return '"<schema>"'

    def _live_update_commit(self, timeout: int) -> str:
        return EMPTY

    def _query_current_machine(self) -> str:
        return f'{{"wakeup-suspend-support": {"true" if self.has_guest else "false"}}}'

    def _migrate_pause(self) -> str:
        raise Refused(f"migrate-pause is currently only supported during {self.rules.postcopy} state")

    def _qmp_capabilities(self) -> str:
        raise Refused("Capabilities negotiation is already complete, command ignored", "CommandNotFound")

    def _set_action(self, **actions: str) -> str:
        for name, value in actions.items():
            if name not in CHOICES:
                raise Refused(f"Parameter '{name}' is unexpected")
            if value not in CHOICES[name]:
                raise Refused(f"Parameter '{name}' does not accept value '{value}'")
        for name, value in actions.items():
            setattr(self, name, value)
        return EMPTY

    def _watchdog_set_action(self, action: str = "") -> str:
        if not action:
            raise Refused("Parameter 'action' is missing")
        self.watchdog = action
        return EMPTY

    def _stop(self) -> str:
        self._vm_stop("paused")
        return EMPTY

    def _cont(self) -> str:
        if self.state in ("internal-error", "shutdown"):
            raise Refused("Resetting the Virtual Machine is required")
        if self.state not in ("suspended", "running"):
            self._event("RESUME")
            self.state = "suspended" if self.was_suspended else "running"
            self.was_suspended = False
            self._vcpus_run()
        return EMPTY

    def _system_reset(self) -> str:
        self._reset_request("host-qmp-system-reset")
        return EMPTY

    def _system_powerdown(self) -> str:
        self._powerdown()
        return EMPTY

    def _system_wakeup(self) -> str:
        if not self.has_guest:
            raise Refused("wake-up from suspend is not supported by this guest")
        if self.state != "suspended":
            raise Refused("Unable to wake up: guest is not in suspended state")
        self.state = "running"
        self.timers.clear()
        self.plugged.reset(self.now)
        if self.phase == "suspended":
            self.phase = "resuming"
            self._set("resumed", RESUME)
        self._vcpus_run()
        self._event("WAKEUP")
        return EMPTY

    def _inject_nmi(self) -> str:
        if not self.has_guest:
            raise Refused(self.rules.no_nmi)
        return EMPTY

    def _quit(self) -> str:
        self.shutdown = "poweroff"
        self._shutdown("host-qmp-quit")
        return EMPTY

    # What the main loop does about it

    def _vm_stop(self, state: str) -> None:
        if self.state == "suspended":
            if not self.rules.stop_wakes or state not in ("paused", "shutdown"):
                return
        elif self.state != "running":
            return
        self.was_suspended = self.state == "suspended"
        self.state = state
        self._event("STOP")

    def _shutdown(self, cause: str) -> None:
        self._event("SHUTDOWN", cause_data(cause))
        if self.shutdown == "pause":
            self._vm_stop("shutdown")
        else:
            self.ended = True

    def _reset_request(self, cause: str) -> None:
        if self.reboot == "shutdown":
            self._shutdown(cause)
            return
        self.phase = "reset"
        self.timers.clear()
        self.plugged.reset(self.now)
        self._event("RESET", cause_data(cause))
        self.was_suspended = False
        self._vcpus_run()
        if self.state != "running":
            self.state = "prelaunch"

    def _powerdown(self) -> None:
        self._event("POWERDOWN")
        if self.phase == "running":
            self.phase = "shutting-down"
            self._set("power-button", POWERDOWN)

    # The guest's course

    def _set(self, name: str, left: int) -> None:
        self.timers.pop(name, None)
        self.timers[name] = left

    def _ask(self, timer: str) -> None:
        """Ask the guest for what this timer stands for; it hears it where its operating system runs."""
        if timer and self.phase == "running":
            self._set(timer, INFLATE if timer == "balloon" else UNPLUG)

    def _hear(self) -> None:
        """The operating system runs from now on, and is asked for what it has not done yet."""
        self.phase = "running"
        for name in self.plugged.pending:
            self._ask(f"unplug {name}")
        if self.plugged.has_balloon and self.plugged.actual != self.plugged.target:
            self._ask("balloon")

    def _vcpus_run(self) -> None:
        if self.phase != "reset" or self.state != "running" or not self.has_guest:
            return
        self.starts += 1
        if self.has_run:
            self.phase = "restart"
            self._set("reset", AGAIN)
        else:
            self.phase = "firmware"
            self._set("note", self._until_note)

    @property
    def _until_note(self) -> int:
        return NOTE if self.starts > 1 else FIRST_NOTE

    @property
    def ticking(self) -> bool:
        """Whether the guest's time goes on."""
        return self.state in ("running", "suspended") and bool(self.timers)

    def _take_step(self, step: str) -> None:
        self.timers.pop(step, None)
        if step == "reset":
            self.has_run = False
            self.phase = "stopping"
            self._reset_request("guest-reset")
        elif step == "note":
            self.has_run = True
            self._set("end", END - self._until_note)
        elif step == "end":
            self.phase = "booting"
            self._set("booted", BOOT)
        elif step == "power-button":
            self.phase = "stopping"
            self.timers.clear()
            self._shutdown("guest-shutdown")
        elif step == "balloon":
            if self.plugged.has_balloon:
                self._settle_balloon(self.plugged.target)
        elif step.startswith("unplug "):
            name = step.removeprefix("unplug ")
            if name in self.plugged.pending:
                self.plugged.release(name, self.now)
        else:
            self._hear()

    def _settle_balloon(self, size: int) -> None:
        if self.plugged.actual != size:
            self.plugged.actual = size
            self._limited_event("BALLOON_CHANGE", f'{{"actual": {size}}}')

    def _due(self) -> str:
        """The step that comes first."""
        return min(self.timers, key=self.timers.__getitem__)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        end = self.now + nanoseconds
        while not self.ended:
            due = [until for until, _ in self.limited.values()]
            if self.plugged.gone:
                due.append(self.plugged.until)
            if self.ticking:
                due.append(self.now + self.timers[self._due()])
            if not due or min(due) > end:
                break
            moment = max(self.now, min(due))
            self._pass(moment)
            while self.ticking and self.timers[self._due()] == 0:
                self._take_step(self._due())
            for name, (until, waits) in list(self.limited.items()):
                if until > moment:
                    continue
                if waits is None:
                    del self.limited[name]
                else:
                    self.limited[name] = (moment + SECOND, None)
                    self.said.append(waits)
            self.tell_later()
        if not self.ended:
            self._pass(end)

    def _pass(self, moment: int) -> None:
        if self.ticking:
            passed = moment - self.now
            self.timers = {name: left - passed for name, left in self.timers.items()}
        self.now = moment

    # What the guest is made to do

    def act(self, name: str, arguments: dict[str, Any]) -> None:
        """Do what the control command `guest-...` of this name says.

        :raise Refused: it cannot.
        """
        if not self.has_guest:
            raise Refused("the machine has no guest")
        if name == "proceed":
            self._proceed()
            return
        if name == "io-error":
            self._io_error()
            return
        if name == "wake":
            self._system_wakeup()
            return
        if self.state != "running":
            raise Refused("the guest does not run")
        if name in ("release-device", "refuse-device", "set-balloon"):
            getattr(self, "_guest_" + name.replace("-", "_"))(**arguments)
            return
        if name not in ("expire-watchdog", "internal-error", "crash-load"):
            self.timers.clear()
            self.phase = "halted" if name in ("halt", "panic") else "stopping"
        getattr(self, "_guest_" + name.replace("-", "_"))()

    def _proceed(self) -> None:
        if self.state not in ("running", "suspended"):
            raise Refused("the guest does not run")
        if not self.timers:
            raise Refused("the guest waits for nothing")
        self._take_step(self._due())

    def _io_error(self) -> None:
        path = '"qom-path": "/machine/peripheral/disk0", ' if self.rules.qom_path else ""
        reason = '"reason": "Input/output error", "operation": "write", "action": "stop"'
        self._event("BLOCK_IO_ERROR", f'{{"device": "disk0", "nospace": false, {path}{reason}}}')
        self._vm_stop("io-error")

    def _guest_halt(self) -> None:
        pass

    def _guest_reboot(self) -> None:
        self._reset_request("guest-reset")

    _guest_triple_fault = _guest_reboot

    def _guest_shut_down(self) -> None:
        self._shutdown("guest-shutdown")

    def _guest_hibernate(self) -> None:
        self._event("SUSPEND_DISK")
        self._shutdown("guest-shutdown")

    def _guest_suspend(self) -> None:
        self.phase = "suspended"
        self.state = "suspended"
        self._event("SUSPEND")

    def _guest_panic(self) -> None:
        if self.panic == "none":
            self._event("GUEST_PANICKED", '{"action": "run"}')
            return
        pauses = self.panic == "pause" or (self.panic == "shutdown" and self.shutdown == "pause")
        if pauses or self.rules.panic_twice:
            self._event("GUEST_PANICKED", '{"action": "pause"}')
        if not pauses:
            self._event("GUEST_PANICKED", '{"action": "poweroff"}')
            self._shutdown("guest-panic")
        if not self.ended:
            self._vm_stop("guest-panicked")

    def _guest_crash_load(self) -> None:
        self._event("GUEST_CRASHLOADED", '{"action": "run"}')

    def _guest_internal_error(self) -> None:
        self._vm_stop("internal-error")

    def _guest_debug_exit(self) -> None:
        if self.rules.debug_exit_told:
            self._shutdown("guest-shutdown")
        else:
            self.ended = True

    def _guest_expire_watchdog(self) -> None:
        self._limited_event("WATCHDOG", f'{{"action": "{self.watchdog}"}}')
        if self.watchdog == "reset":
            self._reset_request("guest-reset")
        elif self.watchdog == "shutdown":
            self._powerdown()
        elif self.watchdog == "poweroff":
            self.ended = True
        elif self.watchdog == "pause":
            self._vm_stop("watchdog")

    def _guest_release_device(self, device: str) -> None:
        self.plugged.find(device)
        self.plugged.release(device, self.now)

    def _guest_refuse_device(self, device: str) -> None:
        found = self.plugged.find(device)
        if not found.pending:
            raise Refused(f"the guest is not asked to let go of '{device}'")
        found.pending = False
        if self.rules.plugging.refusal_told:
            path = f"/machine/peripheral/{device}"
            self._event("DEVICE_UNPLUG_GUEST_ERROR", f'{{"device": "{device}", "path": "{path}"}}')

    def _guest_set_balloon(self, size: int) -> None:
        if not self.plugged.has_balloon:
            raise Refused("the machine has no balloon")
        self._settle_balloon(size)


def cause_data(cause: str) -> str:
    """The data of RESET and SHUTDOWN."""
    return f'{{"guest": {"true" if cause.startswith("guest") else "false"}, "reason": "{cause}"}}'


def event_line(name: str, data: str, microseconds: int) -> str:
    """An event as it is sent."""
    seconds, rest = divmod(microseconds, 1_000_000)
    timestamp = f'{{"timestamp": {{"seconds": {seconds}, "microseconds": {rest}}}, "event": "{name}"'
    return timestamp + (f', "data": {data}' if data else "") + "}\r\n"


def reply_line(machine: Machine, name: str, arguments: dict[str, Any], negotiated: bool, identity: str) -> str:
    """The reply to a command, which is executed; `identity` is the JSON text of its id, as it is told."""
    try:
        return f'{{"return": {machine.execute(name, arguments, negotiated)}, "id": {identity}}}\r\n'
    except Refused as refused:
        description = f'"error": {{"class": "{refused.error_class}", "desc": "{refused.text}"}}'
        return f'{{"id": {identity}, {description}}}\r\n'
