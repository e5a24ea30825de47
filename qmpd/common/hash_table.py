"""The order in which QEMU walks names that it keeps in one of GLib's hash tables.

An object's properties are such a table, and so are the members of a request that are still to be visited.  The walk
goes through the table's places, so it depends on the names' hashes, on the order in which they were put in and taken
out, and on when the table grew, shrank or was cleared out; this takes the same steps on a table of the same shape.
(GLib's ghash.c; the results compared with the real programs, see tests/test_hash_table.py.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = 0xFFFFFFFF
_SMALLEST_SHIFT = 3
# GLib's table of the greatest prime below each power of two, by its exponent; 2**31 entries are never reached here.
_PRIMES = (
    1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573,
    2097143, 4194301, 8388593, 16777213, 33554393, 67108859, 134217689, 268435399, 536870909, 1073741789,
)  # fmt: skip

_Entry = tuple[int, str]


def string_hash(key: str) -> int:
    """GLib's hash of a string; its characters are signed. 0 and 1 mark empty places in the table, so they become 2."""
    value = 5381
    # QEMU keeps U+0000 as two bytes, and a C string is what gets hashed.
    for byte in key.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80"):
        value = value * 33 + (byte if byte < 128 else byte - 256) & _WORD
    return max(value, 2)


class _Removed:
    """What stays where an entry was taken out: searches pass over it, insertions reuse it."""


_REMOVED = _Removed()


class HashTable:
    """A table of names with GLib's places: open addressing, growing steps, sizes that are powers of two."""

    __slots__ = ("_occupied", "_places", "_shift", "_size")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Put in `keys`, one after another."""
        self._shift = _SMALLEST_SHIFT
        self._places: list[_Entry | _Removed | None] = [None] * (1 << self._shift)
        self._size = 0
        # Entries and the marks of removed ones.
        self._occupied = 0
        for key in keys:
            self.insert(key)

    def __len__(self) -> int:
        return self._size

    def snapshot(self) -> list[str | bool | None]:
        """The places: a name, None where nothing has been, False where something was taken out."""
        return [each[1] if isinstance(each, tuple) else None if each is None else False for each in self._places]

    @classmethod
    def restore(cls, places: list[str | bool | None]) -> HashTable:
        """The table that has these places.

        :raise ValueError: no table has as many.
        """
        table = cls()
        table._shift = len(places).bit_length() - 1
        if len(places) != 1 << table._shift or table._shift < _SMALLEST_SHIFT:
            raise ValueError(f"there is no table of {len(places)} places")
        for place in places:
            table._occupied += place is not None
            table._size += isinstance(place, str)
        table._places = [
            (string_hash(place), place) if isinstance(place, str) else None if place is None else _REMOVED
            for place in places
        ]
        return table

    def walk(self) -> list[str]:
        """The names in the order of their places."""
        return [entry[1] for entry in self._places if isinstance(entry, tuple)]

    def first(self) -> str:
        """The name in the lowest place.

        :raise StopIteration: there is none.
        """
        return next(entry[1] for entry in self._places if isinstance(entry, tuple))

    def insert(self, key: str) -> None:
        """Put a name in; nothing where it is there already."""
        entry = (string_hash(key), key)
        place = self._find(entry)
        before = self._places[place]
        if isinstance(before, tuple):
            return
        self._places[place] = entry
        self._size += 1
        if before is None:
            self._occupied += 1
            self._fit()

    def remove(self, key: str) -> None:
        """Take a name out; nothing where it is not there."""
        place = self._find((string_hash(key), key))
        if not isinstance(self._places[place], tuple):
            return
        self._places[place] = _REMOVED
        self._size -= 1
        self._fit()

    def _start(self, value: int) -> int:
        return (value * 11 & _WORD) % _PRIMES[self._shift]

    def _find(self, entry: _Entry) -> int:
        """Where the entry is, or where it would go."""
        places = self._places
        place, step, reusable = self._start(entry[0]), 0, None
        while (found := places[place]) is not None:
            if found == entry:
                return place
            if found is _REMOVED and reusable is None:
                reusable = place
            step += 1
            place = (place + step) % len(places)
        return place if reusable is None else reusable

    def _fit(self) -> None:
        """Grow, shrink or clear out the marks, at the loads at which GLib does."""
        size = len(self._places)
        grown = size <= self._occupied + self._occupied // 16
        if not (grown or size > max(self._size * 4, 1 << _SMALLEST_SHIFT)):
            return
        self._shift = max(int(self._size * 1.333).bit_length(), _SMALLEST_SHIFT)
        places = self._places
        old, new = size, 1 << self._shift
        places += [None] * (new - old)
        settled = [False] * max(old, new)
        # Entries move within the same array: one that lands on an entry not moved yet drives that one out.
        for index in range(old):
            moving = places[index]
            if isinstance(moving, _Removed) or moving is None:
                places[index] = None
                continue
            if settled[index]:
                continue
            places[index] = None
            while isinstance(moving, tuple):
                place, step = self._start(moving[0]), 0
                while settled[place]:
                    step += 1
                    place = (place + step) % new
                settled[place] = True
                places[place], moving = moving, places[place]
        del places[new:]
        self._occupied = self._size
