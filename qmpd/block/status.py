"""What the parts of a node are, without reading them.  (QEMU's block/io.c, `bdrv_block_status_above`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from qmpd.block.drivers.formats import Qcow2Content, Raw
from qmpd.block.drivers.nbd import Nbd
from qmpd.block.drivers.null import Null
from qmpd.block.drivers.qed import QedContent
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.exports.protocol import HOLE, ZERO
from qmpd.block.files import FileStorage
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2.mapping import Kind
from qmpd.block.images.qed import ZEROS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.nodes import BlockNode


class Part(NamedTuple):
    """A part of a node: its length in bytes, whether something holds its bytes, whether they are known to be zeros.

    `depth` is which image of the chain has it, 1 for the top one; 0 where none has.
    """

    length: int
    holds_data: bool
    is_zero: bool
    depth: int


class _Elsewhere(Protocol):
    """Content that other nodes have."""

    def parts(self, offset: int, length: int) -> Iterator[tuple[BlockNode, int, int]]:
        """Each of those nodes, with the offset and the length of its piece."""


def parts(node: BlockNode, offset: int, length: int, depth: int = 1) -> Iterator[Part]:
    """The parts of a node from `offset` on; in a thread, as tables are read.

    :raise OSError, ImageError: a table cannot be read.
    """
    content = node.content
    driver = DRIVERS[node.driver]
    if isinstance(content, Qcow2Content):
        yield from _of_qcow2(node, content, offset, length, depth)
    elif isinstance(content, QedContent):
        yield from _of_qed(node, content, offset, length, depth)
    elif isinstance(content, FileStorage):
        yield from _of_file(content, offset, length, depth)
    elif isinstance(content, Null):
        yield Part(length, False, bool(node.options.get("read-zeroes")), depth)
    elif isinstance(content, Nbd):
        for part, told in content.status(offset, length):
            yield Part(part, not told & HOLE, bool(told & ZERO), depth)
    elif isinstance(content, Raw):
        yield from parts(node.children["file"], content.offset + offset, length, depth)
    elif node.driver == "snapshot-access":
        for kept, begin, part in cast("_Elsewhere", content).parts(offset, length):
            yield from parts(kept, begin, part, depth)
    elif node.driver == "quorum":
        yield from _of_copies(node, offset, length, depth)
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


def _of_qed(node: BlockNode, content: QedContent, offset: int, length: int, depth: int) -> Iterator[Part]:
    for part, entry in content.image.pieces(offset, length):
        if not entry:
            yield from _behind(node, offset, part, depth)
        else:
            yield Part(part, entry != ZEROS, entry == ZEROS, depth)
        offset += part


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


def _of_copies(node: BlockNode, offset: int, length: int, depth: int) -> Iterator[Part]:
    """Zeros are what are zeros in all copies, the smallest part of them; else it is the largest part that is none."""
    while length:
        zeros, data = length, 0
        for copy in node.children.values():
            try:
                count, is_zero = first_part(copy, offset, length)
            except (OSError, ImageError):
                data = length
                break
            zeros, data = (min(zeros, count), data) if is_zero else (zeros, max(data, count))
        count = data or zeros
        yield Part(count, data > 0, not data, depth)
        offset, length = offset + count, length - count


def first_part(node: BlockNode, offset: int, length: int) -> tuple[int, bool]:
    """How much from `offset` on is alike, and whether it is known to be zeros.

    :raise OSError, ImageError: a table cannot be read.
    """
    found, zeros = 0, False
    for part in parts(node, offset, length):
        if found and part.is_zero != zeros:
            break
        zeros = part.is_zero
        found += part.length
    return found, zeros
