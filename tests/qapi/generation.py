"""Arguments made up from introspection: valid ones, and ones with faults of every kind that QEMU tells apart.

Everything is drawn from a `random.Random`, so that hypothesis (`strategies.randoms`) and long comparisons outside of it
share one generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.capture.naming import Examples
from qmpd.common.integers import INTEGER_RANGES
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Introspection, Object
from qmpd.qapi.naming import Names

if TYPE_CHECKING:
    from random import Random

# The edges of every integer type, and both sides of them.
EDGES = sorted({edge + step for low, high in INTEGER_RANGES.values() for edge in (low, high) for step in (-1, 0, 1)})
INTEGERS = [edge for edge in EDGES if -(1 << 63) <= edge < 1 << 64] + [0, 1, 2, 77]
STRINGS = ["", "x", "no-such-value", "a\tb", "é", "\U0001f600", "{name}", "%s", "null", "a.b[0]", "'", "\x7f"]
OTHERS: list[Any] = [None, True, False, 1.0, 1.5, -0.0, 1e30, [], {}, [[]], [1], {"a": 1}, ["x"], {"": None}]
STRANGERS = ["__x", "a", "b", "c", "d", "id", "type", "é", "zz", "driver", "node-name", "", "x-y", "0", "A" * 60]


def reach(introspection: Introspection, command: str) -> int:
    """How many types a command's arguments are made of."""
    seen: set[str] = set()
    waiting = [introspection.command(command).arguments]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        match introspection.type(name):
            case Object() as found:
                waiting += [member.type for member in found.members] + list(found.variants.values())
            case Array() as found:
                waiting.append(found.element)
            case Alternate() as found:
                waiting += found.branches
    return len(seen)


def commands_by_weight(introspection: Introspection, names: Names) -> list[str]:
    """The commands that check their arguments, those with more to check more often."""
    commands = [command for command in introspection.commands if command not in names.unchecked]
    return [command for command in commands for _ in range(min(reach(introspection, command), 30))]


class Generator:
    """Makes up arguments; `fault` is how likely each value is to be a wrong one."""

    def __init__(self, introspection: Introspection, names: Names, random: Random, fault: float) -> None:
        self._introspection = introspection
        self._names = names
        self._random = random
        self._fault = fault
        self._examples = Examples(introspection)

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def arguments(self, command: str) -> dict[str, Any]:
        """Arguments of a command, their members in any order."""
        value: dict[str, Any] = self._object(
            self._introspection.object(self._introspection.command(command).arguments), 0
        )
        return value

    def anything(self) -> Any:
        """Some JSON value, whatever is expected."""
        choice = self._random.choice
        return choice([choice(OTHERS), choice(INTEGERS), choice(STRINGS)])

    def value(self, type_name: str, place: str, depth: int = 0) -> Any:
        """A value of a type at a place (`TYPE/MEMBER`), or, with the probability of a fault, another one."""
        if self._fault and self._happens(self._fault):
            return self.anything()
        found = self._introspection.type(type_name)
        random = self._random
        match found:
            case Builtin(name="int"):
                if self._fault and self._happens(self._fault):
                    return random.choice(INTEGERS)
                low, high = INTEGER_RANGES[self._names.integers.get(place, "int64")]
                return random.choice([low, high, max(low, 0), random.randint(low, high)])
            case Builtin(name="str"):
                return random.choice(STRINGS)
            case Builtin(name="bool"):
                return random.choice([True, False])
            case Builtin(name="number"):
                return random.choice([0, 1, -1, 1.5, -0.25, 1e300, (1 << 64) - 1, -(1 << 63)])
            case Builtin(name="null"):
                return None
            case Builtin():
                return self.anything()
            case Enumeration():
                return random.choice(found.values)
            case Array():
                length = 0 if depth > 4 else random.choice([0, 1, 1, 2, 3])
                return [self.value(found.element, place, depth + 1) for _ in range(length)]
            case Alternate():
                if depth > 4:
                    return self._examples.value(found.name)
                branch = random.choice(found.branches)
                return self.value(branch, f"{found.name}/<{branch}>", depth + 1)
            case Object():
                return self._object(found, depth)

    def _object(self, found: Object, depth: int) -> dict[str, Any]:
        members = self._members(found, depth)
        if self._fault:
            while self._happens(self._fault):
                members[self._stranger()] = self.anything()
        items = list(members.items())
        self._random.shuffle(items)
        return dict(items)

    def _members(self, found: Object, depth: int) -> dict[str, Any]:
        if depth > 6:
            example: dict[str, Any] = self._examples.value(found.name)
            return dict(example)
        members: dict[str, Any] = {}
        given = self._random.choice([0.1, 0.4, 0.9]) / (1 + depth)
        for member in found.members:
            if self._happens(given if member.optional else 1 - self._fault / 4):
                members[member.name] = self.value(member.type, f"{found.name}/{member.name}", depth + 1)
        tag = members.get(found.tag) if found.tag is not None else None
        branch = found.variants.get(tag) if isinstance(tag, str) else None
        if self._fault and found.variants and self._happens(self._fault):
            branch = self._random.choice(list(found.variants.values()))
        if branch is not None:
            members.update(self._members(self._introspection.object(branch), depth))
        return members

    def _stranger(self) -> str:
        if self._happens(0.5):
            return self._random.choice(STRANGERS)
        return "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz-_0123456789", k=self._random.randint(1, 12)))
