"""Snapshots of the whole machine, as far as its disks have a say.  (QEMU's migration/savevm.c, block/snapshot.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.block.images.qcow2.snapshot_table import read_snapshots
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.graph import BlockGraph
    from qmpd.block.images.qcow2.snapshot_table import Snapshot
    from qmpd.block.nodes import BlockNode


def taking_part(graph: BlockGraph) -> Iterator[BlockNode]:
    """The nodes that snapshots are taken of: what can be written, and is in a drive or nobody's child."""
    for node in graph.nodes.values():
        if not node.read_only and (node.drives or not node.parents):
            yield node


def _called(node: BlockNode) -> str:
    return next((drive.name for drive in node.drives if drive.name), node.name)


def snapshots_of(node: BlockNode) -> list[Snapshot]:
    """The internal snapshots of a node; none where its format has none."""
    content = node.content
    if not isinstance(content, Qcow2Content) or not content.header.snapshots:
        return []
    return read_snapshots(ReadImage(content.file, read_only=True, data=content.data))


def load(graph: BlockGraph, tag: str) -> None:
    """Go back to the snapshot of this name, or id.

    :raise Refusal: it is not there, or its machine's state is not.
    :raise NotModelled: it is.
    """
    nodes = list(taking_part(graph))
    for node in nodes:
        if not isinstance(node.content, Qcow2Content):
            raise Refusal("snapshot-not-supported", device=_called(node))
    found: list[Snapshot] = []
    for node in nodes:
        each = [kept for kept in snapshots_of(node) if tag in (kept.name, kept.identifier)]
        if not each:
            raise Refusal("snapshot-missing", tag=tag, device=_called(node))
        found.append(each[0])
    if not found:
        raise Refusal("snapshot-no-device")
    if not found[0].state_size:
        raise Refusal("snapshot-disk-only")
    raise NotModelled("going back to the snapshot of a machine")
