"""Internal snapshots of one disk.  (QEMU's blockdev.c and block/snapshot.c.)"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from qmpd.block.blockers import check_unblocked
from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.images.errors import text as error_text
from qmpd.block.images.qcow2 import snapshots
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.block.images.qcow2.snapshot_table import read_snapshots
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.images.qcow2.snapshot_table import Snapshot
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps


def image_of(node: BlockNode) -> Qcow2Content | None:
    """The image that has a node's snapshots: its own, or the one that it passes on; None where there is none."""
    at: BlockNode | None = node
    while at is not None:
        if isinstance(at.content, Qcow2Content):
            return at.content
        driver = DRIVERS[at.driver]
        passes_on = (driver.is_filter or at.driver == "raw") and len(at.children) == 1
        at = at.children.get(driver.first) if passes_on else None
    return None


def can_snapshot(node: BlockNode) -> bool:
    """Whether snapshots can be taken of a node."""
    return not node.read_only and image_of(node) is not None


def snapshots_of(node: BlockNode) -> list[Snapshot]:
    """The internal snapshots of a node; none where its format has none.

    :raise ImageError, OSError: they cannot be read.
    """
    content = image_of(node)
    if content is None or not content.header.snapshots:
        return []
    return read_snapshots(ReadImage(content.file, read_only=True, data=content.data))


def find(kept: list[Snapshot], name: str | None, identifier: str | None = None) -> Snapshot | None:
    """The first snapshot of this name and this id; what is None need not be so."""
    for each in kept:
        if identifier in (None, each.identifier) and name in (None, each.name):
            return each
    return None


def root_node(graph: BlockGraph, name: str) -> BlockNode:
    """The node of this name, or in the drive of this name, if no other node has it.

    :raise Refusal: there is none, or one has.
    """
    node = graph.look_up(name, name)
    if node.parents or graph.is_busy(node) is not None:
        raise MachineError("Need a root block node")
    return node


class Take:
    """Takes a snapshot (QMP `blockdev-snapshot-internal-sync`)."""

    def __init__(self, graph: BlockGraph, arguments: Mapping[str, Any], wall: int, clock: int) -> None:
        """`wall`: the time of day in microseconds; `clock`: the machine's time in nanoseconds."""
        self._graph = graph
        self._device, self._name = str(arguments["device"]), str(arguments["name"])
        self._wall = wall
        self._clock = clock
        self._content: Qcow2Content | None = None
        self._taken: Snapshot | None = None

    def prepare(self) -> Steps | None:
        """:raise Refusal: the disk can have no snapshot, or has one of this name."""
        return self._prepare()

    def _prepare(self) -> Steps:
        node = root_node(self._graph, self._device)
        check_unblocked(node)
        if node.read_only:
            raise MachineError(f"Device '{self._device}' is read only")
        content = self._content = image_of(node)
        if content is None or node.inactive:
            raise MachineError(
                f"Block format '{node.driver}' used by device '{self._device}' does not support internal snapshots"
            )
        if not self._name:
            raise MachineError("Name is empty")
        kept = yield lambda: read_snapshots(content.image)
        if find(kept, self._name) is not None:
            raise MachineError(f"Snapshot with name '{self._name}' already exists on device '{self._device}'")
        seconds, rest = divmod(self._wall, 1_000_000)

        def work() -> Snapshot:
            content.flush()
            return snapshots.take(
                content.image, self._name, seconds=seconds, nanoseconds=rest * 1000, clock=self._clock
            )

        try:
            self._taken = yield work
        except (OSError, ImageError):
            raise MachineError(
                f"Failed to create snapshot '{self._name}' on device '{self._device}'"
            ) from None

    def commit(self) -> Steps | None:
        """It is there."""
        return None

    def abort(self) -> Steps | None:
        """Delete it."""
        return self._delete()

    def _delete(self) -> Steps:
        self._graph.changed_as("snapshot-delete")
        content, taken = self._content, self._taken
        assert content is not None
        assert taken is not None
        yield lambda: snapshots.delete(content.image, taken)


class Delete:
    """Deletes a snapshot (QMP `blockdev-snapshot-delete-internal-sync`); `deleted` is what it was."""

    def __init__(self, graph: BlockGraph, arguments: Mapping[str, Any]) -> None:
        self._graph = graph
        self._device = str(arguments["device"])
        self._identifier: str | None = arguments.get("id")
        self._name: str | None = arguments.get("name")
        self.deleted: Snapshot | None = None

    def prepare(self) -> Steps | None:
        """:raise Refusal: there is no such snapshot."""
        return self._prepare()

    def _prepare(self) -> Steps:
        self._graph.changed_as("snapshot-delete")
        node = root_node(self._graph, self._device)
        if self._identifier is None and self._name is None:
            raise MachineError("Name or id must be provided")
        check_unblocked(node)
        content = image_of(node)
        if content is None:
            raise MachineError(f"Failed to get a snapshot list: {error_text(errno.ENOTSUP)}")
        kept = yield lambda: read_snapshots(content.image)
        found = find(kept, self._name, self._identifier)
        if found is None:
            raise Refusal("snapshot-not-here", id=_text(self._identifier), name=_text(self._name), device=self._device)
        yield lambda: snapshots.delete(content.image, found)
        self.deleted = found

    def commit(self) -> Steps | None:
        """It is gone."""
        return None

    def abort(self) -> Steps | None:
        """No list of actions has this one."""
        return None


def _text(value: str | None) -> str:
    return "null" if value is None else value
