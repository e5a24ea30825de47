"""What keeps commands away from a node: it is behind another one, or in use.  (QEMU's bdrv_op_blocker_is_set.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.table import DRIVERS
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode


def check_unblocked(node: BlockNode) -> None:
    """Refuse an operation on a node that something else has for itself.

    :raise MachineError: it has.
    """
    parent = in_front_of(node)
    if parent is not None:
        raise MachineError(f"Node '{node.called}' is busy: node is used as backing hd of '{parent.name}'")


def in_front_of(node: BlockNode) -> BlockNode | None:
    """The newest image that a node is behind; None where there is none."""
    for parent in reversed(node.parents):
        if parent.children.get("backing") is node and not DRIVERS[parent.driver].is_filter:
            return parent
    return None


def delete(graph: BlockGraph, name: str) -> None:
    """Delete a node (`blockdev-del`).

    :raise Refusal: there is none, it is in use, or it is nobody's to delete.
    """
    node = graph.known(name)
    if not all(drive.is_job for drive in node.drives):
        raise MachineError(f"Node {name} is in use")
    graph.check_free(node)
    check_unblocked(node)
    if not node.owned:
        raise MachineError(f"Node {name} is not owned by the monitor")
    if node.parents:
        raise MachineError(f"Block device {name} is in use")
    node.owned = False
    graph.release(node)
