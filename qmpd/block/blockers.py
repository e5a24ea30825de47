"""What keeps commands away from a node: it is behind another one.  (QEMU's bdrv_op_blocker_is_set.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from qmpd.block.nodes import BlockNode


def check_unblocked(node: BlockNode) -> None:
    """Refuse an operation on a node that something else has for itself.

    :raise MachineError: it has.
    """
    for parent in reversed(node.parents):
        if parent.children.get("backing") is node:
            raise MachineError(f"Node '{node.called}' is busy: node is used as backing hd of '{parent.name}'")
