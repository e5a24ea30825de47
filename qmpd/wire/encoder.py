"""The way out: values in QEMU's spelling, byte for byte.

ASCII only; `", "` and `": "` between members; members in the order of QEMU's dictionary; doubles as C's printf writes
them. The pretty form is that of `-qmp-pretty`.
"""

from __future__ import annotations

import re
from _json import encode_basestring_ascii as _escape
from typing import TYPE_CHECKING

from orjson import dumps

from qmpd.common.dictionary_order import in_order
from qmpd.wire.unicode import holds_noncharacter, invalid_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Beyond this depth the walk keeps its own stack: input may nest 1024 deep, more than Python may recurse.
_RECURSION = 100

# Objects have few shapes, most of them known beforehand. Shapes and strings from clients must not pile up.
_CACHED_SHAPES = 4096
_CACHED_SHAPE_KEYS = 64
_CACHED_KEY_LENGTH = 64

# From this length on a string is first tried with orjson, which is quicker over what needs no escape.
_LONG = 1000
_DELETE = "\x7f"


class Encoded(bytes):
    """A value that is in QEMU's spelling already. `encode` puts it in as it is."""

    __slots__ = ()


def _uppercase(escapes: re.Match[str]) -> str:
    # C's %04X, while Python's digits are small.
    text = escapes[0]
    return text.upper().replace("U", "u") if text[1] == "u" else text


def encode_string(text: str) -> str:
    """A string with its quotes, escaped as QEMU does; what QEMU takes for no character becomes U+FFFD."""
    if len(text) >= _LONG and text.isascii() and _DELETE not in text:
        plain = dumps(text)
        if len(plain) == len(text) + 2:
            # Nothing was escaped. (DELETE is what QEMU escapes and orjson does not.)
            return plain.decode("ascii")
    spelt: str = _escape(text)
    return _mend(text, spelt) if "\\u" in spelt else spelt


def _mend(text: str, spelt: str) -> str:
    """The spelling of a string that needed Unicode escapes (or looks so), from Python's for it."""
    if holds_noncharacter(text):
        spelt = _escape(invalid_characters().sub("\ufffd", text))
    # Runs of Unicode escapes; the other escapes, among them pairs of backslashes, are matched to be stepped over.
    return re.sub(r"(?:\\u[0-9a-f]{4})+|\\.", _uppercase, spelt)


def _float_g17(value: float) -> str:
    return f"{value:.17g}"


def _float_fixed(value: float) -> str:
    spelt = f"{value:f}"
    return spelt.rstrip("0").rstrip(".") if "." in spelt else spelt


# How a release writes doubles. "g17": printf's %.17g (7.2 and later). "f": six decimals, then zeros at the end are cut
# and so is a point that is left there (5.2: 0.1, 1e-7 as 0, 18446744073709551616).
_FLOAT_FORMATS: dict[str, Callable[[float], str]] = {"g17": _float_g17, "f": _float_fixed}

# For the keys of an object in the order in which they were put in: each with its spelling (`"key": `, after a comma
# where it is not the first), in the order in which they come out.
_shapes: dict[tuple[str, ...], list[tuple[str, str]]] = {}


