"""Checking a command's arguments as QEMU does, with its words, its order and its paths.

QEMU generates a visitor for each type. It walks an object's declaration, not the value: members in the order of the
declaration (introspection keeps that order), each one fully before the next, then the members of the branch that the
tag selects; only then it complains of members that nobody visited. The first fault ends the visit.

Here each type becomes a closure that walks the same way. They are built when a command is first checked and shared
between the commands of a release. A closure takes the value, the name under which its parent has it, and the chain of
containers around it (`Frame`), from which a path is put together only once there is something to complain about.

An error names either the whole path (`a.b[0]`) or the last member alone; an element of a list has no name and is then
called `null`. Which of the two is not ours to choose: QEMU's input visitor knows the path, the code around it doesn't.
(QEMU's qapi/qobject-input-visitor.c, qapi/qapi-visit-core.c and the code that scripts/qapi/visit.py generates.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qmpd.common.integers import INTEGER_RANGES
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Introspection, Object
from qmpd.qapi.naming import ELEMENT_OF_BRANCH, Names
from qmpd.qapi.unexpected import first_unexpected

if TYPE_CHECKING:
    from qmpd.qapi.introspection import Type

# A container on the way to a value: the frame of the container around it, the name that one has it under (None for an
# element of a list), and, where it is a list, the index of the element being visited (None for an object). A list,
# because the index moves.
Frame = list["Frame | str | int | None"]

Checker = Callable[[dict[str, object]], None]
Visitor = Callable[[object, "str | None", Frame], None]
# Visits the members of an object and gives the number of those that were there.
MembersVisitor = Callable[[dict[str, object], Frame], int]

_ABSENT = object()


def compile_checker(introspection: Introspection, command: str, names: Names) -> Checker:
    """The check of one command's arguments; see `ArgumentCompiler`, which shares work between commands."""
    return ArgumentCompiler(introspection, names).checker(command)


class ArgumentCompiler:
    """Builds the checks of a release's commands, each when it is asked for."""

    def __init__(self, introspection: Introspection, names: Names) -> None:
        """`names` are those that introspection hides (`qmpd.qapi.naming`)."""
        self._introspection = introspection
        self._names = names
        self._visitors: dict[str, Visitor] = {}
        self._members: dict[str, MembersVisitor] = {}

    def checker(self, command: str) -> Checker:
        """A function that checks the arguments of `command` and raises `ArgumentError` where they do not fit.

        The arguments are as the decoder gives them: dict, list, str, int, float, bool, None.
        :raise KeyError: there is no such command.
        """
        if command in self._names.unchecked:
            return _accept
        arguments = self._introspection.command(command).arguments
        if not self._introspection.object(arguments).members:
            return _check_nothing
        return self.object_checker(arguments)

    def object_checker(self, type_name: str) -> Checker:
        """A function that checks a value of an object type in the same way."""
        declaration = self._introspection.object(type_name)
        members = self._members[type_name] = self._build_members_visitor(declaration)
        frame: Frame = [None, None, None]

        def check(value: dict[str, object]) -> None:
            if members(value, frame) != len(value):
                self._refuse_unexpected(value, declaration, frame)

        return check

    # --- objects

    def _members_visitor(self, name: str) -> MembersVisitor:
        """Visits the members of an object type; built at its first visit, since types may contain themselves."""
        known = self._members.get(name)
        if known is None:

            def build_and_visit(value: dict[str, object], frame: Frame) -> int:
                if self._members[name] is build_and_visit:
                    self._members[name] = self._build_members_visitor(self._introspection.object(name))
                return self._members[name](value, frame)

            known = self._members[name] = build_and_visit
        return known

    def _build_members_visitor(self, declaration: Object) -> MembersVisitor:
        members = tuple(
            (member.name, member.optional, self._visitor(member.type, f"{declaration.name}/{member.name}"))
            for member in declaration.members
        )
        absent = _ABSENT
        if not members:
            return _visit_no_members

        def visit(value: dict[str, object], frame: Frame) -> int:
            present = 0
            get = value.get
            for name, optional, visit_member in members:
                item = get(name, absent)
                if item is not absent:
                    present += 1
                    visit_member(item, name, frame)
                elif not optional:
                    raise ArgumentError("parameter-missing", name=_path(name, frame))
            return present

        if declaration.tag is None:
            return visit
        tag = declaration.tag
        branches = {case: self._members_visitor(type_name) for case, type_name in declaration.variants.items()}

        def visit_with_branch(value: dict[str, object], frame: Frame) -> int:
            present = visit(value, frame)
            branch = branches.get(value[tag])  # type: ignore[call-overload]  # the visit found it to be a string
            return present if branch is None else present + branch(value, frame)

        return visit_with_branch

    def _object(self, declaration: Object) -> Visitor:
        members = self._members_visitor(declaration.name)

        def visit(value: object, name: str | None, frame: Frame) -> None:
            if type(value) is not dict:
                raise _wrong_type(name, frame, "object")
            own: Frame = [frame, name, None]
            if members(value, own) != len(value):
                self._refuse_unexpected(value, declaration, own)

        return visit

    def _refuse_unexpected(self, value: dict[str, object], declaration: Object, frame: Frame) -> None:
        visited = [name for name in self._visit_order(declaration, value) if name in value]
        left = value.keys() - set(visited)
        name = left.pop() if len(left) == 1 else first_unexpected(value, visited)
        raise ArgumentError("parameter-unexpected", name=_path(name, frame))

    def _visit_order(self, declaration: Object, value: dict[str, object]) -> list[str]:
        order = [member.name for member in declaration.members]
        if declaration.tag is not None:
            branch = declaration.variants.get(str(value[declaration.tag]))
            if branch is not None:
                order += self._visit_order(self._introspection.object(branch), value)
        return order

    # --- everything else

    def _visitor(self, type_name: str, place: str) -> Visitor:
        """The visitor of a type. `place` says where it is used, which is how the hidden names are found."""
        known = self._visitors.get(type_name)
        if known is None:
            found = self._introspection.type(type_name)
            if self._has_hidden_integer(found):
                return self._build(found, place)
            known = self._visitors[type_name] = self._build(found, place)
        return known

    def _has_hidden_integer(self, found: Type) -> bool:
        """Whether visitors differ with the place: an integer's width is told by where it is used."""
        while isinstance(found, Array):
            found = self._introspection.type(found.element)
        return isinstance(found, Builtin) and found.name == "int"

    def _build(self, found: Type, place: str) -> Visitor:
        match found:
            case Builtin(name="int"):
                return _integer(self._names.integers.get(place, "int64"))
            case Builtin():
                return _BUILTINS[found.name]
            case Enumeration():
                return _enumeration(found)
            case Array():
                return _array(self._visitor(found.element, place))
            case Alternate():
                return self._alternate(found)
            case Object():
                return self._object(found)

    def _alternate(self, declaration: Alternate) -> Visitor:
        branches: dict[type, Visitor] = {}
        for branch in declaration.branches:
            visitor = self._visitor(branch, ELEMENT_OF_BRANCH.format(alternate=declaration.name, branch=branch))
            for kind in self._kinds(self._introspection.type(branch)):
                branches[kind] = visitor
        title = self._names.alternates.get(declaration.name, declaration.name)

        def visit(value: object, name: str | None, frame: Frame) -> None:
            branch = branches.get(type(value))
            if branch is None:
                raise ArgumentError("parameter-type", name=name or "null", expected=title)
            branch(value, name, frame)

        return visit

    @staticmethod
    def _kinds(found: Type) -> tuple[type, ...]:
        """The Python types of the JSON values that select an alternate's branch; any number is one kind to QEMU."""
        match found:
            case Object():
                return (dict,)
            case Array():
                return (list,)
            case Enumeration() | Builtin(name="str"):
                return (str,)
            case Builtin(name="bool"):
                return (bool,)
            case Builtin(name="null"):
                return (type(None),)
            case Builtin(name="int") | Builtin(name="number"):
                return (int, float)
            case _:
                raise TypeError(f"an alternate has no branch of type {found.name}")


