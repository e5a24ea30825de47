"""Memory that a driver in the guest plugs piece by piece: virtio-mem (hw/virtio/virtio-mem.c).

An operating system that heeds the balloon has such a driver, too; after a reset nothing is plugged in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.hardware import memory
from qmpd.hardware.memory import backend_size

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


def _requested(node: Node) -> int:
    return int(node.value(REQUESTED) or 0)


def place(
    tree: ObjectTree, device: Device, region: memory.Region, devices: Iterable[Device], used: Iterable[str]
) -> None:
    """Give it, which has a backend, its address; `used` are the paths of the backends that have a device.

    :raise MachineError, Refusal: there is none for it, or what it was given does not go together.
    """
    node, path = device.node, device.node.value("memdev")
    block, name = _block(node), path.rpartition("/")[2]
    memory.place_virtual(tree, node, region, devices, block)
    if path in used:
        raise Refusal("virtual-memory-backend-busy" if device.driver == MEMORY else "memory-backend-busy", id=name)
    if device.driver == MEMORY:
        _check_pieces(tree, node, region, block)


def _check_pieces(tree: ObjectTree, node: Node, region: memory.Region, block: int) -> None:
    home = node.value("node") or 0
    if home >= region.nodes:
        raise Refusal("virtual-memory-node", node=home, count=region.nodes)
    # That it is more than there is is looked at later alone.
    if _requested(node) % block:
        raise Refusal("virtual-memory-request", size=f"{block:x}")
    if backend_size(tree, node) % block:
        raise Refusal("virtual-memory-backend-size", size=f"{block:x}")


def check_request(tree: ObjectTree, node: Node, size: int) -> None:
    """See whether the guest can be asked to have so many bytes of it plugged in.

    :raise Refusal: it cannot.
    """
    if size % _block(node):
        raise Refusal("virtual-memory-multiple", size=f"{_block(node):x}")
    most = backend_size(tree, node)
    if size > most:
        raise Refusal("virtual-memory-large", size=f"{most:x}")


def check_unplug(device: Device, *, leaves: bool) -> None:
    """Refuse to take it away; `leaves`: it can go where nothing of it is asked for.

    :raise Refusal: it stays.
    """
    if device.driver not in memory.VIRTUAL:
        return
    if not leaves or device.driver == PERSISTENT:
        raise Refusal("virtual-memory-stays")
    for name in (REQUESTED, SIZE):
        if device.node.value(name):
            raise Refusal("virtual-memory-in-use", name=name)


def asked(tree: ObjectTree, device: Device) -> int:
    """How many bytes of it the guest can be asked to have plugged in."""
    return min(_requested(device.node), backend_size(tree, device.node))


def unsettled(tree: ObjectTree, devices: Iterable[Device]) -> list[Device]:
    """What has another size than it is asked to have."""
    there = [each for each in devices if each.driver == MEMORY]
    return [each for each in there if (each.node.value(SIZE) or 0) != asked(tree, each)]


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


def total(tree: ObjectTree, devices: Iterable[Device]) -> int:
    """How much of it is plugged in, in bytes; what is persistent is so as a whole."""
    pieces = sum(int(each.node.value(SIZE) or 0) for each in devices if each.driver == MEMORY)
    return pieces + sum(backend_size(tree, each.node) for each in devices if each.driver == PERSISTENT)


def describe(tree: ObjectTree, device: Device) -> dict[str, Any]:
    """What query-memory-devices says of it."""
    node = device.node
    data: dict[str, Any] = {} if device.identifier is None else {"id": device.identifier}
    data |= {name: node.value(name) for name in ("memdev", "memaddr")}
    if device.driver == PERSISTENT:
        return {"type": "virtio-pmem", "data": {**data, "size": backend_size(tree, node)}}
    data["block-size"] = _block(node)
    data |= {name: node.value(name) or 0 for name in ("node", SIZE, REQUESTED)}
    return {"type": "virtio-mem", "data": {**data, "max-size": backend_size(tree, node)}}
