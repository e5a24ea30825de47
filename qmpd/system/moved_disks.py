"""The disks of a machine that moves: which of two machines has them.  (QEMU's block.c and migration/migration.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.activation import give_away, take_back
from qmpd.block.drivers.table import Role, role_of

if TYPE_CHECKING:
    from qmpd.hardware.inventory import Inventory


def give(inventory: Inventory | None) -> None:
    """Another machine has the disks from now on."""
    if inventory is not None:
        give_away(inventory.backends.block)


def are_kept(inventory: Inventory | None, *, old_data: bool) -> bool:
    """Whether somebody will write to a disk even when its machine stands still: whom an export lets write.

    `old_data`: one who saves old data there counts, too.
    """
    if inventory is None:
        return False
    nodes = inventory.backends.block.nodes.values()
    if any(drive.keeps_active for node in nodes for drive in node.drives):
        return True
    return old_data and any(
        role_of(node.driver, node.options, role) is Role.TARGET for node in nodes for role in node.children
    )


def drain(inventory: Inventory | None, *, each: bool) -> None:
    """Have what is going on at the disks pause for a moment, once, or for `each` node."""
    if inventory is not None:
        graph = inventory.backends.block
        for _ in graph.nodes if each else (None,):
            graph.drain_all()


def take(inventory: Inventory | None, *, runs: bool) -> None:
    """Have the disks; where the machine does not run at once (`runs`), others may have them, too, until it does.

    :raise Refusal: somebody else has.
    """
    if inventory is not None:
        take_back(inventory.backends.block, shared=not runs or inventory.rules.moved_disks_stay_shared)


def arrived(inventory: Inventory | None) -> None:
    """The machine is here, and its disks are this side's once it goes on."""
    if inventory is not None:
        inventory.backends.block.inactive = False
