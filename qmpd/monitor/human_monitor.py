"""The human monitor, as far as `human-monitor-command` reaches it: one line in, its output back.

A line's first word ends at a blank or a slash; commands without parameters refuse what follows them
(lifecycle.jsonl, scenarios `hmp ...`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.machine import MachineError, RunState, ShutdownCause
from qmpd.machine.settings import WatchdogAction
from qmpd.monitor.commands.machine import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.dispatcher import Dispatcher

_WORD = re.compile(r"[ \t\n\v\f\r]*([^ \t\n\v\f\r/]*)")


def _info_status(dispatcher: Dispatcher) -> str:
    state = dispatcher.machine.state
    if state is RunState.RUNNING:
        return "VM status: running\n"
    return "VM status: paused\n" if state is RunState.PAUSED else f"VM status: paused ({state})\n"


def _info_version(dispatcher: Dispatcher) -> str:
    release = dispatcher.release
    return ".".join(map(str, release.version)) + release.package + "\n"


def _info_name(dispatcher: Dispatcher) -> str:
    name = dispatcher.settings.name
    return "" if name is None else name + "\n"


def _info_uuid(dispatcher: Dispatcher) -> str:
    return (dispatcher.settings.uuid or NO_UUID) + "\n"


def _stop(dispatcher: Dispatcher) -> str:
    dispatcher.machine.stop()
    return ""


def _cont(dispatcher: Dispatcher) -> str:
    dispatcher.machine.cont()
    return ""


def _system_reset(dispatcher: Dispatcher) -> str:
    dispatcher.machine.system_reset(ShutdownCause.HOST_QMP_SYSTEM_RESET)
    return ""


def _system_powerdown(dispatcher: Dispatcher) -> str:
    dispatcher.machine.system_powerdown()
    return ""


def _system_wakeup(dispatcher: Dispatcher) -> str:
    dispatcher.machine.system_wakeup()
    return ""


def _quit(dispatcher: Dispatcher) -> str:
    dispatcher.machine.quit(ShutdownCause.HOST_QMP_QUIT)
    return ""


def _nmi(dispatcher: Dispatcher) -> str:
    dispatcher.machine.inject_nmi()
    return ""


COMMANDS: dict[str, Callable[[Dispatcher], str]] = {
    "stop": _stop,
    "cont": _cont,
    "system_reset": _system_reset,
    "system_powerdown": _system_powerdown,
    "system_wakeup": _system_wakeup,
    "quit": _quit,
    "nmi": _nmi,
}
INFORMATION: dict[str, Callable[[Dispatcher], str]] = {
    "status": _info_status,
    "version": _info_version,
    "name": _info_name,
    "uuid": _info_uuid,
}


def execute_line(dispatcher: Dispatcher, line: str) -> str:
    """Execute one line and give what it prints, its lines ended by a line feed."""
    match = _WORD.match(line)
    assert match is not None
    word, rest = match[1], line[match.end() :]
    if not line.strip():
        return ""
    table = dispatcher.release.human_monitor
    name = table.commands.get(word)
    if name is None:
        return f"unknown command: '{word}'\n"
    if word in ("help", "?"):
        return table.help(rest.split())
    known: dict[str, Callable[[Dispatcher], str]] = COMMANDS
    title, path = name, word
    if word == "info":
        match = _WORD.match(rest)
        assert match is not None
        if not rest.strip():
            return table.help(["info"])
        subword = match[1]
        title = table.information.get(subword, "")
        if not title:
            return f"unknown command: 'info {subword}'\n"
        known, path, rest = INFORMATION, f"info {subword}", rest[match.end() :]
        word = subword
    if word == "watchdog_action":
        return _watchdog_action(dispatcher, rest.split())
    primary = title.split("|")[0]
    action = known.get(primary)
    if action is None:
        return f"Error: qmpd does not model the command {path}\n"
    if rest.strip():
        shown = path if known is INFORMATION else word
        return f'{title}: extraneous characters at the end of line\nTry "help {shown}" for more information\n'
    try:
        return action(dispatcher)
    except MachineError as error:
        return f"Error: {error.message}\n"


def _watchdog_action(dispatcher: Dispatcher, words: list[str]) -> str:
    try:
        (word,) = words
        action = WatchdogAction(word)
    except ValueError:
        return f"Error: invalid parameter value: {' '.join(words)}\n"
    dispatcher.machine.watchdog_set_action(action)
    return ""
