"""A set of numbers from 0 on, made for bitmaps that are mostly empty, or mostly full."""

from __future__ import annotations

import bisect
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHIFT = 15
_CHUNK = 1 << _SHIFT
_FULL = (1 << _CHUNK) - 1
_CHUNK_BYTES = _CHUNK // 8


class Bits:
    """The numbers that are in it, held as large integers of 32768 bits each, which are there where one is set."""

    __slots__ = ("_chunks", "_keys", "count")

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}
        # The chunks' numbers in order; None after one has come or gone.
        self._keys: list[int] | None = []
        self.count = 0

    def copy(self) -> Bits:
        """The same numbers."""
        other = Bits()
        other._chunks = dict(self._chunks)
        other._keys = None
        other.count = self.count
        return other

    def _parts(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The chunks from `first` to `end`, and which of their bits are meant."""
        while first < end:
            key = first >> _SHIFT
            stop = min(end, (key + 1) << _SHIFT)
            length = stop - first
            yield key, _FULL if length == _CHUNK else (1 << length) - 1 << (first & _CHUNK - 1)
            first = stop

    def _put(self, key: int, old: int, new: int) -> None:
        if new == old:
            return
        self.count += new.bit_count() - old.bit_count()
        if not new:
            del self._chunks[key]
        else:
            self._chunks[key] = _FULL if new == _FULL else new
        if not new or not old:
            self._keys = None

    def set(self, first: int, end: int) -> None:
        """Put the numbers from `first` to before `end` in."""
        for key, mask in self._parts(first, end):
            old = self._chunks.get(key, 0)
            self._put(key, old, old | mask)

    def clear(self, first: int, end: int) -> None:
        """Take the numbers from `first` to before `end` out."""
        if end - first < _CHUNK:
            for key, mask in self._parts(first, end):
                old = self._chunks.get(key, 0)
                self._put(key, old, old & ~mask)
            return
        for key in [each for each in self._chunks if first >> _SHIFT <= each <= end - 1 >> _SHIFT]:
            low, high = max(first - (key << _SHIFT), 0), min(end - (key << _SHIFT), _CHUNK)
            old = self._chunks[key]
            self._put(key, old, old & ~((1 << high) - (1 << low)))

    def update(self, other: Bits) -> None:
        """Put all of another set's numbers in."""
        for key, value in other._chunks.items():
            old = self._chunks.get(key, 0)
            self._put(key, old, old | value)

    def __contains__(self, number: int) -> bool:
        """Whether a number is in."""
        return bool(self._chunks.get(number >> _SHIFT, 0) >> (number & _CHUNK - 1) & 1)

    def first_from(self, start: int) -> int | None:
        """The first number in it from `start` on; None without one."""
        key = start >> _SHIFT
        value = self._chunks.get(key, 0) >> (start & _CHUNK - 1)
        if value:
            return start + _lowest(value)
        if self._keys is None:
            self._keys = sorted(self._chunks)
        place = bisect.bisect_right(self._keys, key)
        if place == len(self._keys):
            return None
        key = self._keys[place]
        return (key << _SHIFT) + _lowest(self._chunks[key])

    def first_missing(self, start: int, end: int) -> int:
        """The first number from `start` on that is not in it; `end` where all before that are."""
        while start < end:
            value = ~self._chunks.get(start >> _SHIFT, 0) & _FULL
            value >>= start & _CHUNK - 1
            if value:
                return min(start + _lowest(value), end)
            start = (start >> _SHIFT) + 1 << _SHIFT
        return end

    def runs(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """The runs of numbers in it: the first of each, and the one after its last."""
        while True:
            first = self.first_from(start)
            if first is None or (end is not None and first >= end):
                return
            start = self.first_missing(first, 1 << 63 if end is None else end)
            yield first, start

    # As bytes, the lowest bit of the first byte first.

    def to_bytes(self, first: int, count: int) -> bytes:
        """`count` bytes of it, from the byte `first` on."""
        parts = []
        at, end = first, first + count
        while at < end:
            key, within = divmod(at, _CHUNK_BYTES)
            stop = min(end, (key + 1) * _CHUNK_BYTES)
            value = self._chunks.get(key, 0)
            if not value:
                parts.append(bytes(stop - at))
            else:
                parts.append(value.to_bytes(_CHUNK_BYTES, "little")[within : within + stop - at])
            at = stop
        return b"".join(parts)

    def put_bytes(self, first: int, content: bytes | bytearray) -> None:
        """Put in what these bytes say, which are those from the byte `first` on."""
        at, end = first, first + len(content)
        while at < end:
            key, within = divmod(at, _CHUNK_BYTES)
            stop = min(end, (key + 1) * _CHUNK_BYTES)
            value = int.from_bytes(content[at - first : stop - first], "little")
            if value:
                old = self._chunks.get(key, 0)
                self._put(key, old, old | value << within * 8)
            at = stop

    def digest(self, count: int) -> str:
        """The SHA-256 of its first `count` bytes, in hexadecimal digits."""
        found = hashlib.sha256()
        for at in range(0, count, _CHUNK_BYTES):
            found.update(self.to_bytes(at, min(_CHUNK_BYTES, count - at)))
        return found.hexdigest()


def _lowest(value: int) -> int:
    """The number of the lowest bit that is set."""
    return (value & -value).bit_length() - 1
