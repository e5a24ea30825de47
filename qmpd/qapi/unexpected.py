"""Which one of several unexpected members QEMU complains about.

QEMU checks an object by putting its members into a hash table of GLib's, taking each member out as its declaration is
visited, and naming the first one of what remains: the lowest bucket. That depends on the keys' hashes, on the order in
which they went in (the order of QEMU's own dictionary) and on when the table grew and shrank, so this does the same
steps on a table of the same shape. It runs only where more than one member remains.
(QEMU's qapi/qobject-input-visitor.c; the results compared with the real programs.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.dictionary_order import in_order
from qmpd.common.hash_table import HashTable

if TYPE_CHECKING:
    from collections.abc import Iterable


def first_unexpected(keys: Iterable[str], visited: Iterable[str]) -> str:
    """The key that QEMU names, of `keys` (an object's members, in the order sent) those in `visited` taken out.

    `visited` is in the order of the visit; its keys are all among `keys`, and at least one key is not visited.
    """
    table = HashTable()
    for key in in_order(tuple(keys)):
        table.insert(key)
    for key in visited:
        table.remove(key)
    return table.first()
