"""Lists of keys and values on the command line as the arguments of a command of QAPI.

`-object`, `-netdev` and `-blockdev` take what `object-add`, `netdev_add` and `blockdev-add` take, as a list in which
everything is a string or as a JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal, Worded
from qmpd.common.scalars import size_of
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object

if TYPE_CHECKING:
    from qmpd.option_language.key_values import Tree
    from qmpd.qapi.introspection import Introspection, Member
    from qmpd.qapi.release import Release

    Values = dict[str, object]

SIZE = "size"
# Members of 64 bits without sign that are no sizes (QAPI's `uint64`, not its `size`).  Neither introspection nor errors
# over QMP tell the two apart; docs/interop/qemu-qmp-ref does, and it has never changed for any of these.
_COUNTS = frozenset((
    "attributes", "compare_timeout", "latency", "latency-ns", "log-super-update-interval", "policy", "rxcookie",
    "throttle-bps", "throttle-ops", "txcookie",
))  # fmt: skip


def from_json(release: Release, type_name: str, text: str) -> Values:
    """The value of an object type that a JSON object holds.

    :raise Refusal: it is no JSON, or the type would refuse it.
    """
    from qmpd.wire.json_text import parse

    try:
        value = parse(text, release.behaviour.json_parser)
    except ValueError as error:
        raise OptionError(str(error)) from None
    return _checked(release, type_name, value)


def from_pairs(release: Release, type_name: str, pairs: list[tuple[str, str]]) -> Values:
    """The value that a flat list holds; a key that comes several times makes a list where the type has one.

    :raise Refusal: the type would refuse it.
    """
    values: dict[str, object] = {}
    for key, value in pairs:
        values[key] = [*cast("list[str]", values.get(key, [])), value]
    converted = _Flat(release).members(type_name, values)
    try:
        return _checked(release, type_name, converted)
    except ArgumentError as error:
        if error.code != "parameter-unexpected":
            raise
        raise Refusal("option-unknown", **error.values) from None


def from_tree(release: Release, type_name: str, tree: Tree) -> Values:
    """The value that a tree of keys holds.

    :raise Refusal: the type would refuse it.
    """
    return _checked(release, type_name, _Nested(release).members(type_name, cast("Values", tree)))


def check(release: Release, type_name: str, values: Values, *, is_text: bool) -> Values:
    """The value that this is; `is_text`: what is in it is text, as a tree of keys has it.

    :raise Refusal: the type would refuse it.
    """
    if is_text:
        values = _Nested(release).members(type_name, values)
    return _checked(release, type_name, values)


def argument_type(release: Release, command: str) -> str:
    """The type of a command's arguments."""
    return release.introspection.command(command).arguments


def returned_type(release: Release, command: str) -> str | None:
    """The type of the objects that a command returns, one or several; None where the release has no such command."""
    introspection = release.introspection
    if not introspection.has_command(command):
        return None
    found = introspection.type(introspection.command(command).returns)
    return found.element if isinstance(found, Array) else found.name


def _checked(release: Release, type_name: str, value: object) -> Values:
    if not isinstance(value, dict):
        raise ArgumentError("parameter-type", name="null", expected="object")
    release.argument_compiler.object_checker(type_name)(value)
    return value


