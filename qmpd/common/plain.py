"""Dataclasses as plain data and back: how one process tells another what it was started with."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def to_plain(value: object) -> object:
    """`value` as dictionaries, lists and scalars.  It may consist of dataclasses, string enumerations and these."""
    if isinstance(value, enum.StrEnum):
        return str(value)
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(kind: type[Kind], value: object) -> Kind:
    """What `to_plain` made `value` of.  Fields that `value` lacks have their defaults, unknown ones are ignored,
    so that two versions of a program understand each other.

    :raise ValueError: an enumeration has no such member.
    """
    return typing.cast("Kind", _build(kind, value))


@cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> object:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
        return _build(kind, value)
    if origin is list:
        (item,) = typing.get_args(kind)
        return [_build(item, each) for each in value]
    if origin is tuple:
        kinds = typing.get_args(kind)
        if kinds[1:] == (...,):
            return tuple(_build(kinds[0], each) for each in value)
        return tuple(_build(item, each) for item, each in zip(kinds, value, strict=True))
    if origin in (dict, Mapping):
        _, item = typing.get_args(kind)
        return {key: _build(item, each) for key, each in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        known = _types(kind)
        return kind(**{name: _build(known[name], each) for name, each in value.items() if name in known})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    return value
