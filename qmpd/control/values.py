"""Values on their way from Python to the wire."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any


class Missing(enum.Enum):
    """What stands in the place of a value that is not there, where None would be JSON's null."""

    MISSING = "missing"


MISSING = Missing.MISSING


def wire_name(name: str) -> str:
    """A Python name as it is spelled on the wire (`return_` is `return`)."""
    return name.rstrip("_").replace("_", "-")


def without_plain_strings(annotation: Any) -> Any:
    """An annotation without the `str` that stands beside an enumeration: Python code may spell its values."""
    if not isinstance(annotation, types.UnionType) and typing.get_origin(annotation) is not typing.Union:
        return annotation
    kinds = typing.get_args(annotation)
    if str not in kinds or not any(isinstance(kind, type) and issubclass(kind, enum.Enum) for kind in kinds):
        return annotation
    rest = tuple(kind for kind in kinds if kind is not str)
    return rest[0] if len(rest) == 1 else typing.Union[rest]  # noqa: UP007 - made of what there is


class Verbatim(list[Any]):
    """A list of JSON values that are what they are on the wire."""


def to_wire(value: object) -> object:
    """A command's result as JSON values: None is no value."""
    if value is None:
        return {}
    if isinstance(value, enum.StrEnum):
        return str(value)
    if isinstance(value, Verbatim):
        return value
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = {}
        for field in dataclasses.fields(value):
            member = getattr(value, field.name)
            if field.type == "Any":
                if member is not MISSING:
                    result[wire_name(field.name)] = member
            elif member is not None:
                result[wire_name(field.name)] = to_wire(member)
        return result
    if isinstance(value, dict):
        return {wire_name(name): to_wire(member) for name, member in value.items()}
    return value
