"""The human monitor, as far as `human-monitor-command` reaches it: one line in, its output back.

A line's first word ends at a blank or a slash; commands without parameters refuse what follows them
(lifecycle.jsonl, scenarios `hmp ...`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.human import declared
from qmpd.human import parts as human_parts
from qmpd.machine import RunState, ShutdownCause
from qmpd.machine.blueprint import WatchdogAction
from qmpd.monitor.commands.machine import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

    Action = Callable[[System, str], str]

_WORD = re.compile(r"[ \t\n\v\f\r]*([^ \t\n\v\f\r/]*)")
_LOOKING = re.compile(r"\s*info\s+(block|snapshots)")


def _word(line: str, start: int) -> tuple[str, int]:
    """The word that begins at `start` or after the blanks there, and where it ends."""
    match = _WORD.match(line, start)
    assert match is not None
    return match[1], match.end()


def _info_status(system: System, argument: str) -> str:
    state = system.machine.state
    if state is RunState.RUNNING:
        return "VM status: running\n"
    return "VM status: paused\n" if state is RunState.PAUSED else f"VM status: paused ({state})\n"


def _info_version(system: System, argument: str) -> str:
    release = system.release
    return ".".join(map(str, release.version)) + release.package + "\n"


def _info_name(system: System, argument: str) -> str:
    name = system.settings.name
    return "" if name is None else name + "\n"


def _info_uuid(system: System, argument: str) -> str:
    return (system.settings.uuid or NO_UUID) + "\n"


def _stop(system: System, argument: str) -> str:
    system.machine.stop()
    return ""


def _cont(system: System, argument: str) -> str:
    system.machine.cont()
    return ""


def _system_reset(system: System, argument: str) -> str:
    system.machine.system_reset(ShutdownCause.HOST_QMP_SYSTEM_RESET)
    return ""


def _system_powerdown(system: System, argument: str) -> str:
    system.machine.system_powerdown()
    return ""


def _system_wakeup(system: System, argument: str) -> str:
    system.machine.system_wakeup()
    return ""


def _quit(system: System, argument: str) -> str:
    system.machine.quit(ShutdownCause.HOST_QMP_QUIT)
    return ""


def _nmi(system: System, argument: str) -> str:
    system.machine.inject_nmi()
    return ""


def _watchdog_action(system: System, argument: str) -> str:
    try:
        action = WatchdogAction(argument)
    except ValueError:
        return system.release.behaviour.unknown_watchdog_action.format(action=argument) + "\n"
    system.machine.watchdog_set_action(action)
    return ""


COMMANDS: dict[str, Action] = {
    "stop": _stop,
    "cont": _cont,
    "system_reset": _system_reset,
    "system_powerdown": _system_powerdown,
    "system_wakeup": _system_wakeup,
    "quit": _quit,
    "nmi": _nmi,
    "watchdog_action": _watchdog_action,
}
INFORMATION: dict[str, Action] = {
    "status": _info_status,
    "version": _info_version,
    "name": _info_name,
    "uuid": _info_uuid,
}


_ON_DISKS = frozenset({
    "block_job_cancel", "block_job_complete", "block_job_pause", "block_job_resume", "block_job_set_speed",
    "block_resize", "block_set_io_throttle", "block_stream", "change", "commit", "delvm", "device_add", "device_del",
    "drive_add", "drive_backup", "drive_del", "drive_mirror", "eject", "loadvm", "nbd_server_add", "nbd_server_remove",
    "nbd_server_start", "nbd_server_stop", "savevm", "snapshot_blkdev", "snapshot_blkdev_internal",
    "snapshot_delete_blkdev_internal",
})  # fmt: skip
"""The commands that may have to wait for disks or servers (`qmpd.system.apart`)."""

_MEANINGS = {
    "help": "[COMMAND] -- tell what there is",
    "info": "WORD -- show something of the machine",
    "stop": "-- hold the virtual CPUs",
    "cont": "-- let the virtual CPUs run",
    "system_reset": "-- press the reset button",
    "system_powerdown": "-- press the power button",
    "system_wakeup": "-- wake a guest that is suspended",
    "quit": "-- end the machine at once",
    "nmi": "-- send a non-maskable interrupt to each virtual CPU",
    "watchdog_action": "ACTION -- choose what an expired watchdog does",
    **human_parts.MEANINGS,
}
_INFORMATION_MEANINGS = {
    "status": "-- whether the machine runs, and if not, why",
    "version": "-- the release that answers",
    "name": "-- what the machine is called",
    "uuid": "-- the machine's UUID",
    **human_parts.INFORMATION_MEANINGS,
}


def _own_help(words: list[str]) -> str:
    """Help in qmpd's own words, on what it models."""
    meanings, prefix = _MEANINGS, ""
    if words[:1] == ["info"]:
        meanings, prefix, words = _INFORMATION_MEANINGS, "info ", words[1:]
    if not words:
        return "".join(f"{prefix}{name} {meaning}\n" for name, meaning in sorted(meanings.items()))
    if words[0] not in meanings:
        return f"unknown command: '{prefix}{words[0]}'\n"
    return f"{prefix}{words[0]} {meanings[words[0]]}\n"


