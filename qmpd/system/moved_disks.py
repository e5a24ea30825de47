"""What of a machine's disks goes with it when it moves: who has them, and their dirty bitmaps (`dirty-bitmaps`).

The section `bitmaps` of a migration's stream is a list of the bitmaps that have names: their nodes, and what they are.
Where the parameter `block-bitmap-mapping` is set nodes and bitmaps are called as it says, and others do not go along.
(QEMU's migration/block-dirty-bitmap.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.activation import give_away, take_back
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.drivers.table import Role, role_of
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qmpd.block.graph import BlockGraph
    from qmpd.hardware.inventory import Inventory

    Mappings = Sequence[Mapping[str, Any]] | None


def give(inventory: Inventory | None) -> None:
    """Another machine has the disks from now on."""
    if inventory is not None:
        give_away(inventory.backends.block)


def are_written(inventory: Inventory | None) -> bool:
    """Whether somebody will write to a disk even when its machine stands still: who saves old data there."""
    if inventory is None:
        return False
    return any(
        role_of(node.driver, node.options, role) is Role.TARGET
        for node in inventory.backends.block.nodes.values() for role in node.children
    )  # fmt: skip


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


def take_bitmaps(graph: BlockGraph, mappings: Mappings) -> list[list[Any]]:
    """The bitmaps that go along, each with what its node is called."""
    found: list[list[Any]] = []
    for node in graph.nodes.values():
        for bitmap in node.bitmaps:
            if bitmap.name is None or bitmap.busy or bitmap.inconsistent:
                continue
            for called, name in _aliases(mappings, node.name, bitmap.name):
                found.append([called, {**bitmap.snapshot(), "name": name}])
    return found


def _aliases(mappings: Mappings, node: str, name: str) -> Iterator[tuple[str, str]]:
    if mappings is None:
        yield node, name
        return
    for each in mappings:
        for bitmap in each["bitmaps"] if each["node-name"] == node else ():
            if bitmap["name"] == name:
                yield each["alias"], bitmap["alias"]


def put_bitmaps(graph: BlockGraph, bitmaps: Sequence[Any], mappings: Mappings) -> None:
    """Have these bitmaps, beside those that are there.

    :raise BadStream: there is no such node, or one has a bitmap of that name.
    """
    for called, plain in bitmaps:
        node_name, name = _meant(mappings, called, plain["name"])
        node = graph.nodes.get(node_name)
        if node is None:
            raise BadStream(f"Error: unknown device '{called}' in stream")
        if any(each.name == name for each in node.bitmaps):
            raise BadStream(f"Bitmap already exists: {name}")
        node.bitmaps.insert(0, DirtyBitmap.restore({**plain, "name": name}))


def _meant(mappings: Mappings, called: str, name: str) -> tuple[str, str]:
    """The node and the bitmap that are called so on the way.

    :raise BadStream: nothing is.
    """
    if mappings is None:
        return called, name
    for each in mappings:
        if each["alias"] == called:
            for bitmap in each["bitmaps"]:
                if bitmap["alias"] == name:
                    return each["node-name"], bitmap["name"]
    raise BadStream(f"Unknown bitmap alias '{name}' on node '{called}'")
