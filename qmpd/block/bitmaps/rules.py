"""What may be done with dirty bitmaps, and the changes of them that a transaction can consist of.

(QEMU's block/monitor/bitmap-qmp-cmds.c and blockdev.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.bitmaps import stored
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.description import cluster_of
from qmpd.block.transactions import Alone
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.block.bitmaps.bits import Bits
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps

LONGEST_NAME = 1023
_SMALLEST = 512
_DEFAULT_RANGE = 4096, 65536

BUSY, READ_ONLY, INCONSISTENT = "busy", "read_only", "inconsistent"
ALL = (BUSY, READ_ONLY, INCONSISTENT)
BUT_READ_ONLY = (BUSY, INCONSISTENT)
_REFUSALS = {BUSY: "bitmap-busy", READ_ONLY: "bitmap-read-only", INCONSISTENT: "bitmap-inconsistent"}


def check(bitmap: DirtyBitmap, states: Iterable[str] = ALL) -> None:
    """Refuse a bitmap that is in one of these states.

    :raise Refusal: it is.
    """
    for state in states:
        if getattr(bitmap, state):
            raise Refusal(_REFUSALS[state], name=bitmap.name)


def in_node(node: BlockNode, name: str) -> DirtyBitmap:
    """A node's bitmap of this name.

    :raise Refusal: it has none.
    """
    found = next((each for each in node.bitmaps if each.name == name), None)
    if found is None:
        raise Refusal("bitmap-missing", name=name)
    return found


def find(graph: BlockGraph, node: str, name: str) -> tuple[BlockNode, DirtyBitmap]:
    """The bitmap of this name, of a node or of what is in a drive.

    :raise Refusal: there is none.
    """
    owner = graph.lookup(node)
    if owner is None:
        raise Refusal("bitmap-node-missing", node=node)
    return owner, in_node(owner, name)


def default_granularity(node: BlockNode) -> int:
    """The granularity of a bitmap that was given none."""
    least, most = _DEFAULT_RANGE
    return max(least, min(cluster_of(node) or most, most))


def create(node: BlockNode, name: str | None, granularity: int) -> DirtyBitmap:
    """Make a bitmap for a node, which notes writes from now on; without a name it is a job's own.

    :raise Refusal: its name is taken, or too long.
    """
    if name is not None:
        if any(each.name == name for each in node.bitmaps):
            raise Refusal("bitmap-exists", name=name)
        if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
            raise Refusal("bitmap-name-long", name=name)
    bitmap = DirtyBitmap(name, granularity, node.virtual_size)
    node.bitmaps.insert(0, bitmap)
    return bitmap


def release(node: BlockNode, bitmap: DirtyBitmap) -> None:
    """Take a bitmap away from its node, if it is still there."""
    if bitmap in node.bitmaps:
        node.bitmaps.remove(bitmap)


# While a job works with it


def freeze(node: BlockNode, bitmap: DirtyBitmap) -> None:
    """A job works with a bitmap, which stays as it is: what is written meanwhile goes to its successor.

    :raise Refusal: somebody works with it already.
    """
    check(bitmap, (BUSY,))
    successor = create(node, None, bitmap.granularity)
    successor.enabled, bitmap.enabled = bitmap.enabled, False
    bitmap.busy, bitmap.successor = True, successor


def thaw(node: BlockNode, bitmap: DirtyBitmap) -> None:
    """The bitmap goes on, with what was written meanwhile."""
    successor, bitmap.successor = bitmap.successor, None
    if successor is not None:
        bitmap.merge(successor)
        bitmap.enabled, bitmap.busy = successor.enabled, False
        release(node, successor)


def succeed(node: BlockNode, bitmap: DirtyBitmap) -> DirtyBitmap:
    """Its successor takes the bitmap's place and name, with what was written meanwhile alone; gives that."""
    successor, bitmap.successor = bitmap.successor, None
    assert successor is not None
    successor.name, successor.persistent = bitmap.name, bitmap.persistent
    bitmap.busy = False
    release(node, bitmap)
    return successor


# Queries


def describe(node: BlockNode, *, with_status: bool = False) -> list[dict[str, Any]]:
    """QAPI's BlockDirtyInfo of a node's bitmaps; `with_status`: old releases tell of a status, too."""
    found = [_describe(each) for each in node.bitmaps]
    if with_status:
        for shown, bitmap in zip(found, node.bitmaps, strict=True):
            shown["status"] = _status(bitmap)
    return found


def _describe(bitmap: DirtyBitmap) -> dict[str, Any]:
    recording = (bitmap.successor or bitmap).enabled
    found: dict[str, Any] = {
        "count": bitmap.count, "granularity": bitmap.granularity, "recording": recording, "busy": bitmap.busy,
        "persistent": bitmap.persistent,
    }  # fmt: skip
    if bitmap.name is not None:
        found["name"] = bitmap.name
    if bitmap.inconsistent:
        found["inconsistent"] = True
    return found


def _status(bitmap: DirtyBitmap) -> str:
    """QAPI's DirtyBitmapStatus."""
    if bitmap.inconsistent:
        return "inconsistent"
    if bitmap.busy:
        return "locked" if bitmap.successor is None else "frozen"
    return "active" if bitmap.enabled else "disabled"


# Actions


