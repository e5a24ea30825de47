"""What the parts of a node are, without reading them: what clients of an export ask for as block status."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.drivers.formats import Qcow2Content, Raw
from qmpd.block.drivers.nbd import Nbd
from qmpd.block.drivers.null import Null
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.exports.protocol import HOLE, ZERO
from qmpd.block.files import FileStorage
from qmpd.block.images.qcow2.mapping import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.block.nodes import BlockNode

    Extents = list[tuple[int, int]]


class Part(NamedTuple):
    """A part of a node: its length in bytes, whether something holds its bytes, whether they are known to be zeros.

    `depth` is which image of the chain has it, 1 for the top one; 0 where none has.
    """

    length: int
    holds_data: bool
    is_zero: bool
    depth: int


def parts(node: BlockNode, offset: int, length: int, depth: int = 1) -> Iterator[Part]:
    """The parts of a node from `offset` on; in a thread, as tables are read.

    :raise OSError, ImageError: a table cannot be read.
    """
    content = node.content
    driver = DRIVERS[node.driver]
    if isinstance(content, Qcow2Content):
        yield from _of_qcow2(node, content, offset, length, depth)
    elif isinstance(content, FileStorage):
        yield from _of_file(content, offset, length, depth)
    elif isinstance(content, Null):
        yield Part(length, False, bool(node.options.get("read-zeroes")), depth)
    elif isinstance(content, Nbd):
        for part, told in content.status(offset, length):
            yield Part(part, not told & HOLE, bool(told & ZERO), depth)
    elif isinstance(content, Raw):
        yield from parts(node.children["file"], content.offset + offset, length, depth)
    elif driver.is_filter and driver.first in node.children:
        yield from parts(node.children[driver.first], offset, length, depth)
    else:
        yield Part(length, True, False, depth)


def _of_qcow2(node: BlockNode, content: Qcow2Content, offset: int, length: int, depth: int) -> Iterator[Part]:
    for piece in content.image.pieces(offset, length):
        if piece.kind in (Kind.DATA, Kind.COMPRESSED):
            yield Part(piece.length, True, False, depth)
        elif piece.kind is Kind.UNALLOCATED:
            yield from _behind(node, offset, piece.length, depth)
        else:
            yield Part(piece.length, False, True, depth)
        offset += piece.length


def _behind(node: BlockNode, offset: int, length: int, depth: int) -> Iterator[Part]:
    """What shows where an image has nothing."""
    backing = node.children.get("backing")
    there = 0 if backing is None else max(0, min(length, backing.size - offset))
    if backing is not None and there:
        yield from parts(backing, offset, there, depth + 1)
    if there < length:
        yield Part(length - there, False, True, 0)


def _of_file(content: FileStorage, offset: int, length: int, depth: int) -> Iterator[Part]:
    for piece, is_hole in content.holes(offset, length):
        yield Part(piece, not is_hole, is_hole, depth)


def allocation(found: Iterator[Part]) -> Iterator[tuple[int, int]]:
    """What `base:allocation` tells of parts."""
    for part in found:
        yield part.length, (0 if part.holds_data else HOLE) | (ZERO if part.is_zero else 0)


def depths(found: Iterator[Part]) -> Iterator[tuple[int, int]]:
    """What `qemu:allocation-depth` tells of them."""
    for part in found:
        yield part.length, part.depth


def joined(extents: Iterable[tuple[int, int]], most: int) -> Extents:
    """Neighbours of which the same is told as one, and no more than `most` of them."""
    found: Extents = []
    for length, told in extents:
        if found and found[-1][1] == told:
            found[-1] = found[-1][0] + length, told
        elif len(found) == most:
            break
        else:
            found.append((length, told))
    return found
