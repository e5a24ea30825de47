"""Chains of images, as jobs look at them: what of a part is where.  (QEMU's block/io.c, `bdrv_is_allocated_above`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.table import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qmpd.block.content import Content
    from qmpd.block.nodes import BlockNode


def behind(node: BlockNode) -> BlockNode | None:
    """What shows through a node: what is behind an image, or below a filter."""
    backing = node.children.get("backing")
    if backing is not None or not DRIVERS[node.driver].is_filter:
        return backing
    return node.children.get(DRIVERS[node.driver].first)


def unfiltered(node: BlockNode) -> BlockNode:
    """The image below filters."""
    while DRIVERS[node.driver].is_filter and (below := behind(node)) is not None:
        node = below
    return node


def chain(node: BlockNode, end: BlockNode | None = None) -> Iterator[BlockNode]:
    """A node and what shows through it, down to `end`, which is left out."""
    at: BlockNode | None = node
    while at is not None and at is not end:
        yield at
        at = behind(at)


def images(node: BlockNode | None, end: BlockNode | None = None) -> list[BlockNode]:
    """The same without filters."""
    return [] if node is None else [each for each in chain(node, end) if not DRIVERS[each.driver].is_filter]


def first_run(content: Content, offset: int, length: int) -> tuple[int, bool]:
    """How much from `offset` on is alike, and whether it is allocated there; 0 behind the end.

    :raise OSError, ImageError: it cannot be read.
    """
    length = min(length, content.size - offset)
    if length <= 0:
        return 0, False
    run, first = 0, None
    for count, allocated in content.pieces(offset, length):
        if first is None:
            first = allocated
        elif allocated != first:
            break
        run += count
    return min(run, length), bool(first)


def allocated_above(contents: Sequence[Content], offset: int, length: int) -> tuple[int, bool]:
    """How much from `offset` on is alike, and whether one of these images has it; the top one comes first.

    What is behind the end of an image that is behind a longer one counts as being there.

    :raise OSError, ImageError: it cannot be read.
    """
    for content in contents:
        count, allocated = first_run(content, offset, length)
        if allocated:
            return count, True
        if not count:
            return (length, True) if content is not contents[0] else (0, False)
        length = count
    return length, False
