"""Which one of several unexpected members QEMU complains about.

QEMU checks an object by putting its members into a hash table of GLib's, taking each member out as its declaration is
visited, and naming the first one of what remains: the lowest bucket. That depends on the keys' hashes, on the order in
which they went in (the order of QEMU's own dictionary) and on when the table grew and shrank, so this does the same
steps on a table of the same shape. It runs only where more than one member remains.
(QEMU's qapi/qobject-input-visitor.c, GLib's ghash.c; the results compared with the real programs.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = 0xFFFFFFFF
_DICTIONARY_BUCKETS = 512
_SMALLEST_SHIFT = 3
# GLib's table of the greatest prime below each power of two, by its exponent; 2**31 entries are never reached here.
_PRIMES = (
    1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573,
    2097143, 4194301, 8388593, 16777213, 33554393, 67108859, 134217689, 268435399, 536870909, 1073741789,
)  # fmt: skip


def first_unexpected(keys: Iterable[str], visited: Iterable[str]) -> str:
    """The key that QEMU names, of `keys` (an object's members, in the order sent) those in `visited` taken out.

    `visited` is in the order of the visit; its keys are all among `keys`, and at least one key is not visited.
    """
    table = _Table()
    for key in _dictionary_order(keys):
        table.insert(key)
    for key in visited:
        table.remove(key)
    return table.first()


def _bytes(key: str) -> bytes:
    # QEMU keeps U+0000 as two bytes, and a C string is what gets hashed.
    return key.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def _dictionary_order(keys: Iterable[str]) -> list[str]:
    """The keys in the order of QEMU's dictionary: by bucket, the newest first within one."""
    newest_first = list(keys)[::-1]
    return sorted(newest_first, key=_dictionary_bucket)


def _dictionary_bucket(key: str) -> int:
    data = _bytes(key)
    value = 0x238F13AF * len(data)
    for index, byte in enumerate(data):
        value += byte << (index * 5 % 24)
    return (1103515243 * value + 12345 & _WORD) % _DICTIONARY_BUCKETS


def _string_hash(key: str) -> int:
    """GLib's hash of a string; its characters are signed. 0 and 1 mark empty places in the table, so they become 2."""
    value = 5381
    for byte in _bytes(key):
        value = value * 33 + (byte if byte < 128 else byte - 256) & _WORD
    return max(value, 2)


class _Removed:
    """What stays where an entry was taken out: searches pass over it, insertions reuse it."""


_REMOVED = _Removed()


class _Table:
    """A hash table with GLib's places: open addressing, growing steps, sizes that are powers of two."""

    def __init__(self) -> None:
        self.shift = _SMALLEST_SHIFT
        self.places: list[tuple[int, str] | _Removed | None] = [None] * (1 << self.shift)
        self.entries = 0
        self.occupied = 0  # entries and the marks of removed ones

    def start(self, value: int) -> int:
        return (value * 11 & _WORD) % _PRIMES[self.shift]

    def find(self, entry: tuple[int, str]) -> int:
        """Where the entry is, or where it would go."""
        place, step, reusable = self.start(entry[0]), 0, None
        while (found := self.places[place]) is not None:
            if found == entry:
                return place
            if found is _REMOVED and reusable is None:
                reusable = place
            step += 1
            place = (place + step) % len(self.places)
        return place if reusable is None else reusable

    def insert(self, key: str) -> None:
        entry = (_string_hash(key), key)
        place = self.find(entry)
        before = self.places[place]
        self.places[place] = entry
        self.entries += 1
        if before is None:
            self.occupied += 1
            self.fit()

    def remove(self, key: str) -> None:
        self.places[self.find((_string_hash(key), key))] = _REMOVED
        self.entries -= 1
        self.fit()

    def fit(self) -> None:
        """Grow, shrink or clear out the marks, at the loads at which GLib does."""
        size = len(self.places)
        if not (size > max(self.entries * 4, 1 << _SMALLEST_SHIFT) or size <= self.occupied + self.occupied // 16):
            return
        self.shift = max(int(self.entries * 1.333).bit_length(), _SMALLEST_SHIFT)
        places = self.places
        old, new = size, 1 << self.shift
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
                place, step = self.start(moving[0]), 0
                while settled[place]:
                    step += 1
                    place = (place + step) % new
                settled[place] = True
                places[place], moving = moving, places[place]
        del places[new:]
        self.occupied = self.entries

    def first(self) -> str:
        return next(entry[1] for entry in self.places if isinstance(entry, tuple))
