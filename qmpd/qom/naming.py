"""Giving an object that was captured the names that depend on its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.qom.node import Node, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    NewName = Callable[[str, Node | None], str]

ID = "«id»"


def rename(root: Node, new_name: NewName) -> None:
    """Rename what is named after the id in an object and below it.

    `new_name` gives the name for one with `«id»` in it, and is told which child it is, if it is one.
    """
    for node in root.below():
        if not any(ID in each.name for each in node.shape.properties):
            continue
        names = {
            each.name: new_name(each.name, node.children.get(each.name))
            for each in node.shape.properties
            if ID in each.name
        }
        properties = [[names.get(each.name, each.name), each.kind, each.code] for each in node.shape.properties]
        node.shape = Shape(properties, node.shape.static)
        children, node.children = node.children, {}
        for name, child in children.items():
            node.attach(names.get(name, name), child)
            if name in names:
                _rename_in_values(child, name, names[name])


def _rename_in_values(node: Node, old: str, new: str) -> None:
    """A bus says by its own path who plugs its devices."""
    for each in node.shape.properties:
        value = node.value(each.name)
        if isinstance(value, str) and old in value:
            node.set_value(each.name, value.replace(old, new))
