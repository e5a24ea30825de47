"""Plain data as bytes, in a format that whoever reads it can trust to make plain data again, and not much of it.

It is JSON, which another program may have written as well: reading it can neither take more memory than its size
allows nor make anything but dictionaries, lists and scalars.  What JSON lacks stands in objects of a single member:

    {"\\0t": [...]}   a tuple           {"\\0b": "..."}   bytes, each as the character of its number
    {"\\0s": [...]}   a set             {"\\0f": "..."}   a float that is no number, in Python's words
    {"\\0f": [...]}   a frozen set      {"\\0i": "..."}   an integer beyond 64 bits, in hexadecimal digits
    {"\\0d": [...]}   a dictionary, as a list of its keys and values in turn; one that JSON could not have, or that
                     looks like one of these
    {"\\0j": "..."}   a value that clients have nested deeper than `DEPTH`, as JSON of its own
    {"\\0u": "..."}   text with half a surrogate pair, its bytes in UTF-8 as those
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.wire import Decoder, ParseError
from qmpd.wire.snapshot import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH = 64
"""How deep values nest here; only what clients have sent nests deeper."""

_WORD = 1 << 63
_SIMPLE = frozenset({str, int, bool, type(None)})
_TEXT = frozenset({str})


class NotPlain(ValueError):  # noqa: N818 - it says what the bytes are
    """What came is no plain data; the text says why."""


def write(value: object) -> bytes:
    """`value`, which consists of the types of above, as bytes.

    :raise TypeError: it consists of others as well.
    """
    try:
        return orjson.dumps(_packed(value, 0, False))
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits, or half a surrogate pair: these are looked for only where there is one.
        return orjson.dumps(_packed(value, 0, True))


def read(data: bytes | bytearray | memoryview) -> Any:
    """The value that `write` made `data` of.

    :raise NotPlain: it made something else of nothing.
    """
    try:
        return _unpacked(orjson.loads(data))
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
        raise NotPlain(str(error)) from None


def _packed(value: Any, depth: int, careful: bool) -> Any:
    kind = type(value)
    if kind in _SIMPLE:
        return _scalar(value) if careful else value
    if kind is float:
        return value if isfinite(value) else {"\0f": repr(value)}
    if kind is bytes:
        return {"\0b": value.decode("latin-1")}
    if depth > DEPTH and kind in (dict, list):
        return {"\0j": text_of(value)}
    if kind is dict:
        return _packed_dictionary(value, depth, careful)
    if kind is list:
        return _packed_items(value, depth, careful)
    if kind is tuple:
        return {"\0t": _packed_items(value, depth, careful)}
    if kind is set:
        return {"\0s": _packed_items(value, depth, careful)}
    if kind is frozenset:
        return {"\0f": _packed_items(value, depth, careful)}
    raise TypeError(f"{kind.__name__} is no plain data")


def _packed_items(items: Any, depth: int, careful: bool) -> list[Any]:
    if not careful and _SIMPLE.issuperset(map(type, items)):
        return items if type(items) is list else list(items)
    return [_packed(item, depth + 1, careful) for item in items]


def _packed_dictionary(value: dict[Any, Any], depth: int, careful: bool) -> dict[str, Any]:
    looks_like_a_mark = len(value) == 1 and next(iter(value)) in _UNPACKED
    if looks_like_a_mark or not _TEXT.issuperset(map(type, value)) or (careful and not all(map(_is_text, value))):
        return {"\0d": [_packed(each, depth + 1, careful) for pair in value.items() for each in pair]}
    if not careful and _SIMPLE.issuperset(map(type, value.values())):
        return value
    return {key: _packed(member, depth + 1, careful) for key, member in value.items()}


def _scalar(value: Any) -> Any:
    if type(value) is str and not _is_text(value):
        return {"\0u": value.encode("utf-8", "surrogatepass").decode("latin-1")}
    if type(value) is int and not -_WORD <= value < 2 * _WORD:
        return {"\0i": f"{value:x}"}
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unpacked(value: Any) -> Any:
    if type(value) is list:
        return value if _SIMPLE.issuperset(map(type, value)) else [_unpacked(item) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        key, member = next(iter(value.items()))
        unpack = _UNPACKED.get(key)
        if unpack is not None:
            return unpack(member)
    if _SIMPLE.issuperset(map(type, value.values())):
        return value
    return {key: _unpacked(member) for key, member in value.items()}


def _items(value: Any) -> list[Any]:
    if type(value) is not list:
        raise NotPlain("there is no list where one has to be")
    unpacked: list[Any] = _unpacked(value)
    return unpacked


def _number_or_frozen(value: Any) -> Any:
    return float(value) if type(value) is str else frozenset(_items(value))


def _dictionary(value: Any) -> dict[Any, Any]:
    turns = iter(_items(value))
    return dict(zip(turns, turns, strict=True))


def _nested(text: str) -> object:
    found = Decoder().feed(text.encode() + b"\n")
    if len(found) != 1 or isinstance(found[0], ParseError):
        raise NotPlain("what is nested deep is no JSON")
    return found[0]


_UNPACKED: dict[str, Callable[[Any], Any]] = {
    "\0t": lambda value: tuple(_items(value)),
    "\0s": lambda value: set(_items(value)),
    "\0f": _number_or_frozen,
    "\0d": _dictionary,
    "\0b": lambda value: value.encode("latin-1"),
    "\0i": lambda value: int(value, 16),
    "\0j": _nested,
    "\0u": lambda value: value.encode("latin-1").decode("utf-8", "surrogatepass"),
}
"""What makes the value of what stands behind each mark."""
