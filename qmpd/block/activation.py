"""Disks that one machine has after another: letting go of all of them, and having them again.

A node that is inactive is another machine's: nothing is written to it, nobody is kept from it, and what its image says
is read anew once it is active again.  (QEMU's block.c, `bdrv_inactivate_all` and `bdrv_activate_all`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.closing import inactivate
from qmpd.block.content import text_of
from qmpd.block.drivers.formats import Layered
from qmpd.block.images.errors import ImageError
from qmpd.block.permissions import refresh
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode


def give_away(graph: BlockGraph) -> None:
    """Let go of all disks, once all that was written is there."""
    _let_go(graph, graph.newest_first())


def give_away_all(graph: BlockGraph) -> None:
    """Let go of all disks for a user who asks for that.

    :raise Refusal: somebody keeps one of them; those that QEMU would have come to before that one are let go of.
    """
    users = [drive for node in graph.nodes.values() for drive in node.drives]
    if not any(drive.keeps_active for drive in users):
        give_away(graph)
        return
    users.sort(key=lambda drive: drive.number)
    owned = [node for node in graph.nodes.values() if node.owned]
    for node in dict.fromkeys([*(drive.node for drive in users if drive.node is not None), *owned]):
        if not node.parents and not _give_away_below(graph, node):
            raise Refusal("nodes-kept-active")


def give_away_one(graph: BlockGraph, node: BlockNode) -> None:
    """Let go of a node, and of those below it that no other node has.

    :raise Refusal: one that is active is on top of it, or somebody keeps it or one below, and so those below that.
    """
    if any(not parent.inactive for parent in node.parents):
        raise Refusal("node-active-parent")
    if not _give_away_below(graph, node):
        raise Refusal("node-kept-active")


def _give_away_below(graph: BlockGraph, node: BlockNode) -> bool:
    """Let go of a node and those below it, down to one that somebody keeps; whether there is none."""
    found = [node]
    for each in found:
        below = (child for child in each.children.values() if child not in found)
        found += [child for child in below if all(parent.inactive or parent in found for parent in child.parents)]
    kept = next((at for at, each in enumerate(found) if any(drive.keeps_active for drive in each.drives)), len(found))
    _let_go(graph, found[:kept])
    return kept == len(found)


def _let_go(graph: BlockGraph, wanted: Iterable[BlockNode]) -> None:
    nodes = [node for node in wanted if not node.inactive]
    for node in nodes:
        inactivate(node, graph.executor, graph.complain)
    if graph.executor is not None:
        graph.executor.settle()
    for node in nodes:
        node.inactive = True
        if node.bitmaps:
            from qmpd.block.bitmaps import stored

            stored.let_go(node)
        if isinstance(node.content, Layered):
            node.content.forget(read_only=True)
    refresh(nodes, whatever=True)


def share_activity(new: BlockNode, source: BlockNode) -> None:
    """A node that was opened for another one is another machine's where that is."""
    if not source.inactive:
        return
    for child in new.children.values():
        share_activity(child, source)
    new.inactive = True
    if isinstance(new.content, Layered):
        new.content.forget(read_only=True)


def take_back(graph: BlockGraph, *, shared: bool = False) -> None:
    """Have all disks again, as they are by now; `shared`: nobody is kept from them.

    :raise Refusal: somebody else has one of them; all are as before then.
    """
    graph.inactive = False
    _have(graph, [node for node in graph.nodes.values() if node.inactive], shared=shared)


def take_back_one(graph: BlockGraph, node: BlockNode) -> None:
    """Have a node again, and those below it; a machine that is still to come here keeps nobody from them.

    :raise Refusal: somebody else has one of them; all are as before then.
    """
    found = [node]
    for each in found:
        found += [child for child in each.children.values() if child not in found]
    _have(graph, [each for each in found if each.inactive], shared=graph.inactive)


def _have(graph: BlockGraph, nodes: list[BlockNode], *, shared: bool) -> None:
    for node in nodes:
        node.inactive = False
    for drive in graph.drives:
        if drive.node in nodes:
            drive.is_open = shared and not drive.is_job
    try:
        refresh(nodes)
        _read_anew(nodes)
    except (Refusal, ImageError) as error:
        for node in nodes:
            node.inactive = True
        refresh(nodes, whatever=True)
        if isinstance(error, ImageError):
            raise MachineError(error.message) from None
        raise


def close_to_others(graph: BlockGraph) -> None:
    """Keep others from disks that were shared; where somebody else has one of them that is told, and they stay so."""
    drives = [drive for drive in graph.drives if drive.is_open]
    for drive in drives:
        drive.is_open = False
    try:
        refresh(drive.node for drive in drives if drive.node is not None)
    except Refusal as refusal:
        for drive in drives:
            drive.is_open = True
        if graph.complain is not None:
            graph.complain(str(refusal))


def _read_anew(nodes: Iterable[BlockNode]) -> None:
    """:raise ImageError: one of the images is none by now."""
    for node in nodes:
        if isinstance(node.content, Layered):
            node.content.forget(read_only=node.read_only)
            _load_bitmaps(node)


def _load_bitmaps(node: BlockNode) -> None:
    for bitmap in node.bitmaps:
        bitmap.stored = True
    if node.driver != "qcow2" or node.content.header.bitmaps is None:  # type: ignore[union-attr]
        return
    from qmpd.block.bitmaps import stored

    try:
        stored.load(node)
    except OSError as error:
        raise ImageError(text_of(error)) from None
