"""The groups of options that take a list of keys, as a release knows them (QEMU's QemuOpts, util/qemu-option.c).

Which keys a group has is told by query-command-line-options.  Each list that was given is kept with the place that it
came from: much of it is looked at again later, group by group.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import has_doubtful_suffix
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError, OptionList
from qmpd.option_language.key_values import BOOL, NUMBER, SIZE, STRING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release

_TYPES = {"string": STRING, "boolean": BOOL, "number": NUMBER, "size": SIZE}
_SHOWN = {STRING: "str", BOOL: "bool (on/off)", NUMBER: "num", SIZE: "size"}
HELP = ("help", "?")
"""What asks for a list where it stands in a value's place."""

IMPLIED = {
    "accel": "accel",
    "acpi": "data",
    "audiodev": "driver",
    "boot-opts": "order",
    "chardev": "backend",
    "device": "driver",
    "fsdev": "fsdriver",
    "fw_cfg": "name",
    "icount": "shift",
    "memory": "size",
    "mon": "chardev",
    "name": "guest",
    "net": "type",
    "netdev": "type",
    "nic": "type",
    "numa": "type",
    "object": "qom-type",
    "option-rom": "romfile",
    "plugin": "file",
    "sandbox": "enable",
    "smp-opts": "cpus",
    "tpmdev": "type",
    "trace": "enable",
    "virtfs": "fsdriver",
    "vnc": "vnc",
}
"""The key of a first value without one, by group."""

_MERGED = frozenset(("action", "boot-opts", "icount", "machine", "memory", "name", "rtc", "smp-opts", "spice"))
# Lists that take any key here, whatever query-command-line-options tells of them.
_ANYTHING = frozenset(("drive", "device", "machine"))
_SETTING = re.compile(r"([^.]{1,63})\.([^.]{1,63})\.([^=]{1,63})=")
_NOT_GROUPS = ("object", "machine", "smp-opts", "boot-opts")


class Entry:
    """One list: its id, where it was given, and its pairs in their order."""

    __slots__ = ("group", "identifier", "location", "pairs")

    def __init__(self, group: str, identifier: str | None, location: str) -> None:
        self.group = group
        self.identifier = identifier
        self.location = location
        self.pairs: list[tuple[str, str]] = []

    def get(self, key: str, default: str | None = None) -> str | None:
        """The last value of a key."""
        return next((value for name, value in reversed(self.pairs) if name == key), default)

    def has(self, key: str) -> bool:
        """Whether the key was given."""
        return any(name == key for name, _ in self.pairs)

    def flag(self, key: str, default: bool = False) -> bool:
        """The value of a boolean key.

        :raise Refusal: it is none.
        """
        value = self.get(key)
        return default if value is None else key_values.boolean(key, value)

    def values(self) -> dict[str, str]:
        """The values by key, the id among them."""
        values = dict(self.pairs)
        return values if self.identifier is None else {**values, "id": self.identifier}

    def error(self, message: str, hint: tuple[str, ...] = ()) -> OptionError:
        """An error at the place of this list."""
        return OptionError(message, self.location, hint)


