"""The dirty bitmaps that an export tells of: finding them, and what they say of a part of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.bitmaps.rules import BUT_READ_ONLY, check, find
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.exports.protocol import DIRTY
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qmpd.block.bitmaps.bitmap import DirtyBitmap
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode


def exported(
    graph: BlockGraph, node: BlockNode, wanted: Iterable[str | Mapping[str, str]], *, writable: bool
) -> tuple[DirtyBitmap, ...]:
    """The bitmaps that an export of a node is to tell of; they are busy from now on.

    A name means one of the node or of what is behind it; a node and a name, any.

    :raise Refusal: there is none, somebody works with it, or the export could not keep it true.
    """
    found = []
    for each in wanted:
        if isinstance(each, str):
            bitmap = _of_chain(node, each)
            check(bitmap, BUT_READ_ONLY)
            if not writable and not node.read_only and bitmap.enabled:
                raise Refusal("export-bitmap-enabled", name=bitmap.name)
        else:
            _, bitmap = find(graph, each["node"], each["name"])
            check(bitmap, BUT_READ_ONLY)
        found.append(bitmap)
    for bitmap in found:
        bitmap.busy = True
    return tuple(found)


def _of_chain(node: BlockNode, name: str) -> DirtyBitmap:
    at: BlockNode | None = node
    while at is not None:
        for bitmap in at.bitmaps:
            if bitmap.name == name:
                return bitmap
        driver = DRIVERS[at.driver]
        at = at.children.get("backing") or (at.children.get(driver.first) if driver.is_filter else None)
    raise Refusal("export-bitmap-missing", name=name)


def extents(bitmap: DirtyBitmap, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """Lengths, and whether they are dirty (`protocol.DIRTY`)."""
    end = offset + length
    while offset < end:
        found = bitmap.dirty_area(offset, end, length)
        start, size = (end, 0) if found is None else found
        if start > offset:
            yield start - offset, 0
        if size:
            yield size, DIRTY
        offset = start + size
