"""What an entry says in one line, and how times are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmpd.timeline.transcript import Entry

_QUOTED = frozenset(' \t\r\n"{}[],=')

_UNITS = (
    (1_000, "ns", 1),
    (1_000_000, "µs", 1_000),
    (1_000_000_000, "ms", 1_000_000),
    (120_000_000_000, "s", 1_000_000_000),
    (7_200_000_000_000, "min", 60_000_000_000),
)


def spell_value(value: Any) -> str:
    """A JSON value, a string without the quotes that it can do without."""
    if isinstance(value, str) and value and _QUOTED.isdisjoint(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def spell_members(values: Any) -> str:
    """The members of an object, as `qmpd control` takes them: `reboot=shutdown panic=pause`."""
    if isinstance(values, dict):
        return " ".join(f"{name}={spell_value(member)}" for name, member in values.items())
    return "" if values is None else json.dumps(values, ensure_ascii=False)


def _named(name: Any, values: Any) -> str:
    return f"{name} {spell_members(values)}".strip()


def command_of(message: Any) -> str | None:
    """The name of the command that a message asks for; None where it asks for none."""
    if not isinstance(message, dict):
        return None
    name = message.get("execute", message.get("exec-oob"))
    return name if isinstance(name, str) else None


def spell_message(message: Any) -> str:
    """What a message says."""
    name = command_of(message)
    if name is not None:
        prefix = "(out-of-band) " if "exec-oob" in message else ""
        return prefix + _named(name, message.get("arguments"))
    match message:
        case {"event": event}:
            return _named(event, message.get("data"))
        case {"error": {"class": error_class, "desc": description}}:
            return f"{error_class}: {description}"
        case {"QMP": {"version": {"qemu": {"major": major, "minor": minor, "micro": micro}}}}:
            return f"greeting {major}.{minor}.{micro}"
        case {"return": dict(result)} if result:
            return f"return {spell_members(result)}"
        case {"return": result}:
            return f"return {spell_value(result)}"
    return json.dumps(message, ensure_ascii=False)


def _readable(text: str) -> str:
    """Bytes (a character each) without those that cannot be seen."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def spell_entry(entry: Entry) -> str:
    """What an entry tells, without its time and its client."""
    members = entry.members
    match entry.kind:
        case "received" | "sent":
            if "message" in members:
                return spell_message(members["message"])
            if "error" in members:
                return f"not a message: {members['error']}"
            return f"‹{_readable(str(members.get('text', '')))}›"
        case "run-state":
            return f"{members.get('from')} to {members.get('to')}"
        case "event":
            return _named(members.get("event"), members.get("data"))
        case "guest":
            return str(members.get("step"))
        case "control":
            return _named(members.get("command"), members.get("arguments"))
        case "fault":
            command = members.get("command")
            return str(members.get("fault")) + (f" on {command}" if command else "")
        case "override":
            return f"reply to {members.get('command')} made up"
        case "lost":
            return f"{members.get('count')} entries are missing here"
        case "connected":
            return f"connected to {members['monitor']}" if "monitor" in members else "connected"
        case "started":
            name = members.get("name")
            return f"QEMU {members.get('release')}" + (f", {name}" if name else "")
        case "ended":
            status = members.get("status")
            return "ended" if status is None else f"ended, exit status {status}"
    return entry.kind


def line(entry: Entry, start: int) -> str:
    """An entry as a line of a readable transcript; `start` is the time of the first, in nanoseconds."""
    who = "" if entry.client is None else f"client {entry.client}"
    direction = {"received": "->", "sent": "<-"}.get(entry.kind, "")
    kind = f"{entry.kind} " if entry.kind in ("run-state", "event", "guest", "control", "fault") else ""
    return f"{moment(entry.time - start):>13}  {who:9} {direction:2} {kind}{spell_entry(entry)}"


def duration(nanoseconds: int) -> str:
    """A length of time in the unit that fits it, three digits or so: `35 ms`."""
    unit, factor = "h", 3_600_000_000_000
    for limit, smaller, its_factor in _UNITS:
        if nanoseconds < limit:
            unit, factor = smaller, its_factor
            break
    number = nanoseconds / factor
    text = f"{number:.{0 if number >= 99.95 else 1 if number >= 9.995 else 2}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def moment(nanoseconds: int) -> str:
    """A time since the beginning, in seconds to the microsecond: `1.234 567`."""
    seconds, rest = divmod(nanoseconds // 1000, 1_000_000)
    thousandths, millionths = divmod(rest, 1_000)
    return f"{seconds}.{thousandths:03} {millionths:03}"
