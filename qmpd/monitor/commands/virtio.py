"""QAPI module `virtio`: which virtio devices there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.qom.node import Node
    from qmpd.system.system import System

_captured = answer_unmodelled("x-query-virtio")
_VIRTIO, _INPUT, _PART = "virtio-device", "virtio-input-device", "-device"


@command("x-query-virtio")
def query_virtio(system: System, session: Client, arguments: Arguments) -> object:
    """`[{"path": ..., "name": ...}]`: the newest first, or as they lie in the tree (QEMU's hw/virtio/virtio-qmp.c).

    Without any a release answers as it was captured.
    """
    if system.is_bare or not system.inventory.has_devices:
        return _captured(system, session, arguments)
    types = system.release.object_types
    if system.release.behaviour.virtio_listed_by_tree:
        machine = system.tree.root.children["machine"]
        found = [each for each in _as_listed(machine) if _VIRTIO in types.is_a(each.type)]
    else:
        devices = system.devices.buses.devices.values()
        found = [each.node for each in devices if _VIRTIO in types.is_a(each.node.type)][::-1]
    if not found:
        return _captured(system, session, arguments)
    names = [_INPUT if _INPUT in types.is_a(each.type) else each.type for each in found]
    return [{"name": name.removesuffix(_PART), "path": each.path} for name, each in zip(names, found, strict=True)]


def _as_listed(node: Node) -> Iterator[Node]:
    """What is below an object, in the order of qom-list."""
    for each in node.properties():
        child = node.children.get(each.name)
        if child is not None:
            yield from _as_listed(child)
            yield child
