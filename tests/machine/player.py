"""Plays a recorded scenario on the run-state core alone: no socket, no session, virtual time.

A command is the operation of the same name; what comes back is put together as a monitor would, with the
reply before or after the turn as the release does it.  Each step lasts as the recorder's did: until the
line has been quiet for a while, three seconds at most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from qmpd.guest.making import make_machine
from qmpd.machine import (
    Device,
    Event,
    GuestAction,
    GuestSettings,
    Machine,
    MachineError,
    MachineSettings,
    PanicAction,
    RebootAction,
    ShutdownAction,
    VirtualClock,
    WatchdogAction,
    main_loop,
)
from qmpd.qapi import Release, load_release

SECOND = 1_000_000_000
STEP_LIMIT = 3 * SECOND

ON_BOOT = {
    "kbd": GuestAction.REBOOT,
    "triple": GuestAction.TRIPLE_FAULT,
    "s5": GuestAction.SHUTDOWN,
    "s3": GuestAction.SUSPEND,
    "s4": GuestAction.HIBERNATE,
    "panic": GuestAction.PANIC,
    "crashloaded": GuestAction.CRASH_LOAD,
    "watchdog": GuestAction.WATCHDOG,
    "isaexit": GuestAction.DEBUG_EXIT,
    "halt": GuestAction.HALT,
}
"""What each of the recorder's boot sectors does."""

ANY = "any reply"
"""Stands for the reply to a command that is not the core's."""


@dataclass
class Played:
    """What came back: one list a step, and the exit status if the machine ended."""

    steps: list[list[object]] = field(default_factory=list)
    exit_status: int | None = None


def settings_of(scenario: dict[str, Any], firmware_resets: int = 1) -> MachineSettings:
    """The settings that a scenario's command line asks for."""
    settings: dict[str, Any] = {"devices": ()}
    words = iter(scenario["options"])
    for word in words:
        _option(settings, word, words)
    resets = (firmware_resets, firmware_resets)
    if scenario["guest"] is not None:
        guest = GuestSettings(on_boot=ON_BOOT[scenario["guest"]], firmware_resets=resets)
    else:
        guest = GuestSettings(operating_system=False, firmware_resets=resets)
    return MachineSettings(**settings, guest=guest)


def _option(settings: dict[str, Any], word: str, words: Iterator[str]) -> None:
    match word:
        case "-S":
            settings["start_paused"] = True
        case "-no-reboot":
            settings["reboot"] = RebootAction.SHUTDOWN
        case "-no-shutdown":
            settings["shutdown"] = ShutdownAction.PAUSE
        case "-preconfig":
            settings["preconfig"] = True
        case "-nodefaults":
            pass
        case "-machine":
            settings["machine_type"] = next(words).split(",")[0]
        case "-display" | "-m":
            next(words)
        case "-incoming":
            settings["incoming"] = next(words)
        case "-device":
            settings["devices"] += (Device(driver=next(words)),)
        case "-watchdog-action":
            settings["watchdog"] = WatchdogAction(next(words))
        case "-action":
            for pair in next(words).split(","):
                name, _, value = pair.partition("=")
                settings[name] = _ACTIONS[name](value)
        case _:
            raise ValueError(f"unknown option {word}")


_ACTIONS: dict[str, Callable[[str], object]] = {
    "reboot": RebootAction,
    "shutdown": ShutdownAction,
    "panic": PanicAction,
    "watchdog": WatchdogAction,
}


