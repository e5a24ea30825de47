"""Filters that pass on what is below, and do something on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.content import Passing
from qmpd.block.copying import image_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.nodes import below
from qmpd.block.values import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.content import Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode


class Throttle(Passing):
    """throttle: its limits are on the requests (`qmpd.block.requests`), not on the bytes."""

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node))


class CopyOnRead(Passing):
    """copy-on-read: what is read from behind the image is written into it.  (QEMU's block/copy-on-read.c.)"""

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node))
        self._node = node

    def read(self, offset: int, length: int) -> bytes:
        """Read, and keep what has come from behind."""
        file = self._node.children["file"]
        if not file.read_only:
            chain = list(_behind(file, self._node.options.get("bottom")))
            for begin, count, allocated in list(_placed(self.below, offset, length)):
                if not allocated:
                    self._copy(chain, begin, count)
        return self.below.read(offset, length)

    def _copy(self, chain: list[BlockNode], offset: int, length: int) -> None:
        """Copy what one of these nodes has of a part."""
        if not chain:
            return
        port = chain[0].port
        assert port is not None
        there = max(0, min(length, port.size - offset))
        for begin, count, allocated in list(_placed(port, offset, there)):
            if not allocated:
                self._copy(chain[1:], begin, count)
                continue
            data = self.below.read(begin, count)
            if data.strip(b"\0"):
                self.below.write(begin, data)
            else:
                self.below.zero(begin, count, unmap=False)


def _behind(node: BlockNode, bottom: object) -> Iterator[BlockNode]:
    """What is behind the image in a node, down to the one that is called `bottom`."""
    while "backing" not in node.children and (node.driver == "raw" or DRIVERS[node.driver].is_filter):
        node = node.children[DRIVERS[node.driver].first]
    at = node.children.get("backing")
    while at is not None:
        yield at
        at = None if at.name == bottom else at.children.get("backing")


def _placed(content: Content, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
    if length <= 0:
        return
    for count, allocated in content.pieces(offset, length):
        yield offset, count, allocated
        offset += count


class Compress(Passing):
    """compress: what is written to the image below is written compressed, in whole clusters."""

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node))
        self._node = node
        under = node.children["file"].driver
        if not DRIVERS[under].compresses:
            raise ImageError(f"Compression is not supported for underlying format: {under}")

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write compressed; clusters that are written in part are written whole."""
        image: Any = image_of(self._node.children["file"])
        if image is None:
            super().write(offset, data)
            return
        cluster = image.image.header.cluster_size
        end = offset + len(data)
        low, high = offset // cluster * cluster, min(-(-end // cluster) * cluster, max(self.size, end))
        whole = b"".join([self.below.read(low, offset - low), data, self.below.read(end, high - end)])
        image.write_compressed(low, whole)


class Preallocate(Passing):
    """preallocate: a file that grows gets room beyond what is written, and is cut to size when nobody writes any more.

    (QEMU's block/preallocate.c.)
    """

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node))
        self._step = number(node.options.get("prealloc-size", 128 << 20))
        self._align = max(1, number(node.options.get("prealloc-align", 1 << 20)))
        self._end: int | None = None

    @property
    def size(self) -> int:
        """How many bytes were really written."""
        return self.below.size if self._end is None else self._end

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write; behind the end room is made for more."""
        end = offset + len(data)
        if end > self.below.size:
            if self._end is None:
                self._end = self.below.size
            self.below.truncate(-(-(end + self._step) // self._align) * self._align)
        super().write(offset, data)
        if self._end is not None:
            self._end = max(self._end, end)

    def truncate(self, size: int) -> None:
        """Make it this long."""
        self._end = None
        super().truncate(size)

    def close(self) -> None:
        """Cut it to what was written."""
        self.unused()

    def unused(self) -> None:
        """Nobody writes any more (`qmpd.block.permissions.refresh`): it is cut to what was written."""
        if self._end is not None:
            end, self._end = self._end, None
            self.below.truncate(end)
