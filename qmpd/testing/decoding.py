"""What a control command returned, from JSON to the types that its method declares."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from qmpd.control.values import wire_name, without_plain_strings

if TYPE_CHECKING:
    from qmpd.control.performance import Declaration


@cache
def result_type(declaration: Declaration) -> Any:
    """The annotation of a command's result."""
    return typing.get_type_hints(declaration.function)["return"]


@cache
def _members(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def decode(value: Any, annotation: Any) -> Any:
    """A JSON value as the annotation has it."""
    if annotation is type(None):
        return None
    annotation = without_plain_strings(annotation)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        # What else is a union in these types is numbers and texts, which are what they are.
        return decode(value, members[0]) if len(members) == 1 and value is not None else value
    if typing.get_origin(annotation) is list:
        (item,) = typing.get_args(annotation)
        return [decode(each, item) for each in value]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return annotation(**_given(value, annotation))
    if typing.is_typeddict(annotation):
        return _given(value, annotation)
    return float(value) if annotation is float else value


def _given(value: dict[str, Any], annotation: Any) -> dict[str, Any]:
    """The members that are there, by their Python names."""
    names = {wire_name(name): (name, hint) for name, hint in _members(annotation).items()}
    return {names[key][0]: decode(member, names[key][1]) for key, member in value.items() if key in names}
