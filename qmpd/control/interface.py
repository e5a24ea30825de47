"""The control socket's interface: introspection, argument checks and JSON Schema, all made of the declarations.

The types of QAPI that can be written as annotations: `str`, `int`, `float`, `bool`, `Any`, enumerations
(`enum.StrEnum`), lists, objects (dataclasses, and TypedDicts for keyword arguments), and `Time`, `Range`
`Address` and `Size`, which are alternates of a number and a string.  `X | None` is an optional member.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qmpd.control.addresses import Address
from qmpd.control.declaration import declarations
from qmpd.control.performance import Declaration
from qmpd.control.ranges import Range
from qmpd.control.sizes import Size
from qmpd.control.times import Time
from qmpd.control.values import wire_name, without_plain_strings
from qmpd.qapi.arguments import ArgumentCompiler
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.naming import Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Entry = dict[str, Any]

EMPTY_OBJECT = "Empty"

_BUILTINS: dict[Any, tuple[str, str]] = {
    str: ("str", "string"),
    int: ("int", "int"),
    float: ("number", "number"),
    bool: ("bool", "boolean"),
    Any: ("any", "value"),
}

_ALTERNATES: tuple[tuple[str, type, type], ...] = (
    ("Time", float, str), ("Range", int, str), ("Address", int, str),
    ("Size", int, str),
)


def _alternate(annotation: Any) -> tuple[str, type, type] | None:
    for annotated, alternate in zip((Time, Range, Address, Size), _ALTERNATES, strict=True):
        if annotation == annotated:
            return alternate
    return None


class Parameter(typing.NamedTuple):
    """One argument: its name in Python, its annotation without `None`, and whether it may be left out."""

    name: str
    annotation: Any
    optional: bool


class Command:
    """One control command as the socket offers it."""

    __slots__ = ("check", "declaration", "group", "name", "parameters")

    def __init__(self, group: str, declaration: Declaration, parameters: list[Parameter]) -> None:
        """`group` is the attribute of `Puppeteer` that has the method."""
        self.name = declaration.name
        self.group = group
        self.declaration = declaration
        self.parameters = {wire_name(parameter.name): parameter for parameter in parameters}
        self.check: Callable[[dict[str, object]], None] = _unchecked

    def keywords(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Arguments that were checked, as the method takes them."""
        return {
            self.parameters[name].name: from_wire(value, self.parameters[name].annotation)
            for name, value in arguments.items()
        }


def _unchecked(arguments: dict[str, object]) -> None:
    raise AssertionError("the check has not been made")


class Interface:
    """All commands and events of the control socket."""

    def __init__(self, groups: Mapping[str, type], events: Mapping[str, Any]) -> None:
        """`groups`: the classes by their attribute of `Puppeteer`; `events`: the types of the events' data."""
        self._builder = _Builder()
        self.commands: dict[str, Command] = {}
        for attribute, group in groups.items():
            for declaration in declarations(group):
                self._add(attribute, declaration)
        for name, data in events.items():
            self._builder.event(name, data)
        self.entries: list[Entry] = self._builder.finish()
        self.introspection = Introspection(self.entries)
        compiler = ArgumentCompiler(self.introspection, self.names)
        for command in self.commands.values():
            command.check = compiler.checker(command.name)

    def _add(self, attribute: str, declaration: Declaration) -> None:
        parameters, returns = _signature(declaration.function)
        self.commands[declaration.name] = Command(attribute, declaration, parameters)
        self._builder.command(declaration.name, parameters, returns)

    @property
    def names(self) -> Names:
        """What introspection does not tell."""
        return Names(alternates={name: name for name, *_ in _ALTERNATES})

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of all commands and events, as `qmpd.qapi.json_schema` lays it out."""
        from qmpd.qapi.json_schema import derive

        document = derive(self.introspection, self.names, "control")
        document["$id"] = "urn:qmpd:schemas:control"
        document["title"] = "The control socket of qmpd"
        for command in self.commands.values():
            definition = document["$defs"][f"{command.name}.arguments"]
            document["$defs"][f"{command.name}.arguments"] = {"description": command.declaration.summary, **definition}
        return document


def _signature(function: Callable[..., Any]) -> tuple[list[Parameter], Any]:
    """A method's parameters, without the first (itself), and its result's annotation."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        annotation = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = typing.get_args(annotation)[0]
            members = typing.get_type_hints(options)
            parameters += [
                Parameter(name, without_plain_strings(member), True) for name, member in members.items()
            ]
        else:
            inner, _ = _split_optional(annotation)
            parameters.append(Parameter(parameter.name, inner, parameter.default is not inspect.Parameter.empty))
    return parameters, hints["return"]


