"""Lists of keys and values on the command line as the arguments of a command of QAPI.

`-object`, `-netdev` and `-blockdev` take what `object-add`, `netdev_add` and `blockdev-add` take, as a list in which
everything is a string or as a JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object

if TYPE_CHECKING:
    from qmpd.option_language.key_values import Tree
    from qmpd.qapi.introspection import Introspection
    from qmpd.qapi.release import Release

    Values = dict[str, object]


def from_json(release: Release, type_name: str, text: str) -> Values:
    """The value of an object type that a JSON object holds.

    :raise OptionError: it is no JSON, or the type would refuse it.
    """
    from qmpd.wire.json_text import parse

    try:
        value = parse(text, release.behaviour.json_parser)
    except ValueError as error:
        raise OptionError(str(error)) from None
    return _checked(release, type_name, value, "Parameter '{}' is unexpected")


def from_pairs(release: Release, type_name: str, pairs: list[tuple[str, str]]) -> Values:
    """The value that a flat list holds; a key that comes several times makes a list where the type has one.

    :raise OptionError: the type would refuse it.
    """
    values: dict[str, object] = {}
    for key, value in pairs:
        values[key] = [*cast("list[str]", values.get(key, [])), value]
    converted = _Flat(release).members(type_name, values)
    return _checked(release, type_name, converted, "Invalid parameter '{}'")


def from_tree(release: Release, type_name: str, tree: Tree) -> Values:
    """The value that a tree of keys holds.

    :raise OptionError: the type would refuse it.
    """
    converted = _Nested(release).members(type_name, cast("Values", tree))
    return _checked(release, type_name, converted, "Parameter '{}' is unexpected")


def check(release: Release, type_name: str, values: Values, *, is_text: bool) -> Values:
    """The value that this is; `is_text`: what is in it is text, as a tree of keys has it.

    :raise OptionError: the type would refuse it.
    """
    if is_text:
        values = _Nested(release).members(type_name, values)
    return _checked(release, type_name, values, "Parameter '{}' is unexpected")


def argument_type(release: Release, command: str) -> str:
    """The type of a command's arguments."""
    return release.introspection.command(command).arguments


def returned_type(release: Release, command: str) -> str | None:
    """The type of the objects that a command returns, one or several; None where the release has no such command."""
    introspection = release.introspection
    if command not in introspection.commands:
        return None
    found = introspection.type(introspection.command(command).returns)
    return found.element if isinstance(found, Array) else found.name


def _checked(release: Release, type_name: str, value: object, unexpected: str) -> Values:
    if not isinstance(value, dict):
        raise OptionError("Invalid parameter type for 'null', expected: object")
    try:
        release.argument_compiler.object_checker(type_name)(value)
    except ArgumentError as error:
        message = error.message
        if message.endswith("' is unexpected"):
            message = unexpected.format(message.removeprefix("Parameter '").removesuffix("' is unexpected"))
        raise OptionError(message) from None
    return value


class _Nested:
    """Gives strings the types that a declaration wants, in its order, and refuses the first that does not fit.

    What it does not know stays as it is, to be refused later.
    """

    def __init__(self, release: Release) -> None:
        self._introspection: Introspection = release.introspection
        self._integers = release.names.integers
        self._enum_refusal = release.behaviour.enum_refusal

    def members(self, type_name: str, values: Values, prefix: str = "") -> Values:
        """An object's members.

        :raise OptionError: one of them is missing or does not fit.
        """
        result = self._declared(type_name, values, prefix)
        for key, value in values.items():
            if key not in result:
                found = self.scalar(value)
                result[key] = value if found is None else found
        return result

    def _declared(self, type_name: str, values: Values, prefix: str) -> Values:
        declared = cast("Object", self._introspection.type(type_name))
        result: Values = {}
        for member in declared.members:
            name = member.name
            if name in values:
                place = f"{declared.name}/{name}"
                result[name] = self.value(member.type, values[name], self.path(prefix, name), place)
            elif not member.optional:
                raise OptionError(f"Parameter '{self.path(prefix, name)}' is missing")
        if declared.tag is not None and (tag := self.scalar(values.get(declared.tag))) is not None:
            branch = declared.variants.get(tag)
            if branch is not None:
                result |= self._declared(branch, values, prefix)
        return result

    def path(self, prefix: str, name: str) -> str:
        """What errors call a member."""
        return prefix + name

    def scalar(self, value: object) -> str | None:
        """The string that a value without a declared type is."""
        return value if isinstance(value, str) else None

    def value(self, type_name: str, value: object, path: str, place: str) -> object:
        """One value."""
        declared = self._introspection.type(type_name)
        if isinstance(declared, Object):
            return self.members(type_name, value, f"{path}.") if isinstance(value, dict) else value
        if isinstance(declared, Array):
            return self.array(declared, value, path, place)
        if isinstance(declared, Alternate):
            return self._alternate(declared, value, path, place)
        text = self.scalar(value)
        if text is None:
            return value
        if isinstance(declared, Enumeration):
            if text not in declared.values:
                name = path.rpartition(".")[2]
                raise OptionError(self._enum_refusal.format(name=name, value=text))
            return text
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
        if isinstance(element, Builtin) and element.name == "int":
            return [number for text in given for number in self._range(text, path, place)]
        return [self.value(declared.element, [text], path, place) for text in given]

    def _range(self, text: str, path: str, place: str) -> range:
        """Numbers of a list, which may be given as `FIRST-LAST`."""
        unsigned = not self._integers.get(f"{place}[]", self._integers.get(place, "uint64")).startswith("i")
        first, dash, last = text.partition("-")
        try:
            low = key_values.number(path, first)
            high = key_values.number(path, last) if dash else low
        except OptionError:
            low, high = 1, 0
        if low > high:
            kind = "a uint64" if unsigned else "an int64"
            raise OptionError(f"Parameter '{path}' expects {kind} value or range")
        return range(low, high + 1)

    def integer(self, text: str, path: str, kind: str) -> int:
        if kind == "uint64":
            return _size(text, path, f"Parameter '{path}' expects a size value")
        # QEMU's visitor of flat lists reads all of them as 64 bits.
        kind = "int64" if kind.startswith("i") else "uint64"
        article = "an" if kind.startswith("i") else "a"
        try:
            number = key_values.signed_integer(path, text)
        except OptionError:
            raise OptionError(f"Parameter '{path}' expects {article} {kind} value") from None
        if number < 0 and kind == "uint64":
            raise OptionError(f"Parameter '{path}' expects a uint64 value")
        return number


def _size(text: str, path: str, refusal: str) -> int:
    try:
        return key_values.size(path, text)
    except OptionError:
        raise OptionError(refusal) from None
