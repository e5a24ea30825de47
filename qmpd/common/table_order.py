"""The orders in which QEMU walks the children of an object, and the members of a dictionary.

Children are kept in a hash table of GLib's with string keys (QEMU's object properties); replies such as
`query-chardev` list them in that table's order.  Checked against QEMU with up to nine character devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.dictionary_order import in_order
from qmpd.common.hash_table import HashTable

if TYPE_CHECKING:
    from collections.abc import Iterable


def object_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which a table walks them, after they were added in the order given."""
    return HashTable(names).walk()


def dictionary_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which a dictionary walks them (`qmpd.common.dictionary_order`)."""
    return in_order(tuple(names))