def _shape(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    shape: list[tuple[str, str]] = []
    lead = "{"
    for key in in_order(keys):
        shape.append((key, f"{lead}{encode_string(key)}: "))
        lead = ", "
    if len(keys) <= _CACHED_SHAPE_KEYS and all(len(key) <= _CACHED_KEY_LENGTH for key in keys):
        if len(_shapes) >= _CACHED_SHAPES:
            _shapes.clear()
        _shapes[keys] = shape
    return shape


def encode(value: object, float_format: str = "g17") -> bytes:
    """`value` in QEMU's spelling, without a line end. A dict's order is taken as that in which its keys were put in.

    :raise KeyError: `float_format` is neither "g17" nor "f".
    :raise TypeError: something in `value` is not a JSON value, or `Encoded`.
    """
    return _spell(value, _FLOAT_FORMATS[float_format], 0).encode("ascii")


def _spell(value: object, spell_float: Callable[[float], str], depth: int) -> str:
    kind = type(value)
    if kind is dict and value:
        if depth >= _RECURSION:
            return _spell_deep(value, spell_float)
        keys: tuple[str, ...] = tuple(value)  # type: ignore[arg-type]
        parts: list[str] = []
        for key, lead in _shapes.get(keys) or _shape(keys):
            item = value[key]  # type: ignore[index]
            kind = type(item)
            # The commonest kinds without another call; as below.
            if kind is str and len(item) < _LONG:
                spelt = _escape(item)
                parts += lead, _mend(item, spelt) if "\\u" in spelt else spelt
            elif kind is int:
                parts += lead, str(item)
            elif kind is bool:
                parts += lead, "true" if item else "false"
            else:
                parts += lead, _spell(item, spell_float, depth + 1)
        parts.append("}")
        return "".join(parts)
    if kind is list and value:
        if depth >= _RECURSION:
            return _spell_deep(value, spell_float)
        depth += 1
        return f"[{', '.join([_spell(item, spell_float, depth) for item in value])}]"  # type: ignore[attr-defined]
    if kind is str:
        return encode_string(value)  # type: ignore[arg-type]
    if kind is Encoded:
        return str(value, "ascii")  # type: ignore[call-overload, no-any-return]
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    if kind is dict:
        return "{}"
    if kind is list:
        return "[]"
    if kind is float:
        return spell_float(value)  # type: ignore[arg-type]
    return _spell(_plain(value), spell_float, depth)


def _plain(value: object) -> object:
    """The JSON value that `value`, of a class derived from one (an enum's member, say), stands for.

    :raise TypeError: there is none.
    """
    if isinstance(value, Encoded):
        return Encoded(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    raise TypeError(f"no JSON value: {type(value).__name__}")


def _spell_deep(value: object, spell_float: Callable[[float], str]) -> str:
    """What `_spell` gives, with the open containers in a list of its own."""
    parts: list[str] = []
    pending: list[tuple[Iterator[tuple[str, object]], str]] = [(iter([("", value)]), "")]
    while pending:
        members, end = pending[-1]
        for lead, item in members:
            parts.append(lead)
            if item and isinstance(item, dict):
                pending.append((_members(item), "}"))
                break
            if item and isinstance(item, (list, tuple)):
                pending.append((_elements(item), "]"))
                break
            parts.append(_spell(item, spell_float, 0))
        else:
            parts.append(end)
            pending.pop()
    return "".join(parts)


def _members(value: dict[str, object]) -> Iterator[tuple[str, object]]:
    keys = tuple(value)
    for key, lead in _shapes.get(keys) or _shape(keys):
        yield lead, value[key]


def _elements(value: Iterable[object]) -> Iterator[tuple[str, object]]:
    lead = "["
    for item in value:
        yield lead, item
        lead = ", "


def encode_pretty(value: object, float_format: str = "g17") -> bytes:
    """`value` as a monitor with `-qmp-pretty` writes it, four spaces a level, without a line end after it.

    Lines within end in CR LF, as all that a monitor writes. Empty containers take two lines.

    :raise KeyError: `float_format` is neither "g17" nor "f".
    :raise TypeError: something in `value` is not a JSON value, or `Encoded`.
    """
    newline = "\r\n"

    def lay_out(part: re.Match[str]) -> str:
        nonlocal newline
        text = part[0]
        first = text[0]
        if first == '"':
            return text
        if first == ",":
            return "," + newline
        if first in "{[":
            newline += "    "
            return text + newline
        newline = newline[:-4]
        return newline + text

    # What begins or ends a line; strings are matched to be stepped over.
    layout = r'"(?:[^"\\]|\\.)*"|[{\[]|[}\]]|, '
    laid_out = re.sub(layout, lay_out, encode(value, float_format).decode("ascii"))
    # An empty container has got a blank line.
    return re.sub(r"\r\n *(?=\r\n)", "", laid_out).encode("ascii")
