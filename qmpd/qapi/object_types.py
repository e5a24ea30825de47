"""The QOM types of a release: which there are, what each one is, and the properties that it has.

They are kept in one file of lines. The first ones are replies, each kept once however many types share it; then comes
one line for each type, in the order of qom-list-types:

    {"type": {"name": "e1000", "parent": "e1000-base"}, "implements": [...], "device": 12, "object": 40}

`type` is the entry of qom-list-types, `implements` names the interfaces that the parent does not have already, and
`device` and `object` are the numbers of the replies to device-list-properties and qom-list-properties (missing where
the question ended the program). After the types, a line without `type` has the numbers for a type that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTS = {"device-list-properties": "device", "qom-list-properties": "object"}
_INTERFACE = "interface"
COMMANDS = (*_LISTS, "qom-list-types")
"""The commands that the types answer."""


class ObjectTypes:
    """The types of a release."""

    def __init__(self, lines: list[bytes]) -> None:
        self._replies = [line for line in lines if line.startswith((b'{"return"', b'{"error"'))]
        self._types: dict[str, dict[str, Any]] = {}
        self._unknown: dict[str, int] = {}
        self._ancestry: dict[str, frozenset[str]] = {}
        for line in lines[len(self._replies) :]:
            entry = orjson.loads(line)
            if "type" in entry:
                self._types[entry["type"]["name"]] = entry
            else:
                self._unknown = entry

    @property
    def names(self) -> list[str]:
        """All types, abstract ones and interfaces included, in QEMU's order."""
        return list(self._types)

    def is_a(self, name: str) -> frozenset[str]:
        """Everything that a type is: itself, its ancestors, and the interfaces that they implement."""
        known = self._ancestry.get(name)
        if known is None:
            entry = self._types.get(name, {})
            parent = entry.get("type", {}).get("parent")
            inherited = self.is_a(parent) if parent is not None else frozenset()
            own = [interface for each in entry.get("implements", ()) for interface in self.is_a(each)]
            known = self._ancestry[name] = inherited.union([name], own)
        return known

    def is_abstract(self, name: str) -> bool:
        """Whether there are no objects of a type but those of types derived from it."""
        return bool(self._types.get(name, {}).get("type", {}).get("abstract"))

    def reply(self, command: str, arguments: Mapping[str, Any]) -> bytes | None:
        """The reply to one of `COMMANDS`, with markers; None where it was not captured."""
        if not self._types:
            return None
        if command == "qom-list-types":
            return self._list(arguments.get("implements"), bool(arguments.get("abstract")))
        number = self._types.get(arguments["typename"], self._unknown).get(_LISTS[command])
        return None if number is None else self._replies[number]

    def _implements(self, name: str, wanted: str) -> bool:
        what = self.is_a(name)
        if wanted != _INTERFACE or wanted in self._parents(name):
            return wanted in what
        # Every interface is one of these; a type with several is not found to be one, since it cannot be told which.
        interfaces = {each for each in what if _INTERFACE in self._parents(each)[1:]}
        more_general = {parent for each in interfaces for parent in self._parents(each)[1:]}
        return len(interfaces - more_general) == 1

    def _parents(self, name: str) -> list[str]:
        """A type and its ancestors, the nearest first."""
        line = [name]
        while (parent := self._types.get(line[-1], {}).get("type", {}).get("parent")) is not None:
            line.append(parent)
        return line

    def _list(self, implements: str | None, abstract: bool) -> bytes:
        import json

        listed = [
            entry["type"]
            for name, entry in self._types.items()
            if (abstract or not entry["type"].get("abstract"))
            and (implements is None or self._implements(name, implements))
        ]
        # Names and nothing else: `json` spells them as QEMU does.
        return json.dumps({"return": listed}).encode()
