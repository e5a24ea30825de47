"""Putting nodes between others, and taking them out again.  (QEMU's block.c, `bdrv_append`, `bdrv_replace_node`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.content import Gone
from qmpd.block.drivers.formats import Layered
from qmpd.block.nodes import BlockNode
from qmpd.block.permissions import check_child, refresh
from qmpd.block.watching import Watched
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.content import Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import Drive

# Drivers whose filters QEMU opens as other nodes are opened, and tells where it cannot (`bdrv_insert_node`).
_INSERTED = ("copy-before-write", "copy-on-read")


def note_demands(graph: BlockGraph, node: BlockNode) -> None:
    """Note at a new node what it does with the one below it, whatever its users do."""
    node.demands = node.driver in graph.demanding


def replace(graph: BlockGraph, old: BlockNode, new: BlockNode) -> None:
    """Have the users of one node use another in its place, but for those that stay (`Drive.stays`).

    :raise Refusal: their uses exclude others of the new one; all is as before.
    """
    drives = [drive for drive in old.drives if not drive.stays]
    # Who is below the other one would be below itself: an image that shows its source, and is its backup.
    parents = [parent for parent in old.parents if not reaches(new, parent)]
    _move_whole(old, new, drives, parents)
    try:
        refresh([new, old])
    except Refusal:
        _move_whole(new, old, drives, parents)
        refresh([old, new])
        raise


def _move_whole(old: BlockNode, new: BlockNode, drives: list[Drive], parents: list[BlockNode]) -> None:
    move(old, new, drives, parents)
    for parent in parents:
        repoint(parent.content, old.port, new.port)


def move(old: BlockNode, new: BlockNode, drives: list[Drive], parents: list[BlockNode]) -> None:
    """Have these users of one node use another; what is in the parents still reads and writes the old one."""
    for drive in drives:
        drive.node = new
        old.drives.remove(drive)
        new.drives.append(drive)
    for parent in parents:
        for role, child in list(parent.children.items()):
            if child is old:
                parent.put_child(role, new)
                old.parents.remove(parent)
                new.parents.append(parent)


def reaches(node: BlockNode, other: BlockNode) -> bool:
    """Whether a node is the other one, or has it below or behind itself."""
    return node is other or any(reaches(child, other) for child in node.children.values())


def repoint(content: Any, old: Content | None, new: Content | None) -> None:
    """What is in a node has something else below or behind it from now on."""
    if isinstance(content, Layered):
        if content.backing is old:
            content.set_backing(new)
        if content.file is old and new is not None:
            content.move_to(new)
        return
    for name, value in vars(content).items() if hasattr(content, "__dict__") else ():
        if value is old:
            setattr(content, name, new)
        elif isinstance(value, list) and old in value:
            value[value.index(old)] = new


def put_on(
    graph: BlockGraph, node: BlockNode, driver: str, role: str, make: Callable[[BlockNode], Content], name: str = "",
    options: dict[str, Any] | None = None,
) -> BlockNode:  # fmt: skip
    """Put a new filter on top of a node: all that used it use the filter from now on.

    :raise Refusal: the name is none, or the uses exclude each other; all is as before.
    """
    if driver not in _INSERTED:
        return _put_on(graph, _made(graph, node, driver, role, make, name, options), node)
    try:
        above = _made(graph, node, driver, role, make, name, options)
        try:
            refresh([above])
        except Refusal:
            _unmake(graph, above, node)
            graph.changed_as(f"{driver}-undone")
            raise
    except Refusal as refusal:
        raise Refusal("filter-not-created", why=refusal) from None
    try:
        return _put_on(graph, above, node)
    except Refusal as refusal:
        raise Refusal("filter-not-put", why=refusal) from None


def _made(
    graph: BlockGraph, node: BlockNode, driver: str, role: str, make: Callable[[BlockNode], Content], name: str,
    options: dict[str, Any] | None,
) -> BlockNode:  # fmt: skip
    """A filter that has a node below it, and no users."""
    if name:
        try:
            graph.check_name(name)
        except Refusal:
            graph.changed()
            raise
    above = BlockNode(name or graph.new_name(), driver, options=options or {}, implicit=not name)
    note_demands(graph, above)
    above.read_only = node.read_only or driver == "commit_top"
    # Where it may be, what passes on what is asked for is another machine's, too.
    above.inactive = node.inactive and driver not in _INSERTED and not graph.inactive_children_refused
    refused = graph.inactive_children_refused
    check_child(above, role, node, refused=refused)
    above.children[role] = node
    above.content = make(above)
    for child_name, child in above.children.items():
        check_child(above, child_name, child, refused=refused)
    above.port = Watched(above, graph)
    graph.nodes[above.name] = above
    node.parents.append(above)
    return above


def _unmake(graph: BlockGraph, above: BlockNode, node: BlockNode) -> None:
    node.parents.remove(above)
    del graph.nodes[above.name]
    if above.content is not None:
        above.content.close()


def _put_on(graph: BlockGraph, above: BlockNode, node: BlockNode) -> BlockNode:
    """Have all that used a node use the filter on top of it, which is given back."""
    try:
        replace(graph, node, above)
    except Refusal:
        _unmake(graph, above, node)
        raise
    return above


def take_out(graph: BlockGraph, above: BlockNode, node: BlockNode, *, keeps: bool = True) -> None:
    """Take a filter out from above a node, whose users use that again.

    Where somebody still holds the filter it `keeps` that node, or has nothing to pass on any more.
    """
    if not keeps:
        for role in [role for role, child in above.children.items() if child is node]:
            del above.children[role]
            node.parents.remove(above)
        if above.drives and above.content is not None:
            above.content.close()
            above.content = Gone()
    replace(graph, above, node)
    graph.release(above)
    if not keeps:
        graph.release(node)


def exchange(graph: BlockGraph, drive: Drive, node: BlockNode) -> None:
    """Have a drive use another node from now on.

    :raise Refusal: other users of that exclude this one; it uses the one before then.
    """
    old = drive.node
    if old is node:
        return
    if old is not None:
        old.drives.remove(drive)
    try:
        graph.insert(drive, node)
    except Refusal:
        if old is not None:
            graph.insert(drive, old)
        raise
    if old is not None:
        refresh([old])
        graph.release(old)
