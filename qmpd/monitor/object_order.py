"""The order in which QEMU walks the children of an object.

They are kept in a hash table of GLib's with string keys (QEMU's object properties); replies such as
`query-chardev` list them in that table's order.  Checked against QEMU with up to nine character devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SMALLEST = 3
_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)


def _string_hash(text: str) -> int:
    value = 5381
    for byte in text.encode("utf-8", "surrogateescape"):
        value = (value * 33 + (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return value


def _insert(slots: list[str | None], shift: int, name: str) -> None:
    index = (_string_hash(name) * 11 & 0xFFFFFFFF) % _PRIMES[shift]
    step = 0
    while slots[index] is not None:
        step += 1
        index = (index + step) & (len(slots) - 1)
    slots[index] = name


def object_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which a table walks them, after they were added in the order given."""
    shift = _SMALLEST
    slots: list[str | None] = [None] * (1 << shift)
    for count, name in enumerate(names, 1):
        _insert(slots, shift, name)
        if len(slots) <= count + count // 16:
            shift = max(int(count * 1.333).bit_length(), _SMALLEST)
            old, slots = slots, [None] * (1 << shift)
            for kept in old:
                if kept is not None:
                    _insert(slots, shift, kept)
    return [name for name in slots if name is not None]
