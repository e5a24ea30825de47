"""What `query-qmp-schema` says about a release, as typed objects.

The reply is a flat list in which types refer to one another by names that are mostly numbers. `Introspection` indexes
that list by name and builds the object of a type, a command or an event when it is first asked for, so that looking at
one command costs no more than the types which that command reaches.
(QEMU's document: docs/devel/qapi-code-gen, "Client JSON Protocol introspection".)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Entry = Mapping[str, Any]


class Member:
    """One member of an object: its name, the name of its type, and whether it may be left out."""

    __slots__ = ("features", "name", "optional", "type")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.type: str = entry["type"]
        # Every optional member has a `default`; so far it is always null, which says nothing about the value.
        self.optional: bool = "default" in entry
        self.features: tuple[str, ...] = tuple(entry.get("features", ()))


class Builtin:
    """A built-in type: `str`, `int`, `number`, `bool`, `null` or `any`."""

    __slots__ = ("name",)

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]


class Enumeration:
    """A type whose values are a fixed set of strings, in QEMU's order."""

    __slots__ = ("name", "value_features", "values")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        # Releases before 7.0 have `values` alone; later ones have `members`, which carry features, as well.
        members = entry.get("members") or [{"name": value} for value in entry["values"]]
        self.values: tuple[str, ...] = tuple(member["name"] for member in members)
        self.value_features: dict[str, tuple[str, ...]] = {
            member["name"]: tuple(member["features"]) for member in members if member.get("features")
        }


class Array:
    """A list whose elements are all of one type."""

    __slots__ = ("element", "name")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.element: str = entry["element-type"]


class Object:
    """A JSON object: its members in the order in which QEMU visits them, then those of the tag's branch.

    `variants` maps a value of the member `tag` to the name of the object type whose members are added; a value that is
    not among them adds none. Where there is no tag, `tag` is None and `variants` is empty.
    """

    __slots__ = ("features", "members", "name", "tag", "variants")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.members: tuple[Member, ...] = tuple(Member(member) for member in entry["members"])
        self.tag: str | None = entry.get("tag")
        self.variants: dict[str, str] = {variant["case"]: variant["type"] for variant in entry.get("variants", ())}
        self.features: tuple[str, ...] = tuple(entry.get("features", ()))

    def member(self, name: str) -> Member:
        """The member called `name`, not looking into branches; KeyError where there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise KeyError(name)


class Alternate:
    """A value of one of several types, told apart by their kind in JSON."""

    __slots__ = ("branches", "name")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.branches: tuple[str, ...] = tuple(member["type"] for member in entry["members"])


_NAME_FIRST = b'{"name": "'

Type = Builtin | Enumeration | Array | Object | Alternate


class CommandEntry:
    """A command: the names of its arguments' and its return value's object types, and what it allows."""

    __slots__ = ("allow_oob", "arguments", "features", "name", "returns")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.arguments: str = entry["arg-type"]
        self.returns: str = entry["ret-type"]
        self.allow_oob: bool = bool(entry.get("allow-oob"))
        self.features: tuple[str, ...] = tuple(entry.get("features", ()))


class EventEntry:
    """An event: the name of its data's object type."""

    __slots__ = ("data", "features", "name")

    def __init__(self, entry: Entry) -> None:
        self.name: str = entry["name"]
        self.data: str = entry["arg-type"]
        self.features: tuple[str, ...] = tuple(entry.get("features", ()))


_TYPES: dict[str, type[Builtin | Enumeration | Array | Object | Alternate]] = {
    "builtin": Builtin,
    "enum": Enumeration,
    "array": Array,
    "object": Object,
    "alternate": Alternate,
}


class Introspection:
    """The entries of one `query-qmp-schema` reply, by name. Entries are taken as they are and never changed."""

    __slots__ = ("_commands", "_entries", "_events", "_types")

    def __init__(self, entries: Iterable[Entry]) -> None:
        # QAPI keeps the names of commands, events and types apart (case, digits), so one mapping holds them all.
        self._entries: dict[str, Entry | bytes] = {entry["name"]: entry for entry in entries}
        self._types: dict[str, Type] = {}
        self._commands: tuple[str, ...] | None = None
        self._events: tuple[str, ...] | None = None

    @classmethod
    def from_lines(cls, lines: Iterable[bytes]) -> Introspection:
        """Take the entries as JSON texts, in the reply's order. They are parsed when they are needed.

        :raise ValueError: a text that had to be parsed is not JSON.
        """
        introspection = cls(())
        entries = introspection._entries
        for line in lines:
            # QEMU prints the name first; where somebody else wrote the line, it may be anywhere.
            if line.startswith(_NAME_FIRST):
                name = line[len(_NAME_FIRST) : line.index(b'"', len(_NAME_FIRST))].decode()
            else:
                name = orjson.loads(line)["name"]
            entries[name] = line
        return introspection

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands' names, in the reply's order."""
        if self._commands is None:
            self._commands = self._named("command")
        return self._commands

    @property
    def events(self) -> tuple[str, ...]:
        """The events' names, in the reply's order."""
        if self._events is None:
            self._events = self._named("event")
        return self._events

    def has_command(self, name: str) -> bool:
        """Whether there is a command of this name."""
        return name in self._entries and self._entry(name)["meta-type"] == "command"

    def _named(self, meta_type: str) -> tuple[str, ...]:
        return tuple(name for name in self._entries if self._entry(name)["meta-type"] == meta_type)

    def _entry(self, name: str) -> Entry:
        entry = self._entries[name]
        if isinstance(entry, bytes):
            entry = self._entries[name] = orjson.loads(entry)
        return entry

    def _entry_of(self, name: str, meta_type: str) -> Entry:
        entry = self._entry(name)
        if entry["meta-type"] != meta_type:
            raise KeyError(name)
        return entry

    def type(self, name: str) -> Type:
        """The type called `name`; KeyError where there is none."""
        known = self._types.get(name)
        if known is None:
            entry = self._entry(name)
            build = _TYPES.get(entry["meta-type"])
            if build is None:
                raise KeyError(name)
            known = self._types[name] = build(entry)
        return known

    def object(self, name: str) -> Object:
        """The object type called `name`; KeyError where there is none, TypeError where it is another kind of type."""
        found = self.type(name)
        if not isinstance(found, Object):
            raise TypeError(f"{name} is not an object type")
        return found

    def command(self, name: str) -> CommandEntry:
        """The command called `name`; KeyError where there is none."""
        return CommandEntry(self._entry_of(name, "command"))

    def branch_members(self, command: str, choice: str) -> frozenset[str] | None:
        """The arguments that a command takes for one value of the argument on which others depend; none beside it.

        None where there is no such command.
        """
        if command not in self._entries:
            return None
        declared = self.object(self.command(command).arguments)
        branch = declared.variants.get(choice)
        return frozenset() if branch is None else frozenset(member.name for member in self.object(branch).members)

    def branch_types(self, command: str, choice: str) -> dict[str, Type] | None:
        """The types of the same arguments, by name."""
        if command not in self._entries:
            return None
        branch = self.object(self.command(command).arguments).variants.get(choice)
        return {} if branch is None else {each.name: self.type(each.type) for each in self.object(branch).members}

    def event(self, name: str) -> EventEntry:
        """The event called `name`; KeyError where there is none."""
        return EventEntry(self._entry_of(name, "event"))
