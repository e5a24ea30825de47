"""Which one of several unexpected members QEMU complains about.

QEMU checks an object by putting its members into a hash table of GLib's, taking each member out as its declaration is
visited, and naming the first one of what remains: the lowest bucket. That depends on the keys' hashes, on the order in
which they went in (the order of QEMU's own dictionary) and on when the table grew and shrank, so this does the same
steps on a table of the same shape. It runs only where more than one member remains.
(QEMU's qapi/qobject-input-visitor.c; the results compared with the real programs.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.hash_table import HashTable

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = 0xFFFFFFFF
_DICTIONARY_BUCKETS = 512


def first_unexpected(keys: Iterable[str], visited: Iterable[str]) -> str:
    """The key that QEMU names, of `keys` (an object's members, in the order sent) those in `visited` taken out.

    `visited` is in the order of the visit; its keys are all among `keys`, and at least one key is not visited.
    """
    table = HashTable()
    for key in dictionary_order(keys):
        table.insert(key)
    for key in visited:
        table.remove(key)
    return table.first()


def _bytes(key: str) -> bytes:
    # QEMU keeps U+0000 as two bytes, and a C string is what gets hashed.
    return key.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def dictionary_order(keys: Iterable[str]) -> list[str]:
    """The keys in the order of QEMU's dictionary: by bucket, the newest first within one."""
    newest_first = list(keys)[::-1]
    return sorted(newest_first, key=_dictionary_bucket)


def _dictionary_bucket(key: str) -> int:
    data = _bytes(key)
    value = 0x238F13AF * len(data)
    for index, byte in enumerate(data):
        value += byte << (index * 5 % 24)
    return (1103515243 * value + 12345 & _WORD) % _DICTIONARY_BUCKETS
