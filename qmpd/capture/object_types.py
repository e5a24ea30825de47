"""Asking for the QOM types and their properties (`qmpd.qapi.object_types` reads what is written here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture.client import CaptureError
from qmpd.capture.lines import spell

if TYPE_CHECKING:
    from collections.abc import Container

    from qmpd.capture.answers import Ask, Asked
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


def object_types(ask: Ask, only: Container[str] | None = None) -> list[bytes]:
    """The lines of the file of types.

    `only` are the types whose properties as devices may be asked for, and nothing more: asking instantiates the type,
    and not every type survives that. None stands for all properties of all types.

    :raise CaptureError: the program does not start, or its types are not what they should be.
    """
    (listed,) = ask([("qom-list-types", {"abstract": True})])
    if listed is None:
        raise CaptureError("the program ends when asked for its types")
    types: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in listed.result}
    implements = _interfaces(ask, types)
    names = [*types, _STRANGER]
    # In this order: the question after a device's properties loads its module, which the other one needs.
    asked = [
        (member, name)
        for name in names
        for member in _LISTS
        if only is None or (member == "device" and (name in only or name not in types))
    ]
    outcomes = ask([(_LISTS[member], {"typename": name}) for member, name in asked])
    said = dict(zip(asked, outcomes, strict=True))
    replies, lines = _Replies(), []
    for name in names:
        line: dict[str, Any] = {"type": types[name]} if name in types else {}
        if implements.get(name):
            line["implements"] = implements[name]
        for member in _LISTS:
            outcome = said.get((member, name))
            if outcome is not None:
                line[member] = replies.number(outcome, name)
        lines.append(orjson.dumps(line))
    return [*replies.lines, *lines]


def _interfaces(ask: Ask, types: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The interfaces that each type implements and its parent does not."""
    interfaces = [name for name in types if "interface" in _line_of(name, types)[1:]]
    asked: list[Asked] = [("qom-list-types", {"implements": name, "abstract": True}) for name in interfaces]
    implemented: dict[str, set[str]] = {name: set() for name in types}
    for interface, outcome in zip(interfaces, ask(asked), strict=True):
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
