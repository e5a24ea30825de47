"""A node that is about to be opened, and what it is on: QEMU has it use that before it looks at what is in there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.table import Role, role_of
from qmpd.block.permissions import check_writable, refresh

if TYPE_CHECKING:
    from qmpd.block.nodes import BlockNode


def attach(node: BlockNode) -> None:
    """Have a node use its children, before it is open.

    :raise Refusal: what it does with them excludes others, or is excluded, or they cannot be written.
    """
    for child in node.children.values():
        child.parents.append(node)
    refresh([node])
    if node.read_only or node.inactive:
        return
    for role, child in node.children.items():
        if role_of(node.driver, node.options, role) is Role.METADATA:
            check_writable(child)


def attach_too(node: BlockNode, role: str, child: BlockNode) -> None:
    """Have a node use one more.

    :raise Refusal: what it does with that excludes others, or is excluded.
    """
    node.children[role] = child
    child.parents.append(node)
    refresh([node])


def detach(node: BlockNode) -> None:
    """It could not be opened: it uses nothing, and what it is in is closed."""
    content, node.content = node.content, None
    if content is not None:
        content.close()
    for child in node.children.values():
        if node in child.parents:
            child.parents.remove(node)
            refresh([child])
