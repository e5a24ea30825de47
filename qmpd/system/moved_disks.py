"""What of a machine's disks goes with it when it moves: who has them, and their dirty bitmaps (`dirty-bitmaps`).

The section `bitmaps` of a migration's stream is a list of the bitmaps that have names: their nodes, and what they are.
Where the parameter `block-bitmap-mapping` is set nodes and bitmaps are called as it says, and others do not go along.
(QEMU's migration/block-dirty-bitmap.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.activation import give_away, take_back
from qmpd.block.bitmaps import rules
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.drivers.table import Role, role_of
from qmpd.block.jobs.chain import unfiltered
from qmpd.common.refusals import Worded
from qmpd.migration import bitmap_names
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.hardware.inventory import Inventory

    Mappings = Sequence[Mapping[str, Any]] | None


def give(inventory: Inventory | None, mappings: Mappings, *, bitmaps_go_along: bool) -> None:
    """Another machine has the disks from now on.

    Bitmaps that go along are not stored in their images as well, until these are this machine's again.
    """
    if inventory is None:
        return
    for bitmap, _, _ in _going(inventory.backends.block, mappings) if bitmaps_go_along else ():
        bitmap.stored = False
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


def take_bitmaps(inventory: Inventory, mappings: Mappings) -> list[list[Any]]:
    """The bitmaps that go along, each with what its node is called."""
    found = _going(inventory.backends.block, mappings)
    return [[called, {**bitmap.snapshot(), **changed}] for bitmap, called, changed in found]


def check_bitmaps(inventory: Inventory, mappings: Mappings) -> None:
    """See whether the bitmaps can go along; one whose machine is on its way already is left out where it cannot.

    :raise Refusal: somebody works with one of a node that is meant, or it cannot be used, be it left out or not; or
        the name of one is too long, or nobody has given its node a name.
    """
    for node, called in _nodes(inventory.backends.block, mappings):
        for bitmap in node.bitmaps if bitmap_names.is_meant(mappings, called) else ():
            if bitmap.name is not None:
                bitmap_names.check_node(mappings, called, bitmap.name)
                rules.check(bitmap)
                bitmap_names.check_outward(mappings, called, bitmap.name)


def _nodes(graph: BlockGraph, mappings: Mappings) -> Iterator[tuple[BlockNode, str]]:
    """The nodes, each with its name; where no mapping has that, with the name of the drive that it is in."""
    drives: dict[str, str] = {}
    if mappings is None:
        found = [each for each in graph.drives if each.name and each.role == "root"]
        drives = {unfiltered(each.node).name: each.name for each in found if each.node is not None}
    for node in graph.nodes.values():
        yield node, drives.get(node.name, node.name)


def _going(graph: BlockGraph, mappings: Mappings) -> Iterator[tuple[DirtyBitmap, str, dict[str, Any]]]:
    """The bitmaps that go along, with what their node is called on the way, and what they are there otherwise."""
    for node, own in _nodes(graph, mappings):
        for bitmap in node.bitmaps:
            if bitmap.name is not None and not bitmap.busy and not bitmap.inconsistent:
                way = bitmap_names.outward(mappings, own, bitmap.name)
                if way is not None:
                    called, name, transform = way
                    yield bitmap, called, {"name": name, **transform}


def put_bitmaps(
    inventory: Inventory, bitmaps: Sequence[Any], mappings: Mappings, complain: Callable[[str], None]
) -> None:  # fmt: skip
    """Have these bitmaps, beside those that are there; from one on that has no place here they are left out.

    That is told, and the machine goes on without them, as QEMU's does.

    :raise BadStream: a node has a bitmap of that name, or these are none.
    """
    try:
        _put_bitmaps(inventory.backends.block, bitmaps, mappings, complain)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadStream(f"error while loading state: {error!r}") from None


def _put_bitmaps(
    graph: BlockGraph, bitmaps: Sequence[Any], mappings: Mappings, complain: Callable[[str], None]
) -> None:  # fmt: skip
    for called, plain in bitmaps:
        try:
            own, name, transform = bitmap_names.inward(mappings, called, plain["name"])
            node = graph.look_up(own if mappings is None else None, own)
        except Worded as error:
            complain(error.message)
            return
        if any(each.name == name for each in node.bitmaps):
            raise BadStream(f"Bitmap already exists: {name}")
        node.bitmaps.insert(0, DirtyBitmap.restore({**plain, **transform, "name": name}))
