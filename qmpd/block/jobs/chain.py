"""Chains of images, as jobs look at them: what of a part is where.  (QEMU's block/io.c, `bdrv_is_allocated_above`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.content import Passing
from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.files import FileStorage
from qmpd.block.images.qcow2.mapping import Kind
from qmpd.block.status import parts
from qmpd.block.values import is_on
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qmpd.block.content import Content
    from qmpd.block.nodes import BlockNode


# The filters that are taken out at the end of their jobs, whoever is above them.
_GOING = ("commit_top", "mirror_top")


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


def filters_behind(node: BlockNode) -> list[BlockNode]:
    """What is behind an image, down to the next image."""
    found = []
    at = behind(node)
    while at is not None:
        found.append(at)
        at = behind(at) if DRIVERS[at.driver].is_filter else None
    return found


def check_freezable(node: BlockNode, base: BlockNode | None) -> None:
    """Refuse to keep what is behind an image there, down to what is right above `base`.

    :raise Refusal: a job's own filter is there, which goes when that job ends.
    """
    at, below = node, behind(node)
    while below is not None and below is not base:
        if below.driver in _GOING and behind(below) is not None:
            role = next(role for role, child in at.children.items() if child is below)
            raise Refusal("never-freeze", role=role, child=below.name)
        at, below = below, behind(below)


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


def data_run(node: BlockNode, offset: int, length: int) -> tuple[int, bool]:
    """How much from `offset` on is alike, and whether it has to be read, because it is not known to be zeros.

    :raise OSError, ImageError: it cannot be read.
    """
    content = node.content
    if isinstance(content, Qcow2Content):
        return _data_run_of_image(node, content, offset, length)
    if isinstance(content, FileStorage):
        count, is_hole = next(iter(content.holes(offset, length)))
        return count, not is_hole
    if node.driver.startswith("null-"):
        return length, not is_on(node.options.get("read-zeroes"))
    if node.driver == "quorum":
        first = next(parts(node, offset, length))
        return first.length, first.holds_data
    below = node.children.get(DRIVERS[node.driver].first)
    if below is None or not isinstance(content, Passing):
        return length, True
    return data_run(below, offset + getattr(content, "offset", 0), length)


def _data_run_of_image(node: BlockNode, content: Qcow2Content, offset: int, length: int) -> tuple[int, bool]:
    backing, run, first = node.children.get("backing"), 0, None
    for piece in content.image.pieces(offset, length):
        at, most = offset + run, piece.length
        if piece.kind is not Kind.UNALLOCATED:
            is_data = piece.kind in (Kind.DATA, Kind.COMPRESSED)
        elif backing is None or at >= backing.size:
            is_data = False
        else:
            most, is_data = data_run(backing, at, min(most, backing.size - at))
        if first is None:
            first = is_data
        if is_data is not first:
            break
        run += most
        if most < piece.length:
            break
    return min(run, length), bool(first)
