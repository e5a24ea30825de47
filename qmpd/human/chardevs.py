"""The human monitor's commands for character devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.chardev.options import is_shared, new_backend
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.human.asking import answer, call, execute, listed, read_options
from qmpd.option_language.errors import OptionList
from qmpd.option_language.groups import HELP
from qmpd.system import chardevs

if TYPE_CHECKING:
    from qmpd.chardev.options import Backend
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.option_language.groups import Entry
    from qmpd.system.system import System

_UNREADABLE = "Error: Parsing chardev args failed\n"
_DELETE = 0x7F


def _read(system: System, text: str) -> tuple[Entry | None, list[str]]:
    """The list of options that a text is, or None where it is none; and what is printed of it."""
    words = system.release.refusals
    said: list[str] = []
    try:
        return read_options(system, "chardev", text, system.settings.chardev_ids, said.append), said
    except OptionList:
        # The keys go to the program's standard output.
        return None, said
    except Refusal as error:
        return None, [*said, words.message(error), *words.hint(error)]


def _backend(system: System, label: str | None, entry: Entry, around: chardevs.Surroundings) -> Backend:
    """:raise Refusal: there is none like that."""
    values = entry.values()
    if is_shared(values):
        raise NotModelled(chardevs.LATE_MULTIPLEXERS)
    return new_backend(label, values, around, system.release.behaviour)


def _add(system: System, line: Line) -> str:
    text = line.required()
    line.end()
    entry, said = _read(system, text)
    if entry is None:
        return "".join(f"{each}\n" for each in said) + _UNREADABLE
    if entry.get("backend") in HELP:
        return _kinds(system)
    around = chardevs.Surroundings(system, said.append)
    words = system.release.refusals
    try:
        backend = _backend(system, entry.identifier, entry, around)
        assert entry.identifier is not None
        chardevs.add(system, entry.identifier, backend, around, line.monitor)
    except Refusal as error:
        said += [f"Error: {words.message(error)}", *words.hint(error)]
    return "".join(f"{each}\n" for each in said)


def _kinds(system: System) -> str:
    """The kinds that there are, among them those of the modules that were loaded before."""
    if not system.modules_loaded:
        return listed(system, "-chardev", "help")
    names = [each["name"] for each in reversed(answer(system, "query-chardev-backends"))]
    return "".join(["Available chardev backend types: \n", *(f"  {name}\n" for name in names)])


def _change(system: System, line: Line) -> str:
    label, text = line.required(), line.rest()
    entry, said = _read(system, text or "")
    if entry is None:
        return "".join(f"{each}\n" for each in said) + _UNREADABLE
    around = chardevs.Surroundings(system, said.append)
    words = system.release.refusals
    try:
        backend = _backend(system, label, entry, around)
        chardevs.change(system, label, backend, around, line.monitor)
    except Refusal as error:
        said += [f"Error: {words.message(error)}", *words.hint(error)]
    return "".join(f"{each}\n" for each in said)


def _remove(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "chardev-remove", {"id": identifier})


def _send_break(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "chardev-send-break", {"id": identifier})


def _write(system: System, line: Line) -> str:
    device, data = line.required(), line.required()
    line.end()
    return execute(system, "ringbuf-write", {"device": device, "data": data})


def _read_ring(system: System, line: Line) -> str:
    device, size = line.required(), line.integer()
    line.end()
    text = str(call(system, "ringbuf-read", {"device": device, "size": size}))
    return "".join(_shown(character) for character in text) + "\n"


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if (character < " " and character not in "\n\t") or ord(character) == _DELETE:
        return f"\\u{ord(character):04X}"
    return character


PARTS: dict[str, Part] = {
    "chardev-add": _add,
    "chardev-change": _change,
    "chardev-remove": _remove,
    "chardev-send-break": _send_break,
    "ringbuf_read": _read_ring,
    "ringbuf_write": _write,
}
"""The commands, by their names."""
