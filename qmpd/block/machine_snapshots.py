"""Snapshots of the whole machine, as far as its disks have a say.  (QEMU's block/snapshot.c, bdrv_all_*.)

The machine's state lies in one of the images, behind the end of the guest's disk; all of the others have a snapshot of
the same name.  What reads or writes an image is a piece of work for the executor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.content import text_of
from qmpd.block.disk_snapshots import can_snapshot, find, image_of, snapshots_of
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import snapshots
from qmpd.block.images.qcow2.snapshot_table import read_snapshots
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.block.drivers.formats import Qcow2Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.images.qcow2.snapshot_table import Snapshot
    from qmpd.block.nodes import BlockNode


LARGEST_STATE = 32 << 20
"""No more bytes of a machine's state are read."""


class Moment(NamedTuple):
    """When a snapshot is taken: the time of day, in microseconds, and the machine's own time, in nanoseconds."""

    wall: int
    clock: int


def taking_part(graph: BlockGraph, *, only_later: bool = False) -> list[BlockNode]:
    """The nodes that snapshots are taken of: what can be written, and is somebody's disk or the user's and in no use.

    Disks come first, in the order in which those came who have them.  `only_later`: of the others those alone that came
    after the last of the disks.
    """
    disks = [node for node in graph.nodes.values() if _disk(node) is not None]
    disks.sort(key=lambda node: _disk(node) or 0)
    others = [node for node in graph.nodes.values() if node.owned]
    if only_later and disks:
        others = others[others.index(disks[-1]) + 1 :] if disks[-1] in others else []
    free = [node for node in others if node not in disks and not node.parents and graph.is_busy(node) is None]
    return [node for node in (*disks, *free) if not node.read_only]


def _disk(node: BlockNode) -> int | None:
    """The number of the newest who has a node as a disk; None where nobody has."""
    return max((drive.number for drive in node.drives if not drive.is_job), default=None)


def called(node: BlockNode) -> str:
    """What a node is called in texts: by the drive that it is in, or by its name."""
    return next((drive.name for drive in node.drives if drive.name), node.name)


class Disks:
    """The disks that one snapshot is of: those named, or all that take part."""

    def __init__(
        self, graph: BlockGraph, names: Sequence[str] | None = None, *, check: bool = True, active: bool = True,
        only_later: bool = False,
    ) -> None:  # fmt: skip
        """`check` whether each can have snapshots, which only one can that is `active`, where that is said.

        `only_later`: see `taking_part`.

        :raise Refusal: none is named, one is not there, or one can have no snapshots.
        """
        self.nodes = (
            taking_part(graph, only_later=only_later) if names is None
            else [_named(graph, name) for name in _some(names)]
        )  # fmt: skip
        self._active = active
        for node in self.nodes if check else ():
            if not self._can(node):
                raise Refusal("snapshot-not-supported", device=called(node))

    @property
    def able(self) -> list[BlockNode]:
        """Those that can have snapshots."""
        return [node for node in self.nodes if self._can(node)]

    def _can(self, node: BlockNode) -> bool:
        return can_snapshot(node) and not (self._active and node.inactive)

    def of_state(self, name: str | None, otherwise: str) -> BlockNode:
        """The disk that the machine's state is in: the one of this name, or the first.

        :raise Refusal: there is none (`otherwise` is the code where none is named).
        """
        for node in self.able:
            if name is None or node.name == name:
                return node
        raise Refusal(otherwise) if name is None else Refusal("snapshot-state-disk", device=name)

    # Pieces of work

    def lacking(self, tag: str) -> BlockNode | None:
        """The first disk that has no snapshot of this name; None where all have.

        :raise ImageError, OSError: they cannot be read.
        """
        return next((node for node in self.able if find(snapshots_of(node), tag) is None), None)

    def has_state(self, node: BlockNode, tag: str) -> bool:
        """Whether a disk's snapshot of this name has the machine's state.

        :raise ImageError, OSError: it cannot be read.
        """
        found = find(snapshots_of(node), tag)
        return found is not None and found.state_size > 0

    def delete(self, tag: str) -> None:
        """Delete the snapshots of this name.

        :raise ImageError: one cannot be deleted.
        """
        for node in self.able:
            content = _content(node)
            try:
                found = find(read_snapshots(content.image), tag)
                if found is not None:
                    snapshots.delete(content.image, found)
            except (OSError, ImageError) as error:
                raise ImageError(f"Could not delete snapshot '{tag}' on '{called(node)}': {text_of(error)}") from None

    def take(self, tag: str, moment: Moment, state_in: BlockNode, state: bytes, size: int) -> None:
        """Take a snapshot of each, with the machine's state, filled up to `size` bytes, in one of them.

        :raise ImageError, OSError: one cannot be taken; none is there then.
        """
        image = _content(state_in).image
        size = max(size, len(state))
        snapshots.write_state(image, 0, state)
        snapshots.fill_state(image, len(state), size)
        seconds, rest = divmod(moment.wall, 1_000_000)
        taken: list[tuple[Qcow2Content, Snapshot]] = []
        try:
            for node in self.able:
                content = _content(node)
                content.flush()
                has = size if node is state_in else 0
                kept = snapshots.take(
                    content.image, tag, seconds=seconds, nanoseconds=rest * 1000, clock=moment.clock, state_size=has
                )
                taken.append((content, kept))
        except (OSError, ImageError):
            for content, kept in taken:
                snapshots.delete(content.image, kept)
            raise
        finally:
            snapshots.drop_state(image, size)

    def go_back(self, tag: str, state_in: BlockNode) -> bytes:
        """Let all be as they were when the snapshot was taken; the machine's state.

        :raise ImageError, OSError: one cannot be.
        """
        for node in self.able:
            content = _content(node)
            found = find(read_snapshots(content.image), tag)
            if found is not None:
                snapshots.go_back(content.image, found)
        content = _content(state_in)
        found = find(read_snapshots(content.image), tag)
        assert found is not None
        return snapshots.read_state(content.image, found, LARGEST_STATE)


def check(graph: BlockGraph, tag: str, *, only_later: bool) -> None:
    """See whether a machine that is to start can begin with this snapshot (`-loadvm`; `only_later`: see `taking_part`).

    :raise Refusal: it is not there, or its machine's state is not.
    """
    disks = Disks(graph, only_later=only_later)
    without = disks.lacking(tag)
    if without is not None:
        raise Refusal("snapshot-missing", tag=tag, device=called(without))
    if not disks.has_state(disks.of_state(None, "snapshot-no-device"), tag):
        raise Refusal("snapshot-disk-only")


def _some(names: Sequence[str]) -> Sequence[str]:
    if not names:
        raise Refusal("snapshot-no-devices")
    return names


def _named(graph: BlockGraph, name: str) -> BlockNode:
    node = graph.nodes.get(name)
    if node is None:
        raise Refusal("snapshot-device-missing", device=name)
    return node


def _content(node: BlockNode) -> Qcow2Content:
    content = image_of(node)
    assert content is not None
    return content
