"""What Python code gives to the methods of control commands: checked, and plain strings turned into enumerations.

The socket's arguments are checked by the interface's schema; a call from Python passes through here instead, so that
`guest.set(on_unplug="ignore")` means what it says, and a wrong name or value is told at once.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from qmpd.common.suggestions import suggestion
from qmpd.control.errors import ControlError
from qmpd.control.values import MISSING, wire_name, without_plain_strings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NUMBERS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float)}
_WORDS: dict[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "True or False"}


@cache
def _shape(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """A method's signature, and the annotations of its parameters; the members of its keyword arguments among them."""
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    annotations: dict[str, Any] = {}
    for parameter in list(signature.parameters.values())[1:]:
        annotation = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            annotations |= typing.get_type_hints(typing.get_args(annotation)[0])
        else:
            annotations[parameter.name] = annotation
    return signature, annotations


def checked(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, as the method takes them.

    :raise TypeError: the method has no such parameter, or lacks an argument.
    :raise ControlError: a value is not what the parameter takes, or there is no option of that name.
    """
    signature, annotations = _shape(function)
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    if takes_any:
        for name in options:
            if name not in annotations:
                known = [wire_name(each) for each in annotations]
                raise ControlError(f"there is no option '{wire_name(name)}'{suggestion(wire_name(name), known)}")
    signature.bind(None, *arguments, **options)
    names = list(signature.parameters)[1:]
    return (
        tuple(_value(name, value, annotations[name]) for name, value in zip(names, arguments, strict=False)),
        {name: _value(name, value, annotations[name]) for name, value in options.items()},
    )


def _value(name: str, value: Any, annotation: Any) -> Any:
    annotation = without_plain_strings(annotation)
    if annotation is Any or value is MISSING:
        return value
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) != 1:
        # A time: a number, or a text that is looked at where it is used.
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return value
        raise ControlError(f"'{wire_name(name)}' is a number or a string, not {value!r}")
    kind = kinds[0]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(name, value, kind)
    if typing.get_origin(kind) is list:
        return _list(name, value, typing.get_args(kind)[0])
    if kind in _WORDS:
        wanted = _NUMBERS.get(kind, (kind,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise ControlError(f"'{wire_name(name)}' is {_WORDS[kind]}, not {value!r}")
    return value


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def _member(name: str, value: Any, kind: type[enum.Enum]) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        values = [str(member.value) for member in kind]
        raise ControlError(f"'{wire_name(name)}' does not take {value!r}{suggestion(str(value), values)}") from None


def _list(name: str, value: Any, kind: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise ControlError(f"'{wire_name(name)}' is a list, not {value!r}")
    return [_value(name, item, kind) for item in value]
