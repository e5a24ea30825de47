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
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise ValueError("something follows the value")
    return value


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


class _Reader(Pieces):
    """Reads one value after another."""

    def _length(self) -> int:
        length = int(_LENGTH.unpack(self.take(_LENGTH.size))[0])
        if length > len(self._data) - self.at:
            # Whatever is counted takes a byte at least.
            raise ValueError("a value is longer than all that there is")
        return length

    def _text(self) -> str:
        return self.take(self._length()).decode("utf-8", "surrogatepass")

    def value(self, depth: int) -> Any:
        """The next value."""
        if depth > DEPTH:
            raise ValueError("values nest too deep")
        kind = self.take(1)
        if kind in _WORDS:
            return _WORDS[kind]
        if kind == b"I":
            size = self.take(1)[0]
            if size > _LARGEST_INTEGER:
                raise ValueError("an integer is too large")
            return int.from_bytes(self.take(size), "big", signed=True)
        if kind == b"R":
            return _FRACTION.unpack(self.take(_FRACTION.size))[0]
        if kind == b"S":
            return self._text()
        if kind == b"B":
            return self.take(self._length())
        if kind == b"L":
            return [self.value(depth + 1) for _ in range(self._length())]
        if kind == b"M":
            return {self._text(): self.value(depth + 1) for _ in range(self._length())}
        raise ValueError(f"there is no value of the kind {kind!r}")


_WORDS = {b"N": None, b"T": True, b"F": False}
