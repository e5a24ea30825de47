"""Memory that a driver in the guest plugs piece by piece: virtio-mem (hw/virtio/virtio-mem.c).

An operating system that heeds the balloon has such a driver, too; after a reset nothing is plugged in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.hardware import memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.hardware.buses import Device
    from qmpd.qom.node import Node
    from qmpd.qom.tree import ObjectTree

MEMORY, PERSISTENT = memory.VIRTUAL
REQUESTED, SIZE = "requested-size", "size"
CHANGE = "MEMORY_DEVICE_SIZE_CHANGE"
_PATH = "qom-path"
_BLOCK = 2 << 20


def _block(node: Node) -> int:
    return int(node.value("block-size") or _BLOCK)


def _most(tree: ObjectTree, node: Node) -> int:
    backend = tree.find(node.value("memdev") or "/zz")
    return 0 if backend is None else int(backend.value("size"))


def place(tree: ObjectTree, device: Device, region: memory.Region, devices: Iterable[Device]) -> None:
    """Give it its address.

    :raise MachineError: there is none for it.
    """
    if device.driver == MEMORY and device.node.value("memdev"):
        memory.place_virtual(tree, device.node, region, devices)


def check_request(tree: ObjectTree, node: Node, size: int) -> None:
    """See whether the guest can be asked to have so many bytes of it plugged in.

    :raise Refusal: it cannot.
    """
    if size % _block(node):
        raise Refusal("virtual-memory-multiple", size=f"{_block(node):x}")
    if size > _most(tree, node):
        raise Refusal("virtual-memory-large", size=f"{_most(tree, node):x}")


def check_unplug(device: Device, *, leaves: bool) -> None:
    """Refuse to take it away; `leaves`: it can go where nothing of it is asked for.

    :raise Refusal: it stays.
    """
    if device.driver not in memory.VIRTUAL:
        return
    if not leaves:
        raise Refusal("virtual-memory-stays")
    if device.driver == MEMORY:
        for name in (REQUESTED, SIZE):
            if device.node.value(name):
                raise Refusal("virtual-memory-in-use", name=name)


def unsettled(devices: Iterable[Device]) -> list[Device]:
    """What has another size than it is asked to have."""
    there = [each for each in devices if each.driver == MEMORY]
    return [each for each in there if (each.node.value(SIZE) or 0) != (each.node.value(REQUESTED) or 0)]


def settle(device: Device, size: int, *, tells_path: bool) -> dict[str, object]:
    """Let so many bytes of it be plugged in; the data of the event that tells of it."""
    for node in device.node.below():
        if node.property(REQUESTED) is not None:
            node.set_value(SIZE, size)
    data: dict[str, object] = {} if device.identifier is None else {"id": device.identifier}
    data[SIZE] = size
    if tells_path:
        data[_PATH] = device.path
    return data


def total(devices: Iterable[Device]) -> int:
    """How much of it is plugged in, in bytes."""
    return sum(int(each.node.value(SIZE) or 0) for each in devices if each.driver == MEMORY)


def describe(tree: ObjectTree, device: Device) -> dict[str, Any]:
    """What query-memory-devices says of it."""
    node = device.node
    data: dict[str, Any] = {} if device.identifier is None else {"id": device.identifier}
    data |= {"memdev": node.value("memdev"), "memaddr": node.value("memaddr"), "block-size": _block(node)}
    data |= {name: node.value(name) or 0 for name in ("node", SIZE, REQUESTED)}
    return {"type": "virtio-mem", "data": {**data, "max-size": _most(tree, node)}}