def _split_optional(annotation: Any) -> tuple[Any, bool]:
    annotation = without_plain_strings(annotation)
    if annotation is not Time and isinstance(annotation, types.UnionType | typing._UnionGenericAlias):  # type: ignore[attr-defined]
        members = typing.get_args(annotation)
        if type(None) in members:
            rest = [member for member in members if member is not type(None)]
            if set(rest) == set(typing.get_args(Time)):
                return Time, True
            if len(rest) == 1:
                return rest[0], True
    return annotation, False


class _Builder:
    """Collects the entries of introspection; each type is described once."""

    def __init__(self) -> None:
        self._commands: list[Entry] = []
        self._types: dict[str, Entry] = {}

    def command(self, name: str, parameters: Iterable[Parameter], returns: Any) -> None:
        members = [
            self._member(wire_name(parameter.name), parameter.annotation, parameter.optional)
            for parameter in parameters
        ]
        arguments = self._object(f"{name}-arguments", members) if members else self._empty()
        self._commands.append({
            "name": name,
            "ret-type": self._empty() if returns is type(None) else self._type(returns),
            "meta-type": "command",
            "arg-type": arguments,
        })

    def event(self, name: str, data: Any) -> None:
        self._commands.append({"name": name, "meta-type": "event", "arg-type": self._type(data)})

    def finish(self) -> list[Entry]:
        return self._commands + [self._types[name] for name in sorted(self._types)]

    def _empty(self) -> str:
        return self._object(EMPTY_OBJECT, [])

    def _object(self, name: str, members: list[Entry]) -> str:
        self._types[name] = {"name": name, "members": members, "meta-type": "object"}
        return name

    def _member(self, name: str, annotation: Any, optional: bool) -> Entry:
        entry: Entry = {"name": name, "type": self._type(annotation)}
        if optional:
            entry["default"] = None
        return entry

    def _type(self, annotation: Any) -> str:
        if annotation in _BUILTINS:
            name, json_type = _BUILTINS[annotation]
            self._types[name] = {"name": name, "json-type": json_type, "meta-type": "builtin"}
        elif (alternate := _alternate(annotation)) is not None:
            name, *kinds = alternate
            branches = [{"type": self._type(kind)} for kind in kinds]
            self._types[name] = {"name": name, "members": branches, "meta-type": "alternate"}
        elif typing.get_origin(annotation) is list:
            element = self._type(typing.get_args(annotation)[0])
            name = f"[{element}]"
            self._types[name] = {"name": name, "element-type": element, "meta-type": "array"}
        elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            name = annotation.__name__
            values = [str(value) for value in annotation]
            members = [{"name": value} for value in values]
            self._types[name] = {"name": name, "members": members, "meta-type": "enum", "values": values}
        else:
            name = annotation.__name__
            if name not in self._types:
                self._types[name] = {}
                self._object(name, [self._member(*member) for member in _members(annotation)])
        return name


def _members(annotation: Any) -> Iterable[tuple[str, Any, bool]]:
    """The members of an object: name on the wire, annotation, and whether they may be missing."""
    hints = typing.get_type_hints(annotation)
    if dataclasses.is_dataclass(annotation):
        for field in dataclasses.fields(annotation):
            inner, optional = _split_optional(hints[field.name])
            # A member of any type may be null, so it is missing only where its default is in its place.
            missing = optional or (inner is Any and field.default is not dataclasses.MISSING)
            yield wire_name(field.name), inner, missing
    else:
        for name, hint in hints.items():
            yield wire_name(name), without_plain_strings(hint), name in annotation.__optional_keys__


def from_wire(value: object, annotation: Any) -> Any:
    """A value that was checked, as Python has it."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if typing.get_origin(annotation) is list:
        inner = typing.get_args(annotation)[0]
        return [from_wire(item, inner) for item in value]  # type: ignore[attr-defined]
    return value
