"""Lists of keys and values on the command line as the arguments of a command of QAPI.

`-object`, `-netdev` and `-blockdev` take what `object-add`, `netdev_add` and `blockdev-add` take, as a list in which
everything is a string or as a JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.cli import key_values
from qmpd.cli.errors import OptionError
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object

if TYPE_CHECKING:
    from qmpd.cli.key_values import Tree
    from qmpd.qapi.introspection import Introspection
    from qmpd.qapi.release import Release

    Values = dict[str, object]


def from_json(release: Release, command: str, text: str) -> Values:
    """The arguments of a command that a JSON object holds.

    :raise OptionError: it is no JSON, or the command would refuse it.
    """
    from qmpd.monitor.json_text import parse

    try:
        value = parse(text, release.behaviour.json_parser)
    except ValueError as error:
        raise OptionError(str(error)) from None
    return _checked(release, command, value, "Parameter '{}' is unexpected")


def from_pairs(release: Release, command: str, pairs: list[tuple[str, str]]) -> Values:
    """The arguments that a flat list holds; a key that comes several times makes a list where the command has one.

    :raise OptionError: the command would refuse them.
    """
    values: dict[str, object] = {}
    for key, value in pairs:
        values[key] = [*cast("list[str]", values.get(key, [])), value]
    converted = _Flat(release).members(release.introspection.command(command).arguments, values)
    return _checked(release, command, converted, "Invalid parameter '{}'")


def from_tree(release: Release, command: str, tree: Tree) -> Values:
    """The arguments that a tree of keys holds.

    :raise OptionError: the command would refuse them.
    """
    converted = _Nested(release).members(release.introspection.command(command).arguments, cast("Values", tree))
    return _checked(release, command, converted, "Parameter '{}' is unexpected")


def _checked(release: Release, command: str, value: object, unexpected: str) -> Values:
    if not isinstance(value, dict):
        raise OptionError("Invalid parameter type for 'null', expected: object")
    try:
        release.commands[command].check(value)
    except ArgumentError as error:
        message = error.message
        if message.endswith("' is unexpected"):
            message = unexpected.format(message.removeprefix("Parameter '").removesuffix("' is unexpected"))
        raise OptionError(message) from None
    return value


class _Nested:
    """Gives strings the types that a declaration wants; what it does not know stays as it is, to be refused later."""

    def __init__(self, release: Release) -> None:
        self._introspection: Introspection = release.introspection
        self._integers = release.names.integers

    def members(self, type_name: str, values: Values) -> Values:
        """An object's members."""
        declared = cast("Object", self._introspection.type(type_name))
        members = {member.name: member for member in declared.members}
        result: Values = {}
        branch = None
        if declared.tag is not None and (tag := self.scalar(values.get(declared.tag))) is not None:
            branch = declared.variants.get(tag)
        owners = dict.fromkeys(members, declared.name)
        if branch is not None:
            found = cast("Object", self._introspection.type(branch))
            members |= {member.name: member for member in found.members}
            owners |= {member.name: found.name for member in found.members}
        for key, value in values.items():
            if key in members:
                result[key] = self.value(members[key].type, value, key, f"{owners[key]}/{key}")
            elif branch is not None and (inner := self._inner(branch, key, values)) is not None:
                result[key] = inner
            else:
                result[key] = self.scalar(value)
        return result

    def _inner(self, branch: str, key: str, values: Values) -> object:
        """A member of a branch of a branch, where the branch has a tag of its own."""
        declared = cast("Object", self._introspection.type(branch))
        if declared.tag is None:
            return None
        return self.members(branch, values).get(key)

    def scalar(self, value: object) -> str | None:
        """The string that a value without a declared type is."""
        return value if isinstance(value, str) else None

    def value(self, type_name: str, value: object, path: str, place: str) -> object:
        """One value."""
        declared = self._introspection.type(type_name)
        if isinstance(declared, Object):
            return self.members(type_name, value) if isinstance(value, dict) else value
        if isinstance(declared, Array):
            return self.array(declared, value, path, place)
        if isinstance(declared, Alternate):
            return self._alternate(declared, value, path, place)
        text = self.scalar(value)
        if text is None or isinstance(declared, Enumeration):
            return value if text is None else text
        return self.builtin(declared, text, path, place)

    def array(self, declared: Array, value: object, path: str, place: str) -> object:
        """A list: the members `0`, `1`, ... of a tree."""
        if not isinstance(value, dict):
            return value
        numbered = [value[str(number)] for number in range(len(value)) if str(number) in value]
        return [self.value(declared.element, each, path, place) for each in numbered]

    def _alternate(self, declared: Alternate, value: object, path: str, place: str) -> object:
        for branch in declared.branches:
            if isinstance(value, dict) == isinstance(self._introspection.type(branch), Object):
                return self.value(branch, value, path, place)
        return value

    def builtin(self, declared: Builtin, text: str, path: str, place: str) -> object:
        """A string that has to be something else.

        :raise OptionError: it is not.
        """
        if declared.name == "bool":
            return key_values.boolean(path, text)
        if declared.name == "int":
            return self.integer(text, path, self._integers.get(place, "int64"))
        return text

    def integer(self, text: str, path: str, kind: str) -> int:
        """A number, or a size with its suffix where the type can be one.

        :raise OptionError: it is neither.
        """
        if kind == "uint64":
            return _size(text, path, f"Parameter '{path}' expects size")
        return key_values.signed_integer(path, text)


class _Flat(_Nested):
    """The same for flat lists, where a key's values come as a list of those that were given."""

    def scalar(self, value: object) -> str | None:
        return str(value[-1]) if isinstance(value, list) else None

    def array(self, declared: Array, value: object, path: str, place: str) -> object:
        element = self._introspection.type(declared.element)
        given = cast("list[str]", value)
        if isinstance(element, Object) and len(element.members) == 1:
            return [{element.members[0].name: text} for text in given]
        return [self.value(declared.element, [text], path, place) for text in given]

    def integer(self, text: str, path: str, kind: str) -> int:
        if kind == "uint64":
            return _size(text, path, f"Parameter '{path}' expects a size value")
        # QEMU's visitor of flat lists reads all of them as 64 bits.
        kind = "int64" if kind.startswith("i") else "uint64"
        article = "an" if kind.startswith("i") else "a"
        try:
            return key_values.signed_integer(path, text)
        except OptionError:
            raise OptionError(f"Parameter '{path}' expects {article} {kind} value") from None


def _size(text: str, path: str, refusal: str) -> int:
    try:
        return key_values.size(path, text)
    except OptionError:
        raise OptionError(refusal) from None