class _Nested:
    """Gives strings the types that a declaration wants, in its order, and refuses the first that does not fit.

    What it does not know stays as it is, to be refused later.
    """

    def __init__(self, release: Release) -> None:
        self._introspection: Introspection = release.introspection
        self._integers = release.names.integers
        self._sizes = release.behaviour.size_language

    def members(self, type_name: str, values: Values, prefix: str = "") -> Values:
        """An object's members.

        :raise Refusal: one of them is missing or does not fit.
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
                self.absent(member, {key: value for key, value in values.items() if key not in result}, prefix)
        if declared.tag is not None and (tag := self.scalar(values.get(declared.tag))) is not None:
            branch = declared.variants.get(tag)
            if branch is not None:
                left = {key: value for key, value in values.items() if key not in result}
                result |= self._declared(branch, left, prefix)
        return result

    def absent(self, member: Member, left: Values, prefix: str) -> None:
        """Refuse that a member is not there; `left` are the values that no member has taken.

        :raise Refusal: always.
        """
        del left
        raise ArgumentError("parameter-missing", name=self.path(prefix, member.name))

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
            return value if declared.name == "any" else self.branch(value, path)
        if isinstance(declared, Enumeration):
            if text not in declared.values:
                raise ArgumentError("enum-refusal", name=path.rpartition(".")[2], value=text)
            return text
        return self.builtin(declared, text, path, place)

    def branch(self, value: object, path: str) -> object:
        """What is no string where one has to be.

        :raise Refusal: it is a tree, or nothing.
        """
        if value is None:
            raise Worded(f"Internal error: parameter {path} invalid")
        if isinstance(value, (dict, list)):
            raise Refusal("keys-unexpected", path=path)
        return value

    def array(self, declared: Array, value: object, path: str, place: str) -> object:
        """A list: the members `0`, `1`, ... of a tree."""
        if not isinstance(value, dict):
            return value
        if not all(is_digits(key) for key in value):
            raise Refusal("keys-inconsistent", path=f"{path}.")
        numbered = {from_digits(key): each for key, each in value.items()}
        for number in range(len(numbered)):
            if number not in numbered:
                raise Refusal("list-element-missing", name=f"{path}.{number}")
        return [self.value(declared.element, numbered[number], path, place) for number in range(len(numbered))]

    def _alternate(self, declared: Alternate, value: object, path: str, place: str) -> object:
        for branch in declared.branches:
            if isinstance(value, dict) == isinstance(self._introspection.type(branch), Object):
                return self.value(branch, value, path, place)
        return value

    def builtin(self, declared: Builtin, text: str, path: str, place: str) -> object:
        """A string that has to be something else.

        :raise Refusal: it is not.
        """
        if declared.name == "bool":
            return key_values.boolean(path, text)
        if declared.name == "int":
            kind = self._integers.get(place, "int64")
            if kind == "uint64" and place.rpartition("/")[2] not in _COUNTS:
                kind = SIZE
            return self.integer(text, path, kind)
        return text

    def integer(self, text: str, path: str, kind: str) -> int:
        """A number, or a size with its suffix where the type can be one.

        :raise Refusal: it is neither.
        """
        if kind == SIZE:
            return self.size(text, Refusal("size-expected", name=path))
        return key_values.signed_integer(path, text)

    def size(self, text: str, refusal: Refusal) -> int:
        """A size.

        :raise Refusal: it is none; this one.
        """
        try:
            return size_of(text, self._sizes)
        except (ValueError, OverflowError):
            raise refusal from None


class _Flat(_Nested):
    """The same for flat lists, where a key's values come as a list of those that were given."""

    def absent(self, member: Member, left: Values, prefix: str) -> None:
        # An object within has its members in the same list.
        if isinstance(self._introspection.type(member.type), Object):
            self._declared(member.type, left, prefix)
        super().absent(member, left, prefix)

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
        except Refusal:
            low, high = 1, 0
        if low > high:
            raise Refusal("uint64-range-expected" if unsigned else "int64-range-expected", name=path)
        return range(low, high + 1)

    def integer(self, text: str, path: str, kind: str) -> int:
        if kind == SIZE:
            return self.size(text, Refusal("size-value-expected", name=path))
        # QEMU's visitor of flat lists reads all of them as 64 bits.
        signed = kind.startswith("i")
        refusal = Refusal("int64-value-expected" if signed else "uint64-value-expected", name=path)
        try:
            number = key_values.signed_integer(path, text)
        except Refusal:
            raise refusal from None
        if number < 0 and not signed:
            raise refusal
        return number
