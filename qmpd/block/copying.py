"""Copying a node as it is at one moment, piece by piece, each before it is overwritten.  (QEMU's block/block-copy.c.)

What is still to be copied is in a dirty bitmap.  A piece is taken out of it while it is copied, and is put back where
that fails.  Backups copy so in the background, and copy-before-write nodes before a write.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.content import number_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.status import first_part

if TYPE_CHECKING:
    from qmpd.block.bitmaps.bitmap import DirtyBitmap
    from qmpd.block.nodes import BlockNode

SMALLEST_CLUSTER = 64 << 10
LARGEST_BUFFER = 1 << 20
LARGEST_RANGE = 16 << 20


class Copied(NamedTuple):
    """What came of copying: the number of the first error, 0 without one, and whether it came from the source.

    `moved`: bytes were read and written, for zeros nobody has to.
    """

    error: int = 0
    reading: bool = False
    moved: bool = False


class Piece(NamedTuple):
    """A part that is to be copied: whole clusters, all of which are zeros (`is_zero`), or none of which is known to
    be."""

    offset: int
    length: int
    is_zero: bool


class Copier:
    """Copies from what is below a copy-before-write node to its target.  Safe in any thread."""

    def __init__(self, node: BlockNode, bitmap: DirtyBitmap) -> None:
        """`bitmap` is what is to be copied; its granularity is the piece that is copied at least."""
        self._node = node
        self.bitmap = bitmap
        self.size = bitmap.size
        self.compress = False
        # Whether what was copied is not needed at the source any more.
        self.discards_source = False
        self.copied = 0
        self.under_way = 0
        self.lock = threading.RLock()

    @property
    def cluster(self) -> int:
        """How much is copied at least, in bytes."""
        return self.bitmap.granularity

    @property
    def end(self) -> int:
        """Where the last cluster ends, which may be behind the end of the source."""
        return -(-self.size // self.cluster) * self.cluster

    @property
    def left(self) -> int:
        """How much is still to be copied."""
        return self.bitmap.count + self.under_way

    @property
    def _source(self) -> BlockNode:
        return self._node.children["file"]

    def chunk(self, most: int = 0, *, ranges: bool = False) -> int:
        """How much is copied at once: at most `most` bytes, unless that is 0; `ranges`: the host copies files."""
        if self.compress:
            return self.cluster
        size = max(self.cluster, LARGEST_RANGE if ranges else LARGEST_BUFFER)
        return min(size, most // self.cluster * self.cluster) if most else size

    def claim(self, start: int, end: int, chunk: int) -> Piece | None:
        """Take the next piece from `start` on out of what is to be copied; None without one."""
        with self.lock:
            area = self.bitmap.dirty_area(start, end, chunk)
            if area is None:
                return None
            offset, length = area
            piece = self._alike(offset, length)
            self.bitmap.reset(piece.offset, piece.length)
            self.under_way += piece.length
            return piece

    def _alike(self, offset: int, length: int) -> Piece:
        there = min(length, self.size - offset)
        try:
            found, zeros = first_part(self._source, offset, there)
        except (OSError, ImageError):
            return Piece(offset, self.cluster, False)
        if found >= there:
            return Piece(offset, length, zeros)
        whole = found // self.cluster * self.cluster
        return Piece(offset, whole or self.cluster, zeros and whole > 0)

    def copy(self, piece: Piece) -> Copied:
        """Copy a piece that was claimed; it is to be copied again where that fails."""
        offset, length, _ = piece
        error = self._copy(offset, min(length, self.size - offset))
        with self.lock:
            self.under_way -= length
            if error.error:
                self.bitmap.set(offset, length)
            else:
                self.copied += length
        return error

    def _copy(self, offset: int, length: int) -> Copied:
        source, target = self._source.port, self._node.children["target"].port
        assert source is not None
        assert target is not None
        try:
            count, zeros = first_part(self._source, offset, length)
            zeros = zeros and count >= length
            data = b"" if zeros else source.read(offset, length)
        except (OSError, ImageError) as error:
            return Copied(number_of(error), reading=True)
        try:
            if zeros:
                target.zero(offset, length, unmap=False)
            elif self.compress:
                write_compressed(self._node.children["target"], offset, data)
            else:
                target.write(offset, data)
            if self.discards_source:
                source.discard(offset, length)
        except (OSError, ImageError) as error:
            return Copied(number_of(error))
        return Copied(moved=not zeros)

    def save(self, offset: int, length: int) -> Copied:
        """Copy what is still to be copied of a part, before it is overwritten."""
        begin = offset // self.cluster * self.cluster
        end = -(-(offset + length) // self.cluster) * self.cluster
        with self.lock:
            while (piece := self.claim(begin, end, self.chunk())) is not None:
                result = self.copy(piece)
                if result.error:
                    return result
        return Copied()

    def is_allocated(self, offset: int) -> tuple[int, bool]:
        """How many bytes from `offset` on, in whole clusters, have something in the source itself, or have nothing.

        :raise OSError, ImageError: that cannot be read.
        """
        port, cluster = self._source.port, self.cluster
        assert port is not None
        found = 0
        for count, allocated in port.pieces(offset, self.size - offset):
            found += count
            if allocated:
                # A cluster that is there in part is there.
                return -(-found // cluster) * cluster, True
            if found >= cluster:
                return found // cluster * cluster, False
        return -(-max(found, 1) // cluster) * cluster, False

    def forget_unallocated(self) -> None:
        """What the source itself has nothing of need not be copied.

        :raise OSError, ImageError: its tables cannot be read.
        """
        offset = 0
        while offset < self.size:
            length, allocated = self.is_allocated(offset)
            if not allocated:
                self.bitmap.reset(offset, length)
            offset += length


def write_compressed(node: BlockNode, offset: int, data: bytes) -> None:
    """Write to a node so that its image has it compressed.

    :raise OSError, ImageError: it cannot be written.
    """
    write = getattr(image_of(node), "write_compressed", None)
    if write is None:
        assert node.port is not None
        node.port.write(offset, data)
    else:
        write(offset, data)


def image_of(node: BlockNode) -> object | None:
    """What takes data compressed for a node: it, or what it passes on to; None without such."""
    at: BlockNode | None = node
    while at is not None and DRIVERS[at.driver].compresses:
        if hasattr(type(at.content), "write_compressed"):
            return at.content
        at = at.children.get("file")
    return None
