"""In which thread the nodes of the graph are at work (QEMU's AioContext), and who keeps them there.

Nodes that hang together are at work in one thread: an iothread, by its name, or the main loop's, which is "".  A device
that has begun to work keeps them where they are.  (Asked of releases 5.2 to 11.1; nothing here runs in another thread:
what counts is who is refused.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from qmpd.block.nodes import BlockNode, Drive

MAIN = ""
"""The main loop's thread."""


def _together(node: BlockNode) -> list[BlockNode]:
    """A node and all that hang together with it."""
    found = {id(node): node}
    left = [node]
    while left:
        at = left.pop()
        for each in (*at.children.values(), *at.parents):
            if id(each) not in found:
                found[id(each)] = each
                left.append(each)
    return list(found.values())


def move(node: BlockNode, thread: str, drive: Drive | None = None) -> None:
    """Let a node be at work in this thread; `drive` is whose device asks for it.

    :raise Refusal: another device keeps it where it is.
    """
    if node.thread == thread:
        return
    together = _together(node)
    if any(user is not drive and user.device is not None for each in together for user in each.drives):
        raise Refusal("iothread-in-use")
    for each in together:
        each.thread = thread


def join(node: BlockNode, child: BlockNode) -> None:
    """Two nodes are to hang together: one of them moves to where the other is.

    :raise Refusal: devices keep both where they are.
    """
    try:
        move(child, node.thread)
    except Refusal as error:
        try:
            move(node, child.thread)
        except Refusal:
            raise error from None


def leave(node: BlockNode) -> None:
    """The device is gone that had nodes work in a thread: they go back to the main loop, unless another keeps them."""
    if node.thread != MAIN and not any(user.device is not None for each in _together(node) for user in each.drives):
        move(node, MAIN)
