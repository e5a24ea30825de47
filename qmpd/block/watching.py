"""What the users of a node see of it: what happens on the way to its bytes, whatever its driver is.

Faults that were asked for, zeros that are noticed, discards that are not wanted, what was written and where that ends.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qmpd.block.bitmaps.bitmap import note_write
from qmpd.block.content import Gone
from qmpd.block.images.errors import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.content import Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

_SECTOR = 512
_GONE = Gone()


class Watched:
    """A node's bytes (`qmpd.block.content.Content`), for its parents and drives."""

    __slots__ = ("_graph", "node")

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        self.node = node
        self._graph = graph

    @property
    def _content(self) -> Content:
        content = self.node.content
        return _GONE if content is None else content

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._content.size

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        return self._content.allocated

    def _fail(self, when: str, offset: int, length: int) -> None:
        """Fail where a fault says so."""
        for fault in self.node.faults:
            sector = fault.get("sector")
            hit = sector is None or offset <= sector * _SECTOR < offset + length
            if fault["when"] == when and hit and fault.get("count") != 0:
                if fault.get("count") is not None:
                    fault["count"] -= 1
                number = getattr(errno, fault["error"])
                raise failure(number)

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        node = self.node
        if node.faults:
            self._fail("read", offset, length)
        if node.copy_on_read and not node.read_only:
            self._copy_up(offset, length)
        return self._content.read(offset, length)

    def _copy_up(self, offset: int, length: int) -> None:
        """Write what is behind this part of the node into it: `copy-on-read` of a drive."""
        content = self._content
        # Whole clusters are copied.
        cluster = getattr(getattr(content, "header", None), "cluster_size", 1)
        end = min(content.size, -(-(offset + length) // cluster) * cluster)
        offset = offset // cluster * cluster
        inside = max(0, end - offset)
        for count, allocated in list(content.pieces(offset, inside)) if inside else ():
            if not allocated:
                data = content.read(offset, count)
                if any(data):
                    content.write(offset, data)
                else:
                    content.zero(offset, count, unmap=False)
            offset += count

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write; zeros need not be written where the node is to notice them."""
        node = self.node
        try:
            if node.faults:
                self._fail("write", offset, len(data))
            if node.detect_zeroes != "off" and not any(memoryview(data)):
                self._content.zero(offset, len(data), unmap=node.detect_zeroes == "unmap")
            else:
                self._content.write(offset, data)
        finally:
            # What has failed may have been written in part.
            if node.bitmaps:
                note_write(node.bitmaps, offset, len(data), node.virtual_size)
        self._note(offset, len(data))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self.zero_at_root(offset, length, unmap=unmap and self.node.discard == "unmap")

    def zero_at_root(self, offset: int, length: int, *, unmap: bool) -> None:
        """The same for a user of the node: some releases heed whether it gives back room for those above it alone."""
        node = self.node
        unmap = unmap and (node.discard == "unmap" or not self._graph.users_zero_as_told)
        try:
            if node.faults:
                self._fail("write", offset, length)
            self._content.zero(offset, length, unmap=unmap)
        finally:
            if node.bitmaps:
                note_write(node.bitmaps, offset, length, node.virtual_size)
        self._note(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them; nothing happens where the node does not pass that on."""
        node = self.node
        if node.discard != "unmap":
            return
        try:
            self._content.discard(offset, length)
        finally:
            if node.bitmaps:
                note_write(node.bitmaps, offset, length, node.virtual_size)
            for watcher in node.watchers:
                watcher(offset, length)

    def truncate(self, size: int) -> None:
        """Make it this long."""
        node = self.node
        self._content.truncate(size)
        for bitmap in node.bitmaps:
            bitmap.resize(node.virtual_size)

    def flush(self) -> None:
        """Return when all that was written survives, unless the node is told not to care."""
        if self.node.faults:
            self._fail("flush", 0, 0)
        if not self.node.no_flush:
            self._content.flush()

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is allocated."""
        return self._content.pieces(offset, length)

    def close(self) -> None:
        """The node is closed by the graph."""

    def _note(self, offset: int, length: int) -> None:
        node, end = self.node, offset + length
        for watcher in node.watchers:
            watcher(offset, length)
        node.highest = max(node.highest, end)
        if node.threshold and end > node.threshold:
            data = {
                "amount-exceeded": end - node.threshold,
                "write-threshold": node.threshold,
                "node-name": node.name,
            }
            node.threshold = 0
            self._graph.happened.append(("BLOCK_WRITE_THRESHOLD", data))
