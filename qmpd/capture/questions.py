"""Which questions to ask: the commands that only read, and the arguments to try each one with."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.capture.naming import Examples
from qmpd.qapi.introspection import Builtin, Enumeration, Object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.qapi.introspection import Introspection, Member

READING_PREFIXES = ("query-", "x-query-")
READING = frozenset({"x-accel-stats", "x-debug-query-block-graph", "xen-event-list"})
"""Commands that only read, beside those that begin with one of `READING_PREFIXES`."""

OWN_FILE = frozenset({"query-qmp-schema", "query-commands", "query-cpu-model-expansion"})
"""What these answer stands in files of its own."""

COMPUTED = frozenset(
    {
        "query-chardev",
        "query-cpus",
        "query-cpus-fast",
        "query-hotpluggable-cpus",
        "query-memory-size-summary",
        "query-name",
        "query-status",
        "query-uuid",
        "query-version",
        "query-yank",
    }
)
"""What these answer is the VM's own: no other machine's answer would do."""

# Two of each, so that what is echoed can be told from what is always said.
_STRANGERS: dict[str, tuple[object, object]] = {
    "str": ("no-such-thing", "another-one"),
    "int": (17, 23),
    "number": (17, 23),
    "any": ("no-such-thing", "another-one"),
}
# With more combinations than this of what can be listed, only one member is given at a time.
_COMBINATIONS = 24


class Question(NamedTuple):
    """Something to ask. `strangers` are the paths of arguments whose values mean nothing to anybody; where there are
    any, the question is asked with `other` too, in which those have another value.
    """

    command: str
    arguments: dict[str, Any]
    strangers: tuple[str, ...] = ()
    other: dict[str, Any] = {}  # noqa: RUF012 - never changed


def reads(command: str) -> bool:
    """Whether a command changes nothing and its answer is not kept elsewhere."""
    return (command.startswith(READING_PREFIXES) or command in READING) and command not in (OWN_FILE | COMPUTED)


def questions(introspection: Introspection) -> Iterator[Question]:
    """All questions, command by command in the order of introspection."""
    examples = Examples(introspection)
    for command in introspection.commands:
        if reads(command):
            yield from _variants(introspection, examples, command)


def _variants(introspection: Introspection, examples: Examples, command: str) -> Iterator[Question]:
    found = introspection.object(introspection.command(command).arguments)
    listed: dict[str, list[Any]] = {}
    free: list[Member] = []
    for member in found.members:
        values = _values(introspection, member)
        if values is None:
            free.append(member)
        else:
            listed[member.name] = [*values, None] if member.optional else values
    required = [member for member in free if not member.optional]
    bases = [
        {name: value for name, value in zip(listed, choice, strict=True) if value is not None}
        for choice in itertools.product(*listed.values())
    ]
    if len(bases) > _COMBINATIONS:
        least = {name: values[0] for name, values in listed.items() if None not in values}
        bases = [least] + [{**least, name: value} for name, values in listed.items() for value in values if value]
    if not required:
        for base in bases:
            yield Question(command, base)
    for base in bases:
        for more in [required] if required else [[member] for member in free]:
            yield _strange(introspection, examples, found, command, base, more)


def _values(introspection: Introspection, member: Member) -> list[Any] | None:
    """The values that a member can have, where they can be listed."""
    match introspection.type(member.type):
        case Builtin(name="bool"):
            return [False, True]
        case Enumeration() as found:
            return list(found.values)
    return None


def _strange(
    introspection: Introspection,
    examples: Examples,
    found: Object,
    command: str,
    base: dict[str, Any],
    members: list[Member],
) -> Question:
    asked, other, strangers = dict(base), dict(base), []
    for member in members:
        builtin = introspection.type(member.type)
        values = _STRANGERS.get(builtin.name) if isinstance(builtin, Builtin) else None
        if values is None:
            asked[member.name] = other[member.name] = examples.value(member.type)
        else:
            asked[member.name], other[member.name] = values
        strangers.append(member.name)
    return Question(command, asked, tuple(strangers), other)