def completions(system: System, text: str) -> list[str]:
    """What the last word of an unfinished line can become."""
    table = system.release.human_monitor
    words = text.split()
    if not words or text[-1:] in (" ", "\t"):
        words.append("")
    if len(words) == 1:
        known = list(table.commands)
    elif words[0] == "info" and len(words) == 2:
        known = list(table.information)
    elif words[0] in ("help", "?"):
        known = [*table.commands] if len(words) == 2 else [*table.information] if words[1] == "info" else []
    elif words[0] == "watchdog_action" and len(words) == 2:
        known = [str(action) for action in WatchdogAction]
    else:
        known = []
    return [name for name in known if name.startswith(words[-1])]


def execute_at_once(system: System, line: str) -> str:
    """Execute one line and give what it prints; nothing of what is printed later."""
    looks = _LOOKING.match(line)
    said = _execute_line(system, line, own_words=False, client=None) if looks else execute_line(system, line)
    return said if isinstance(said, str) else ""


def execute_line(
    system: System, line: str, own_words: bool = False, client: Client | None = None,
    choices: dict[str, int] | None = None,
) -> str | Deferred:  # fmt: skip
    """Execute one line and give what it prints, its lines ended by a line feed.

    What takes time gives that later.  With `own_words` help is qmpd's rather than the release's.  `client` is who asks,
    where that is known, and `choices` are what was chosen at that monitor, which a line may change.
    """
    word, _ = _word(line, 0)

    def execute() -> str | Deferred:
        return _execute_line(system, line, own_words, client, choices)

    if word in _ON_DISKS and system.host is not None and system.has_known_objects:
        return cast("str | Deferred", system.disks.apart.run(execute))
    if word == "info" and _LOOKING.match(line) and system.host is not None and not system.is_bare:
        return cast("str | Deferred", system.disks.apart.look(execute))
    return execute()


def _execute_line(
    system: System, line: str, own_words: bool, client: Client | None, choices: dict[str, int] | None = None
) -> str | Deferred:
    word, end = _word(line, 0)
    if not line.strip():
        return ""
    table = system.release.human_monitor
    title = table.commands.get(word)
    if title is None:
        return f"unknown command: '{line[:end]}'\n"
    names = title.split("|")
    if "help" in names:
        return (_own_help if own_words else table.help)(line[end:].split())
    known, path = COMMANDS, line[:end]
    if names == ["info"]:
        if not line[end:].strip():
            return (_own_help if own_words else table.help)(["info"])
        word, end = _word(line, end)
        title = table.information.get(word)
        if title is None:
            return f"unknown command: '{line[:end]}'\n"
        names, path, known = title.split("|"), line[:end], INFORMATION
    hint = f'Try "help {path}" for more information\n'
    argument = ""
    if names == ["watchdog_action"]:
        argument, end = _word(line, end)
        if not argument:
            return f"{title}: string expected\n{hint}"
    parts = human_parts.INFORMATION if known is INFORMATION else human_parts.PARTS
    part = next((parts[name] for name in names if name in parts), None)
    if part is None and known is COMMANDS and not any(name in known for name in names):
        part = next((found for name in names if (found := declared.part(name)) is not None), None)
    if part is not None:
        return human_parts.run(system, part, human_parts.Line(title, line[end:], client, choices), hint)
    action = next((known[name] for name in names if name in known), None)
    excess = bool(line[end:].strip())
    if action is None and not (excess and table.takes_nothing(title, known is INFORMATION)):
        return f"Error: qmpd does not model the command {path}\n"
    if action is None or excess:
        return f"{title}: extraneous characters at the end of line\n{hint}"
    try:
        return action(system, argument)
    except Refusal as error:
        return f"Error: {system.release.refusals.message(error)}\n"
