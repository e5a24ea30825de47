"""What the live-update line adds to QEMU: commands and an event that other releases can be given as well.

`schemas/live-update/` declares them as a release's folder declares its own, each with the extension that it
belongs to.  A release whose release.json names extensions has them always; the others when they are asked for
(`load_release`), and without that nothing of them can be seen.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.common.integers import is_digits
from qmpd.qapi.errors import UnknownExtension
from qmpd.qapi.folders import schema_folder
from qmpd.qapi.naming import Names
from qmpd.qapi.release import Release

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qmpd.qapi.captured import CapturedError

FOLDER = "live-update"


def extension_names() -> tuple[str, ...]:
    """The extensions that there are, in the order of their declaration."""
    return tuple(dict.fromkeys(entry["extension"] for entry in _entries("commands.jsonl")))


def _entries(name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (schema_folder(FOLDER) / name).read_bytes().splitlines()]


class ExtendedRelease(Release):
    """A release with some of the extensions: what `release` has comes first, then theirs."""

    def __init__(self, release: Release, extensions: Collection[str]) -> None:
        """Add `extensions` to those that the release has of itself.

        :raise UnknownExtension: one of them does not exist.
        """
        self._base = release
        super().__init__(release.directory)
        self.answered_first = release.answered_first
        known = extension_names()
        for name in extensions:
            if name not in known:
                raise UnknownExtension(name, known)
        wanted = {*release.extensions, *extensions}
        self.extensions = tuple(name for name in known if name in wanted)

    def _read(self, name: str) -> bytes:
        return self._base._read(name)

    def _lines(self, name: str) -> list[bytes]:
        """The lines of one of the release's files: its own, then what the extensions add."""
        own = self._base._lines(name)
        if name == "introspection.jsonl":
            return own + [json.dumps(entry).encode() for entry in self._declarations]
        return own + [orjson.dumps(entry) for entry in self._additions(name)]

    def captured(
        self,
        command: str,
        arguments: Mapping[str, Any],
        machine_type: str,
        values: Mapping[str, int | str],
        *,
        modules: bool = False,
    ) -> bytes | CapturedError | None:
        """What a real machine answered; none has the extensions."""
        return self._base.captured(command, arguments, machine_type, values, modules=modules)

    def _additions(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in _entries(name) if entry["extension"] in self.extensions]

    @cached_property
    def names(self) -> Names:
        """What introspection hides, for the release's types and the extensions'."""
        own = self._base.names
        added = Names.from_json(orjson.loads((schema_folder(FOLDER) / "names.json").read_bytes()))
        integers = {}
        for place, kind in added.integers.items():
            type_name, _, member = place.partition("/")
            integers[f"{self._renamed(type_name)}/{member}"] = kind
        return Names({**own.integers, **integers}, own.alternates, own.unchecked)

    # The extensions' types have numbers of their own, which follow the release's here.

    @cached_property
    def _base_entries(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in map(orjson.loads, self._base._lines("introspection.jsonl"))}

    @cached_property
    def _last_number(self) -> int:
        return max(int(name) for name in self._base_entries if is_digits(name))

    @cached_property
    def _empty_object(self) -> str:
        return next(
            name
            for name, entry in self._base_entries.items()
            if entry["meta-type"] == "object" and not entry["members"] and "tag" not in entry
        )

    def _renamed(self, name: str) -> str:
        if name == "0":
            return self._empty_object
        return str(self._last_number + int(name)) if is_digits(name) else name

    @cached_property
    def _declarations(self) -> list[dict[str, Any]]:
        """The entries of the extensions' commands and events, and of the types that these reach."""
        entries = {entry["name"]: entry for entry in _entries("introspection.jsonl")}
        waiting = [entry["name"] for file in ("commands.jsonl", "events.jsonl") for entry in self._additions(file)]
        reached: dict[str, dict[str, Any]] = {}
        for name in waiting:
            entry = entries[name]
            reached[name] = entry
            members = entry["members"] if entry["meta-type"] == "object" else ()
            types = [entry.get("arg-type"), entry.get("ret-type"), *(member["type"] for member in members)]
            waiting += [each for each in types if each is not None and each not in reached]
        with_members = any(
            "members" in entry for entry in self._base_entries.values() if entry["meta-type"] == "enum"
        )
        return [
            self._adapted(entry, with_members)
            for name, entry in entries.items()
            if name in reached and self._renamed(name) not in self._base_entries
        ]

    def _adapted(self, entry: dict[str, Any], with_members: bool) -> dict[str, Any]:
        """The entry with the types' names that it has here, spelled as the release spells such entries."""
        entry = {**entry, "name": self._renamed(entry["name"])}
        for member in ("arg-type", "ret-type"):
            if member in entry:
                entry[member] = self._renamed(entry[member])
        if entry["meta-type"] == "object":
            entry["members"] = [{**member, "type": self._renamed(member["type"])} for member in entry["members"]]
        elif entry["meta-type"] == "enum" and not with_members:
            del entry["members"]
        return entry