class Player:
    """One machine of one release, on a clock of its own."""

    def __init__(self, release: str, settings: MachineSettings) -> None:
        self.release: Release = load_release(release)
        self.behaviour = self.release.behaviour
        self.clock = VirtualClock()
        self.lines: list[object] = []
        self.last_line = 0
        self.last_watchdog = -SECOND
        self.exit_status: int | None = None
        self.machine, _ = make_machine(settings, self.behaviour, self.clock, self._event, lambda: None)
        self.machine.start()
        self._turns()

    def _line(self, line: object) -> None:
        self.lines.append(line)
        self.last_line = self.clock.monotonic_nanoseconds()

    def _event(self, event: Event) -> None:
        if event.name == "WATCHDOG":
            # The monitor lets one a second through; the later ones of a second do not matter here.
            now = self.clock.monotonic_nanoseconds()
            if now - self.last_watchdog < SECOND:
                return
            self.last_watchdog = now
        line: dict[str, object] = {"event": event.name}
        if event.data is not None:
            line["data"] = event.data
        self._line(line)

    def _turns(self) -> None:
        while self.machine.pending and self.exit_status is None:
            self.exit_status = main_loop.turn(self.machine)

    def advance(self, until: int) -> None:
        """Let time pass up to `until`, or to the machine's end."""
        while self.exit_status is None:
            deadline = self.machine.next_deadline()
            if deadline is None or deadline > until:
                break
            self.clock.advance(max(0, deadline - self.clock.monotonic_nanoseconds()))
            self.machine.run_timers()
            self._turns()
        self.clock.advance(max(0, until - self.clock.monotonic_nanoseconds()))

    def step(self, sent: str, quiet: int) -> list[object]:
        """Send commands; what came back until nothing had come for `quiet` nanoseconds."""
        self.lines = []
        self.last_line = start = self.clock.monotonic_nanoseconds()
        decoder = json.JSONDecoder()
        while sent and self.exit_status is None:
            request, end = decoder.raw_decode(sent)
            sent = sent[end:].lstrip()
            self._command(request["execute"], request.get("arguments", {}))
        end_of_step = start + STEP_LIMIT
        while self.exit_status is None:
            until = min(self.last_line + quiet, end_of_step)
            if self.clock.monotonic_nanoseconds() >= until:
                break
            deadline = self.machine.next_deadline()
            self.advance(until if deadline is None else min(until, deadline))
        return self.lines

    def _command(self, name: str, arguments: dict[str, Any]) -> None:
        try:
            reply = self._execute(name, arguments)
        except MachineError as error:
            reply = {"error": error.message}
        if self.behaviour.reply_after_turn:
            self._turns()
            self._line(reply)
        else:
            self._line(reply)
            self._turns()

    def _execute(self, name: str, arguments: dict[str, Any]) -> object:
        machine = self.machine
        if name == "human-monitor-command":
            name = arguments["command-line"]
            if name not in ("stop", "cont", "c", "system_reset", "system_powerdown", "system_wakeup", "quit"):
                return ANY
            name = {"c": "cont"}.get(name, name)
            self._execute(name, {})
            return ANY
        if name == "query-status":
            return {"status": machine.state, "running": machine.state == "running"}
        operation = _OPERATIONS.get(name)
        if operation is None or name not in self.release.commands:
            return ANY
        if machine.preconfig and not self.release.commands[name].allow_preconfig:
            return ANY
        try:
            values = {key: _ACTIONS[_ARGUMENTS.get(key, key)](value) for key, value in arguments.items()}
        except (KeyError, ValueError):
            return ANY
        operation(machine, **values)
        return "return"


_ARGUMENTS = {"action": "watchdog"}
_OPERATIONS: dict[str, Callable[..., None]] = {
    "stop": Machine.stop,
    "cont": Machine.cont,
    "system_reset": Machine.system_reset,
    "system_powerdown": Machine.system_powerdown,
    "system_wakeup": Machine.system_wakeup,
    "quit": Machine.quit,
    "inject-nmi": Machine.inject_nmi,
    "set-action": Machine.set_action,
    "watchdog-set-action": Machine.watchdog_set_action,
    "x-exit-preconfig": Machine.exit_preconfig,
}


def recorded_line(line: str) -> object:
    """A recorded line, as the player writes lines."""
    value = json.loads(line.replace('"timestamp": T', '"timestamp": null'))
    if "event" in value:
        del value["timestamp"]
        return value
    if "error" in value:
        return {"error": value["error"]["desc"]}
    result = value["return"]
    if isinstance(result, dict) and "status" in result:
        return {"status": result["status"], "running": result["running"]}
    return "return" if result == {} else ANY


def quiet_of(group: str, number: int, sent: str) -> int:
    """How long the recorder waited for silence after a step, in nanoseconds."""
    if "query-status" in sent or "qmp_capabilities" in sent:
        milliseconds = 80 if group == "lifecycle" else 250
    elif group == "lifecycle":
        milliseconds = 300
    elif number == 1 or "system_wakeup" in sent:
        milliseconds = 1300 if '"cont"' in sent else 1000
    else:
        milliseconds = 250
    return milliseconds * 1_000_000


def play(release: str, group: str, scenario: dict[str, Any], firmware_resets: int = 1) -> Played:
    """Play one scenario."""
    player = Player(release, settings_of(scenario, firmware_resets))
    played = Played()
    for number, step in enumerate(scenario["steps"]):
        played.steps.append(player.step(step["send"], quiet_of(group, number, step["send"])))
    played.exit_status = player.exit_status
    return played


def recorded(scenario: dict[str, Any]) -> Played:
    """What was recorded, in the player's form."""
    return Played(
        # A greeting that came late is among the lines of two runs of 5.2.
        [[recorded_line(line) for line in step["recv"] if '"QMP"' not in line] for step in scenario["steps"]],
        scenario.get("exit"),
    )
