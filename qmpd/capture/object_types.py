"""Asking for the QOM types and their properties (`qmpd.qapi.object_types` reads what is written here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture.answers import ask_carefully
from qmpd.capture.client import CaptureError
from qmpd.capture.lines import spell
from qmpd.capture.reference import NO_MACHINE, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.capture.client import Outcome

_STRANGER = "no-such-type"
_LISTS = {"device": "device-list-properties", "object": "qom-list-properties"}


class _Replies:
    """Replies by number, each kept once."""

    def __init__(self) -> None:
        self.lines: dict[bytes, int] = {}

    def number(self, outcome: Outcome, name: str) -> int:
        reply = outcome.reply
        if outcome.value is None:
            text = outcome.description.replace(f"'{name}'", "'«typename»'")
            # A type may have the name of a word in the text, `device` for one: only what is quoted is repeated.
            reply = spell({"error": {"class": outcome.error_class, "desc": text}})
        return self.lines.setdefault(reply, len(self.lines))


def object_types(command: str, report: Callable[[str], None], step: Callable[[str], None]) -> list[bytes]:
    """The lines of the file of types.

    :raise CaptureError: the program does not start, or its types are not what they should be.
    """
    step("types")
    options = OPTIONS[NO_MACHINE]
    (listed,) = ask_carefully(command, options, [("qom-list-types", {"abstract": True})], report)
    if listed is None:
        raise CaptureError("the program ends when asked for its types")
    types: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in listed.result}
    implements = _interfaces(command, types, report)
    step("properties of types")
    names = [*types, _STRANGER]
    # In this order: the question after a device's properties loads its module, which the other one needs.
    asked = [(question, {"typename": name}) for name in names for question in _LISTS.values()]
    outcomes = iter(ask_carefully(command, options, asked, report))
    replies, lines = _Replies(), []
    for name in names:
        line: dict[str, Any] = {"type": types[name]} if name in types else {}
        if implements.get(name):
            line["implements"] = implements[name]
        for member in _LISTS:
            outcome = next(outcomes)
            if outcome is not None:
                line[member] = replies.number(outcome, name)
        lines.append(orjson.dumps(line))
    return [*replies.lines, *lines]


def _interfaces(command: str, types: dict[str, dict[str, Any]], report: Callable[[str], None]) -> dict[str, list[str]]:
    """The interfaces that each type implements and its parent does not."""
    interfaces = [name for name in types if "interface" in _line_of(name, types)[1:]]
    asked = [("qom-list-types", {"implements": name, "abstract": True}) for name in interfaces]
    implemented: dict[str, set[str]] = {name: set() for name in types}
    for interface, outcome in zip(interfaces, ask_carefully(command, OPTIONS[NO_MACHINE], asked, report), strict=True):
        if outcome is None:
            raise CaptureError(f"the program ends when asked what implements {interface}")
        for entry in outcome.result:
            if interface not in _line_of(entry["name"], types):
                implemented[entry["name"]].add(interface)
    own = {}
    for name, found in implemented.items():
        parent = types[name].get("parent")
        inherited = implemented.get(parent, set()) if parent is not None else set()
        own[name] = [each for each in interfaces if each in found - inherited]
    return own


def _line_of(name: str, types: dict[str, dict[str, Any]]) -> list[str]:
    """A type and its ancestors, the nearest first."""
    line = [name]
    while (parent := types.get(line[-1], {}).get("parent")) is not None:
        line.append(parent)
    return line
