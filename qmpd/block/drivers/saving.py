"""copy-before-write: what is overwritten is copied to another node first.  (QEMU's block/copy-before-write.c.)"""

from __future__ import annotations

from errno import EACCES, ENOTSUP, ETIMEDOUT
from typing import TYPE_CHECKING

from qmpd.block.bitmaps import rules
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.content import Passing
from qmpd.block.copying import SMALLEST_CLUSTER, Copied, Copier
from qmpd.block.description import cluster_of
from qmpd.block.images.errors import failure
from qmpd.block.nodes import below
from qmpd.block.values import number
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

_SECOND = 1_000_000_000
_BREAK_SNAPSHOT = "break-snapshot"


class CopyBeforeWrite(Passing):
    """Old bytes are saved in the target before they are overwritten, each cluster once.

    Its bitmaps are nameless, and queries show them: what is still to be copied (`copier.bitmap`), what of the node as
    it was can be read (`access`), and what of that is in the target (`saved`).
    """

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        """:raise Refusal: the bitmap that it is told to begin with is not there, or is another's in size."""
        super().__init__(below(node))
        self._node = node
        source, target = node.children["file"], node.children["target"]
        given = node.options.get("bitmap")
        begin = None if given is None else rules.find(graph, given["node"], given["name"])[1]
        least = int(node.options.get("min-cluster-size", 0))
        cluster = max(SMALLEST_CLUSTER, cluster_of(target) or 0, least)
        # Some releases have it at the source, where it is shown.
        self._owner = source if graph.copies_noted_below else node
        bitmap = self._bitmap(self._owner, f"copy {node.name}", cluster, source.virtual_size)
        if not bitmap.carried:
            if begin is None:
                bitmap.set(0, bitmap.size)
            else:
                try:
                    rules.merge(bitmap, begin)
                except Refusal as error:
                    raise Refusal("copy-bitmap", name=begin.name, why=error) from None
        self.copier = Copier(node, bitmap)
        self.saved = self.access = None
        if node.driver == "copy-before-write":
            self.saved = self._bitmap(node, "saved", cluster, source.virtual_size)
            self.access = self._bitmap(node, "access", cluster, source.virtual_size)
            if not self.access.carried:
                self.access.merge(bitmap)
        self._graph = graph
        self._patience = number(node.options.get("cbw-timeout", 0)) * _SECOND
        self._breaks = node.options.get("on-cbw-error") == _BREAK_SNAPSHOT
        self.broken = 0

    def _bitmap(self, owner: BlockNode, purpose: str, granularity: int, size: int) -> DirtyBitmap:
        """A bitmap of its own, or the one that another process has left."""
        for each in owner.bitmaps:
            if each.purpose == purpose:
                each.carried = True
                return each
        bitmap = DirtyBitmap(None, granularity, size, enabled=False)
        bitmap.purpose = purpose
        owner.bitmaps.insert(0, bitmap)
        return bitmap

    def follow(self) -> None:
        """Another node is below it now."""
        self.below = below(self._node)

    def close(self) -> None:
        """Its bitmaps go with it."""
        rules.release(self._owner, self.copier.bitmap)
        for bitmap in (self.saved, self.access):
            if bitmap is not None:
                rules.release(self._node, bitmap)

    def _save(self, offset: int, length: int) -> None:
        if self.broken:
            return
        in_time = self._wait(offset, length)
        with self.copier.lock:
            result = self.copier.save(offset, length) if in_time else Copied(ETIMEDOUT)
            if result.error and not self._breaks:
                raise failure(result.error)
            if result.error:
                self.broken = result.error
            elif self.saved is not None and length:
                cluster = self.copier.cluster
                begin = offset // cluster * cluster
                self.saved.set(begin, -(-(offset + length) // cluster) * cluster - begin)

    def _wait(self, offset: int, length: int) -> bool:
        """Wait for the limits of the target, where there is something to copy; False where that takes too long."""
        wait = self._graph.await_limits
        if wait is None:
            return True
        cluster = self.copier.cluster
        at, end, size = offset // cluster * cluster, -(-(offset + length) // cluster) * cluster, 0
        while (area := self.copier.bitmap.dirty_area(at, end, end - at)) is not None:
            at, size = sum(area), size + area[1]
        return not size or wait(self._node.children["target"], size, self._patience)

    def kept(self, offset: int, length: int) -> tuple[BlockNode, int]:
        """The node that has a part as it was, and how much of the part it has; what is behind `copier.lock`.

        :raise ImageError: it cannot be read any more.
        """
        if self.saved is None or self.access is None:
            raise failure(ENOTSUP)
        if self.broken or self.access.run(offset, offset + length) != (length, True):
            raise failure(EACCES)
        count, in_target = self.saved.run(offset, offset + length)
        return self._node.children["target" if in_target else "file"], count

    def forget(self, offset: int, length: int) -> None:
        """Nobody reads a part as it was any more, so it need not be saved; only whole clusters are let go.

        :raise OSError, ImageError: the target cannot discard it.
        """
        if self.access is None:
            raise failure(ENOTSUP)
        cluster = self.copier.cluster
        begin, end = -(-offset // cluster) * cluster, (offset + length) // cluster * cluster
        if begin >= end:
            return
        with self.copier.lock:
            self.access.reset(begin, end - begin)
            self.copier.bitmap.reset(begin, end - begin)
            target = self._node.children["target"].port
            assert target is not None
            target.discard(begin, end - begin)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Save, then write."""
        self._save(offset, len(data))
        super().write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Save, then let them be zeros."""
        self._save(offset, length)
        super().zero(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        """Save, then let go."""
        self._save(offset, length)
        super().discard(offset, length)


class SnapshotAccess:
    """snapshot-access: what a copy-before-write node below has saved, or has still as it was.  It is only read.

    (QEMU's block/snapshot-access.c.)
    """

    allocated = None

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        self._node = node
        self.size = node.children["file"].virtual_size

    @property
    def _keeper(self) -> CopyBeforeWrite:
        below = self._node.children["file"].content
        if not isinstance(below, CopyBeforeWrite):
            raise failure(ENOTSUP)
        return below

    def read(self, offset: int, length: int) -> bytes:
        """Read it as it was."""
        keeper, found = self._keeper, bytearray()
        while length:
            with keeper.copier.lock:
                node, count = keeper.kept(offset, length)
                assert node.port is not None
                found += node.port.read(offset, count)
            offset, length = offset + count, length - count
        return bytes(found)

    def parts(self, offset: int, length: int) -> Iterator[tuple[BlockNode, int, int]]:
        """The nodes that have a part as it was: each with the offset and the length of its piece."""
        while length:
            node, count = self._keeper.kept(offset, length)
            yield node, offset, count
            offset, length = offset + count, length - count

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs it as it was."""
        self._keeper.forget(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """It fails."""
        raise failure(ENOTSUP)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """It fails."""
        raise failure(ENOTSUP)

    def truncate(self, size: int) -> None:
        """It fails."""
        raise failure(ENOTSUP)

    def flush(self) -> None:
        """Nothing is written."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """All of it is there."""
        yield length, True

    def close(self) -> None:
        """Nothing is open here."""