def _accept(arguments: dict[str, object]) -> None:
    """The command takes its arguments unchecked (QAPI's `'gen': false`)."""


def _check_nothing(arguments: dict[str, object]) -> None:
    if arguments:
        name = first_unexpected(arguments, ())
        raise ArgumentError("parameter-unexpected", name=name)


def _visit_no_members(value: dict[str, object], frame: Frame) -> int:
    return 0


def _path(name: str | None, frame: Frame) -> str:
    """The path to the value called `name` in the container of `frame`: `a.b[0]`."""
    path = ""
    around: object = frame
    while isinstance(around, list):
        parent, own_name, index = around
        path = (f".{name}" if index is None else f"[{index}]") + path
        name, around = own_name, parent
    # The outermost container is the arguments' object, which has no name of its own.
    return path[1:]


def _wrong_type(name: str | None, frame: Frame, expected: str) -> ArgumentError:
    return ArgumentError("parameter-type", name=_path(name, frame), expected=expected)


def _array(element: Visitor) -> Visitor:
    def visit(value: object, name: str | None, frame: Frame) -> None:
        if type(value) is not list:
            raise _wrong_type(name, frame, "array")
        own: Frame = [frame, name, 0]
        for own[2], item in enumerate(value):
            element(item, None, own)

    return visit


def _enumeration(declaration: Enumeration) -> Visitor:
    values = frozenset(declaration.values)

    def visit(value: object, name: str | None, frame: Frame) -> None:
        if type(value) is not str:
            raise _wrong_type(name, frame, "string")
        if value not in values:
            raise ArgumentError("enum-refusal", name=name or "null", value=value)

    return visit


def _integer(kind: str) -> Visitor:
    low, high = INTEGER_RANGES[kind]
    signed = not kind.startswith("u")
    narrow = kind not in ("int64", "uint64")

    def visit(value: object, name: str | None, frame: Frame) -> None:
        if type(value) is int and low <= value <= high:
            return
        # QEMU first reads 64 bits of the kind's signedness, then looks whether the value fits. It takes negative
        # numbers for unsigned ones (two's complement), which never fit where the kind is narrower.
        if narrow and type(value) is int and (not signed or value < 1 << 63):
            raise ArgumentError("integer-narrow", name=name or "null", kind=kind)
        if signed:
            raise _wrong_type(name, frame, "integer")
        raise ArgumentError("parameter-uint64", name=_path(name, frame))

    return visit


def _scalar(kinds: tuple[type, ...], expected: str) -> Visitor:
    only = kinds[0] if len(kinds) == 1 else None

    def visit_one(value: object, name: str | None, frame: Frame) -> None:
        if type(value) is not only:
            raise _wrong_type(name, frame, expected)

    def visit_several(value: object, name: str | None, frame: Frame) -> None:
        if type(value) not in kinds:
            raise _wrong_type(name, frame, expected)

    return visit_several if only is None else visit_one


def _any(value: object, name: str | None, frame: Frame) -> None:
    """Any value will do."""


_BUILTINS: dict[str, Visitor] = {
    "str": _scalar((str,), "string"),
    "bool": _scalar((bool,), "boolean"),
    "number": _scalar((int, float), "number"),
    "null": _scalar((type(None),), "null"),
    "any": _any,
}
