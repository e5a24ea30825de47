"""Finding out what introspection hides (`qmpd.qapi.naming`).

A running QEMU tells when it is asked with one value that does not fit. `learn_names` asks such questions, one at a
time:

    names = learn_names(introspection, ask)

where `ask(command, arguments)` sends one command and returns the `desc` of the error it got, or None for a `return`.
Every question carries a member that no command knows, so whatever the answer, nothing is carried out (QEMU visits the
other members first, which is what makes it answer the question).
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object
from qmpd.qapi.naming import ELEMENT_OF_BRANCH, Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.qapi.introspection import Introspection, Member

    Ask = Callable[[str, dict[str, object]], str | None]
    Put = Callable[[Any], Any]

UNKNOWN_MEMBER = "__bogus"


class Question:
    """One thing to find out: `arguments(value)` are valid arguments of `command` but for the value in question."""

    __slots__ = ("command", "is_alternate", "key", "put")

    def __init__(self, command: str, key: str, put: Put, *, is_alternate: bool) -> None:
        self.command = command
        self.key = key
        self.put = put
        self.is_alternate = is_alternate

    def arguments(self, value: object) -> dict[str, object]:
        """The arguments with `value` at the place in question, and a member that keeps QEMU from acting on them."""
        return {**self.put(value), UNKNOWN_MEMBER: 1}


def learn_names(introspection: Introspection, ask: Ask) -> Names:
    """Ask a running QEMU for the names that its introspection hides; about a thousand questions.

    :param ask: sends a command and returns the error's `desc`, None for success. What it raises goes through.
    :raise ValueError: the answers are not those of a QEMU.
    """
    examples = Examples(introspection)
    unchecked = set()
    for command in introspection.commands:
        arguments = examples.value(introspection.command(command).arguments)
        said = ask(command, {**arguments, UNKNOWN_MEMBER: 1})
        if said != f"Parameter '{UNKNOWN_MEMBER}' is unexpected":
            unchecked.add(command)
    if len(unchecked) == len(introspection.commands):
        raise ValueError("no command complains of an unknown member")
    integers: dict[str, str] = {}
    alternates: dict[str, str] = {}
    for question in questions(introspection, frozenset(unchecked)):
        if question.is_alternate:
            name = _learn_alternate(question, ask, introspection)
            if name is not None:
                alternates[question.key] = name
        else:
            integers[question.key] = _learn_integer(question, ask)
    return Names(integers, alternates, frozenset(unchecked))


def _learn_integer(question: Question, ask: Ask) -> str:
    # 2**63 is outside of every type but uint64; what refuses it for its sign alone is asked again with 2**62.
    for value in (1 << 63, 1 << 62):
        said = ask(question.command, question.arguments(value)) or ""
        if found := re.search(r" expects (u?int\d+)_t$", said):
            return found[1]
        if said == f"Parameter '{UNKNOWN_MEMBER}' is unexpected":
            return "uint64" if value == 1 << 63 else "int64"
        if not said.endswith("expected: integer"):
            break
    raise ValueError(f"{question.command} does not tell the type of {question.key}: {said}")


def _learn_alternate(question: Question, ask: Ask, introspection: Introspection) -> str | None:
    found = introspection.type(question.key)
    assert isinstance(found, Alternate)
    wrong = _of_no_branch(found, introspection)
    if wrong is _NOTHING:
        return None
    said = ask(question.command, question.arguments(wrong)) or ""
    name = re.search(r"expected: (\w+)$", said)
    if name is None:
        raise ValueError(f"{question.command} does not tell the name of alternate {question.key}: {said}")
    return name[1]


_NOTHING = object()


def _of_no_branch(found: Alternate, introspection: Introspection) -> object:
    """A value of a kind that no branch of the alternate takes; `_NOTHING` where it takes all kinds."""
    taken = set()
    for branch in found.branches:
        match introspection.type(branch):
            case Object():
                taken.add("object")
            case Array():
                taken.add("array")
            case Enumeration():
                taken.add("str")
            case Builtin(name=name):
                taken.add("number" if name == "int" else name)
    candidates: dict[str, object] = {"array": [], "bool": True, "null": None, "number": 1, "str": "", "object": {}}
    return next((value for kind, value in candidates.items() if kind not in taken), _NOTHING)


def questions(introspection: Introspection, unchecked: frozenset[str] = frozenset()) -> Iterator[Question]:
    """What to find out: each integer and each alternate that some command's arguments reach, by the shortest way.

    Commands in `unchecked` are left out: they would not look.
    """
    examples = Examples(introspection)
    waiting: deque[tuple[str, str, Put]] = deque()
    seen: set[str] = set()

    def reach(command: str, type_name: str, key: str, put: Put) -> Iterator[Question]:
        """Look at a type at some place: ask about it, or put it on the list of those to look into."""
        found = introspection.type(type_name)
        match found:
            case Builtin(name="int"):
                yield Question(command, key, put, is_alternate=False)
            case Array():
                yield from reach(command, found.element, key, lambda value: put([value]))
            case Alternate():
                if found.name not in seen:
                    seen.add(found.name)
                    yield Question(command, found.name, put, is_alternate=True)
                    for branch in found.branches:
                        branch_key = ELEMENT_OF_BRANCH.format(alternate=found.name, branch=branch)
                        yield from reach(command, branch, branch_key, put)
            case Object():
                if found.name not in seen:
                    seen.add(found.name)
                    waiting.append((command, found.name, put))

    def look_into(command: str, name: str, put: Put) -> Iterator[Question]:
        found = introspection.object(name)
        for member in found.members:
            yield from reach(command, member.type, f"{name}/{member.name}", _put_member(put, examples, found, member))
        for case, branch in found.variants.items():
            yield from reach(command, branch, "", _put_branch(put, examples, found, case))

    for command in introspection.commands:
        if command not in unchecked:
            yield from reach(command, introspection.command(command).arguments, "", _as_it_is)
    while waiting:
        yield from look_into(*waiting.popleft())


def _as_it_is(value: Any) -> Any:
    return value


def _put_member(put: Put, examples: Examples, owner: Object, member: Member) -> Put:
    return lambda value: put({**examples.value(owner.name), member.name: value})


def _put_branch(put: Put, examples: Examples, owner: Object, case: str) -> Put:
    assert owner.tag is not None
    return lambda value: put({**examples.members(owner), owner.tag: case, **value})


class Examples:
    """The smallest valid value of each type: members that may be left out are, and of a choice the simplest is taken.

    Values are shared: don't change them.
    """

    def __init__(self, introspection: Introspection) -> None:
        self._introspection = introspection
        self._values: dict[str, Any] = {}
        self._building: set[str] = set()

    def value(self, type_name: str) -> Any:
        """A valid value of the type.

        :raise RecursionError: the type has no finite value.
        """
        if type_name not in self._values:
            if type_name in self._building:
                raise RecursionError(f"type {type_name} contains itself")
            self._building.add(type_name)
            try:
                self._values[type_name] = self._build(type_name)
            finally:
                self._building.discard(type_name)
        return self._values[type_name]

    def members(self, declaration: Object) -> dict[str, Any]:
        """Valid values of the members that an object cannot do without, not looking at its branches."""
        return {member.name: self.value(member.type) for member in declaration.members if not member.optional}

    def _build(self, type_name: str) -> Any:
        found = self._introspection.type(type_name)
        match found:
            case Builtin():
                return {"str": "x", "int": 1, "number": 1, "bool": True, "null": None, "any": 1}[found.name]
            case Enumeration():
                return found.values[0]
            case Array():
                return []
            case Alternate():
                return min(self._possible(found.branches), key=_size)
            case Object():
                members = self.members(found)
                if found.tag is None:
                    return members
                tag = self._introspection.type(found.member(found.tag).type)
                assert isinstance(tag, Enumeration)
                cases = [case for case in tag.values if case not in found.variants]
                if cases:
                    return {**members, found.tag: cases[0]}
                branches = self._possible_branches(found)
                case = min(branches, key=lambda each: _size(branches[each]))
                return {**members, found.tag: case, **branches[case]}

    def _possible(self, type_names: tuple[str, ...]) -> Iterator[Any]:
        for name in type_names:
            try:
                yield self.value(name)
            except RecursionError:
                continue

    def _possible_branches(self, found: Object) -> dict[str, dict[str, Any]]:
        return {case: value for case, name in found.variants.items() for value in self._possible((name,))}


def _size(value: Any) -> int:
    """How much there is in a value, for choosing the smallest."""
    if isinstance(value, dict):
        return 1 + sum(_size(each) for each in value.values())
    return 0
