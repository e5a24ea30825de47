"""The order in which an object's members come out: that of QEMU's dictionary.

The dictionary has 512 buckets and is walked from the first to the last; within a bucket the member that was put in
last comes first, where putting in a key again leaves it in its place. All objects in the recordings obey this.
"""

from __future__ import annotations

from qmpd.common.modified_utf8 import encode_modified

BUCKETS = 512

_MASK = 0xFFFF_FFFF


def bucket(key: str) -> int:
    """The bucket of a key, 0 to 511: its tdb hash, in 32-bit arithmetic, modulo the number of buckets."""
    data = encode_modified(key)
    value = 0x238F13AF * len(data)
    for index, byte in enumerate(data):
        value += byte << (index * 5 % 24)
    return (1103515243 * (value & _MASK) + 12345 & _MASK) % BUCKETS


def in_order(keys: tuple[str, ...]) -> list[str]:
    """The keys, given in the order in which they were put in, as QEMU's dictionary lists them."""
    newest_first = list(keys)
    newest_first.reverse()
    newest_first.sort(key=bucket)
    return newest_first