class OptionGroups:
    """Reads the lists of a release's options, and keeps them."""

    def __init__(self, release: Release, warn: Callable[[str], None]) -> None:
        """`warn` is called with each warning, a line or more, that QEMU would print."""
        self._release = release
        self._warn = warn
        self._keys: dict[str, dict[str, str]] | None = None
        self._entries: dict[str, list[Entry]] = {}
        self._identifiers: dict[str, set[str]] = {}

    def _known(self) -> dict[str, dict[str, str]]:
        if self._keys is None:
            reply = self._release.captured("query-command-line-options", {}, "none", {})
            listed = orjson.loads(reply) if isinstance(reply, bytes) else []
            self._keys = {
                each["option"]: {key["name"]: _TYPES[key["type"]] for key in each["parameters"]} for each in listed
            }
            for group, keys in self._release.command_line.groups.items():
                self._keys.setdefault(group, {name: _TYPES[kind] for name, kind in keys.items()})
        return self._keys

    def keys(self, group: str) -> dict[str, str]:
        """The keys that a group has and the type of each; none where it takes any."""
        return {} if group in _ANYTHING else self._known().get(group, {})

    def exists(self, group: str) -> bool:
        """Whether the release has a group of this name."""
        return group in self._known()

    def find(self, group: str) -> list[Entry]:
        """The lists of a group that were given, in their order."""
        return self._entries.get(group, [])

    def merged(self, group: str) -> Entry | None:
        """All that was given of a group of which there is one list; one that has an id is none of it."""
        return next((entry for entry in self.find(group) if entry.identifier is None), None)

    def pairs(self, given: Given, group: str, *, implied: bool = True) -> list[tuple[str, str]]:
        """The pairs of a list as they were typed."""
        return key_values.flat_list(given.value, IMPLIED.get(group) if implied else None, self._warner(given.location))

    def parse(self, given: Given, group: str) -> Entry:
        """Take a list.

        :raise Refusal: a key is unknown, a value not of its type, or the id no identifier or taken.
        :raise OptionList: the group's keys are asked for.
        """
        return self.read_list(given.value, group, given.location)

    def read_list(self, text: str, group: str, location: str) -> Entry:
        """Take a list that stands at a place.

        :raise Refusal: a key is unknown, a value not of its type, or the id no identifier or taken.
        :raise OptionList: the group's keys are asked for.
        """
        entry = self.create(group, self._identifier(text), location)
        known = self.keys(group)
        implied = IMPLIED.get(group)
        warn = self._warner(location)
        for number, piece in enumerate(key_values.split_flat_list(text, implied)):
            named = implied if number == 0 else None
            if known and named is None and piece in HELP:
                raise self.listing(group)
            # One pair at a time: a warning about one comes behind the error about the one before it.  The comma has a
            # piece without anything count, too.
            for key, value in key_values.flat_list(f"{piece},", named, warn):
                if key != "id":
                    self.put(entry, key, value)
        return entry

    def _warner(self, location: str) -> Callable[[str, str], None]:
        def warn(flag: str, instead: str) -> None:
            if self._release.behaviour.keyval_options and flag not in HELP:
                self._warn(
                    f"{location}: warning: short-form boolean option '{flag}' deprecated\nPlease use {instead} instead"
                )

        return warn

    def _identifier(self, text: str) -> str | None:
        # A value without its key is no id, but a flag of that name is.
        pairs = key_values.flat_list(text)
        return next((value for key, value in pairs if key == "id"), None)

    def create(self, group: str, identifier: str | None, location: str) -> Entry:
        """A new list of a group, or the one that there is where there is one for all.

        :raise Refusal: the id is none, or taken.
        """
        entries = self._entries.setdefault(group, [])
        if group in _MERGED:
            if identifier is not None and self._release.behaviour.keyval_options:
                raise Refusal("option-unknown", name="id")
            if identifier is not None and not is_identifier(identifier):
                raise Refusal("identifier-expected", name="id")
            found = next((each for each in entries if each.identifier == identifier), None)
            if found is None:
                entries.append(found := Entry(group, identifier, location))
            return found
        if identifier is not None:
            self.claim(group, identifier)
        entries.append(Entry(group, identifier, location))
        return entries[-1]

    def add(self, entry: Entry) -> None:
        """Take a list that was put together elsewhere."""
        self._entries.setdefault(entry.group, []).append(entry)

    def put(self, entry: Entry, key: str, value: str) -> None:
        """Give a list one more pair.

        :raise Refusal: the key is unknown, or the value not of its type.
        """
        known = self.keys(entry.group)
        if known:
            language = self._release.behaviour.size_language
            key_values.check_flat_list([(key, value)], known, language)
            if known[key] == key_values.SIZE and has_doubtful_suffix(value, language):
                text = self._release.refusals.message(Refusal("size-suffix-deprecated", text=value))
                self._warn(f"{entry.location}: warning: {text}")
        entry.pairs.append((key, value))

    def flat_values(self, group: str, text: str, implied: str | None) -> dict[str, str]:
        """The values of a list of a group's keys that stands within something else; any, where the keys are not known.

        :raise Refusal: a key is unknown, or a value not of its type.
        """
        pairs = [pair for pair in key_values.flat_list(text, implied) if pair[0] != "id"]
        known = self.keys(group)
        if known:
            key_values.check_flat_list(pairs, known, self._release.behaviour.size_language)
        return dict(pairs)

    def listing(self, group: str) -> OptionList:
        """The list of a group's keys, which ends the program."""
        text = self.text(f"-{group}", "help")
        if text.startswith(f"{group} options:"):
            return OptionList(text, 1)
        lines = sorted(f"{name}=<{_SHOWN[kind]}>" for name, kind in self.keys(group).items())
        return OptionList("".join([f"{group} options:\n", *(f"  {line}\n" for line in lines)]), 1)

    def text(self, *words: str) -> str:
        """A list that the release's program prints."""
        found = self._release.command_line.text(*words, program="")
        return "" if found is None else found[0]

    def read(self, given: Given, group: str) -> dict[str, str]:
        """The values of a list by key, as they were typed; `id` among them.

        :raise Refusal: a key is unknown, a value not of its type, or the id no identifier or taken.
        """
        return self.parse(given, group).values()

    def reserve(self, group: str, identifier: str) -> None:
        """Have an id count as taken."""
        self._identifiers.setdefault(group, set()).add(identifier)

    def identifiers(self, group: str) -> frozenset[str]:
        """The ids of a group that are taken."""
        return frozenset(self._identifiers.get(group, ()))

    def claim(self, group: str, identifier: str) -> None:
        """Take an id.

        :raise Refusal: it is none, or taken.
        """
        if not is_identifier(identifier):
            raise Refusal("identifier-expected", name="id")
        taken = self._identifiers.setdefault(group, set())
        if identifier in taken:
            raise Refusal("option-id-duplicate", id=identifier, group=group)
        taken.add(identifier)

    def set(self, text: str) -> None:
        """`-set group.id.key=value`.

        :raise Refusal: there is no such list, or it does not take that.
        """
        parts = _SETTING.match(text)
        if parts is None:
            raise Refusal("set-unreadable", text=text)
        group, identifier, key = parts.groups()
        value = text[parts.end() :]
        if self._release.behaviour.keyval_options and group in _NOT_GROUPS:
            raise Refusal("set-unsupported", group=group)
        if not self.exists(group):
            raise Refusal("group-missing", group=group)
        for entry in self.find(group):
            if entry.identifier == identifier:
                self.put(entry, key, value)
                return
        raise Refusal("set-missing", group=group, id=identifier)
