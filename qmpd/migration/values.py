"""Plain values as bytes, for the stream: none, truth, integers, fractions, text, bytes, lists, and members by name.

| first byte | what follows |
|---|---|
| `N`, `T`, `F` | nothing: none, true, false |
| `I` | an integer: its length in bytes, then itself, two's complement |
| `R` | a fraction: 8 bytes, IEEE 754 |
| `S`, `B` | text in UTF-8, bytes: a length and so many |
| `L` | a list: how many, and each |
| `M` | members: how many, and for each its name as text, without its first byte, and its value |

A length has 4 bytes; all numbers have the most significant byte first.
"""

from __future__ import annotations

import struct
from typing import Any

DEPTH = 32
"""How deep values nest at most."""

_LENGTH = struct.Struct(">I")
_FRACTION = struct.Struct(">d")
_LARGEST_INTEGER = 16


def write(value: Any) -> bytes:
    """A value as bytes.

    :raise TypeError: it consists of something else.
    """
    parts: list[bytes] = []
    _put(value, parts)
    return b"".join(parts)


def _put(value: Any, parts: list[bytes]) -> None:
    if value is None or isinstance(value, bool):
        parts.append(b"N" if value is None else b"T" if value else b"F")
    elif isinstance(value, int):
        size = value.bit_length() // 8 + 1
        parts.append(b"I" + bytes([size]) + value.to_bytes(size, "big", signed=True))
    elif isinstance(value, float):
        parts.append(b"R" + _FRACTION.pack(value))
    elif isinstance(value, str):
        parts += [b"S", _text(value)]
    elif isinstance(value, (bytes, bytearray)):
        parts += [b"B", _LENGTH.pack(len(value)), bytes(value)]
    elif isinstance(value, (list, tuple)):
        parts += [b"L", _LENGTH.pack(len(value))]
        for each in value:
            _put(each, parts)
    elif isinstance(value, dict):
        parts += [b"M", _LENGTH.pack(len(value))]
        for name, member in value.items():
            parts.append(_text(name))
            _put(member, parts)
    else:
        raise TypeError(f"{type(value).__name__} is no plain value")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(data)) + data


def read(data: bytes) -> Any:
    """The value that these bytes are, all of them.

    :raise ValueError: they are none.
    """
    try:
        value, end = _value(data, 0, 0)
    except (IndexError, struct.error):
        raise ValueError("a value ends too early") from None
    if end != len(data):
        raise ValueError("something follows the value")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins there, and where the next one does; a guest stands still while this runs.

    :raise IndexError, struct.error: it ends too early.
    :raise ValueError: it is none.
    """
    kind = data[at]
    at += 1
    if kind == _TEXT:
        return _text_at(data, at)
    if kind == _INTEGER:
        begin, end = at + 1, at + 1 + data[at]
        if end - begin > _LARGEST_INTEGER or end > len(data):
            raise ValueError("an integer is too large")
        return int.from_bytes(data[begin:end], "big", signed=True), end
    if kind in _WORDS:
        return _WORDS[kind], at
    if kind == _FRACTION_KIND:
        return _FRACTION.unpack_from(data, at)[0], at + _FRACTION.size
    if depth >= DEPTH:
        raise ValueError("values nest too deep")
    count, at = _length_at(data, at)
    if kind == _BYTES:
        return data[at : at + count], at + count
    if kind == _MEMBERS:
        members = {}
        for _ in range(count):
            name, at = _text_at(data, at)
            members[name], at = _value(data, at, depth + 1)
        return members, at
    if kind == _LIST:
        elements = []
        for _ in range(count):
            element, at = _value(data, at, depth + 1)
            elements.append(element)
        return elements, at
    raise ValueError(f"there is no value of the kind {chr(kind)!r}")


def _length_at(data: bytes, at: int) -> tuple[int, int]:
    length = _LENGTH.unpack_from(data, at)[0]
    at += _LENGTH.size
    if length > len(data) - at:
        # Whatever is counted takes a byte at least.
        raise ValueError("a value is longer than all that there is")
    return length, at


def _text_at(data: bytes, at: int) -> tuple[str, int]:
    length, at = _length_at(data, at)
    return data[at : at + length].decode("utf-8", "surrogatepass"), at + length


class Pieces:
    """Bytes that are taken one part after another; `at` is where the next one begins."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next part.

        :raise ValueError: there is not as much.
        """
        if len(self._data) - self.at < size:
            raise ValueError("a value ends too early")
        part = self._data[self.at : self.at + size]
        self.at += size
        return bytes(part)


_TEXT, _INTEGER, _FRACTION_KIND, _BYTES, _LIST, _MEMBERS = b"SIRBLM"
_WORDS = {ord("N"): None, ord("T"): True, ord("F"): False}