class Add(Alone):
    """`block-dirty-bitmap-add`.  `granularity` is None where none was given; `stores_anywhere`: a read-only node may
    have a persistent bitmap."""

    def __init__(
        self, graph: BlockGraph, node: str, name: str, granularity: int | None = None, *, persistent: bool = False,
        disabled: bool = False, stores_anywhere: bool = True,
    ) -> None:  # fmt: skip
        self._graph = graph
        self._where = node
        self._name = name
        self._granularity = granularity
        self._persistent = persistent
        self._enabled = not disabled
        self._stores_anywhere = stores_anywhere
        self._made: tuple[BlockNode, DirtyBitmap] | None = None

    def prepare(self) -> Steps | None:
        """Make it.

        :raise Refusal: it cannot be.
        """
        if not self._name:
            raise Refusal("bitmap-name-empty")
        node = self._graph.find(self._where)
        granularity = self._granularity
        if granularity is None:
            granularity = default_granularity(node)
        elif granularity < _SMALLEST or granularity & (granularity - 1):
            raise Refusal("bitmap-granularity")
        if self._persistent:
            if (node.read_only or node.inactive) and not self._stores_anywhere:
                raise Refusal("bitmap-store-read-only", node=node.name)
            stored.may_store(node, self._name, granularity)
        bitmap = create(node, self._name, granularity)
        bitmap.enabled = self._enabled
        bitmap.persistent = self._persistent
        self._made = node, bitmap
        return None

    def abort(self) -> Steps | None:
        """Take it away; it is in no image yet."""
        if self._made is not None:
            release(*self._made)
        return None


class Remove(Alone):
    """`block-dirty-bitmap-remove`."""

    def __init__(self, graph: BlockGraph, node: str, name: str) -> None:
        self._graph = graph
        self._where = node
        self._name = name
        self._removed: tuple[BlockNode, DirtyBitmap] | None = None

    def prepare(self) -> Steps:
        """Take it out of the image; in memory it stays, for nobody to use.

        :raise Refusal: it cannot be removed.
        """
        node, bitmap = find(self._graph, self._where, self._name)
        check(bitmap, (BUSY, READ_ONLY))
        if bitmap.persistent:
            yield lambda: stored.remove(node, self._name)
        bitmap.stored, bitmap.busy = False, True
        self._removed = node, bitmap

    def commit(self) -> Steps | None:
        """Take it away."""
        if self._removed is not None:
            release(*self._removed)
        return None

    def abort(self) -> Steps | None:
        """Let it be as it was; it goes into the image when that is closed."""
        if self._removed is not None:
            bitmap = self._removed[1]
            bitmap.stored, bitmap.busy = True, False
        return None


class Clear(Alone):
    """`block-dirty-bitmap-clear`."""

    def __init__(self, graph: BlockGraph, node: str, name: str) -> None:
        self._graph = graph
        self._where = node
        self._name = name
        self._old: tuple[DirtyBitmap, Bits] | None = None

    def prepare(self) -> Steps | None:
        """Leave nothing dirty.

        :raise Refusal: it cannot be cleared.
        """
        _, bitmap = find(self._graph, self._where, self._name)
        check(bitmap)
        self._old = bitmap, bitmap.take()
        return None

    def abort(self) -> Steps | None:
        """Have dirty again what was."""
        if self._old is not None:
            self._old[0].put_back(self._old[1])
        return None


class Switch(Alone):
    """`block-dirty-bitmap-enable` and `-disable`."""

    def __init__(self, graph: BlockGraph, node: str, name: str, *, enabled: bool) -> None:
        self._graph = graph
        self._where = node
        self._name = name
        self._enabled = enabled
        self._old: tuple[DirtyBitmap, bool] | None = None

    def prepare(self) -> Steps | None:
        """Have it note writes, or not.

        :raise Refusal: it cannot be changed.
        """
        _, bitmap = find(self._graph, self._where, self._name)
        check(bitmap, BUT_READ_ONLY)
        self._old = bitmap, bitmap.enabled
        bitmap.enabled = self._enabled
        return None

    def abort(self) -> Steps | None:
        """Let it be as it was; one that was so already is left as it is, since another action may have undone more."""
        if self._old is not None and self._old[1] != self._enabled:
            self._old[0].enabled = self._old[1]
        return None


class Merge(Alone):
    """`block-dirty-bitmap-merge`.  `sources` are names of the node's own bitmaps, or other nodes' names with theirs.

    With no source nothing happens, as in QEMU 5.2; later releases end with a segmentation fault there.
    """

    def __init__(self, graph: BlockGraph, node: str, target: str, sources: list[str | tuple[str, str]]) -> None:
        self._graph = graph
        self._where = node
        self._target = target
        self._sources = sources
        self._old: tuple[DirtyBitmap, Bits] | None = None

    def prepare(self) -> Steps | None:
        """Have dirty what is dirty in one of the sources.

        :raise Refusal: it cannot be merged.
        """
        node, target = find(self._graph, self._where, self._target)
        found = DirtyBitmap(None, target.granularity, node.virtual_size)
        for each in self._sources:
            source = in_node(node, each) if isinstance(each, str) else find(self._graph, *each)[1]
            merge(found, source)
        check(target)
        self._old = target, target.copy_bits()
        target.merge(found)
        return None

    def abort(self) -> Steps | None:
        """Have dirty what was."""
        if self._old is not None:
            self._old[0].put_back(self._old[1])
        return None


def merge(target: DirtyBitmap, source: DirtyBitmap) -> None:
    """Have dirty in one bitmap what is in another.

    :raise Refusal: they are of different sizes, or the other one cannot be used.
    """
    check(source, BUT_READ_ONLY)
    if source.size != target.size:
        raise Refusal("bitmap-sizes", target=target.size, source=source.size)
    target.merge(source)


def check_resize(node: BlockNode) -> None:
    """Refuse to resize an image whose bitmaps cannot follow.

    :raise Refusal: it has such.
    """
    for bitmap in node.bitmaps:
        if bitmap.persistent and stored.is_in_image(node, bitmap):
            check(bitmap)
