"""Memory that is plugged into a machine: slots and addresses (hw/mem/pc-dimm.c, hw/mem/memory-device.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.hardware.buses import Device
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.qom.node import Node
    from qmpd.qom.tree import ObjectTree

ADDRESSABLE = 1 << 47
"""How many bytes a process can have addresses for; QEMU has all memory in its own."""

PERSISTENT = "nvdimm"
VIRTUAL = ("virtio-mem-pci", "virtio-pmem-pci")
KINDS = {"pc-dimm": "dimm", PERSISTENT: "nvdimm"}
"""The types of memory that can be plugged in, and what query-memory-devices calls them."""
PLACED = (*KINDS, *VIRTUAL)
"""The types that take room for memory."""

# What memory of the process itself is aligned to; what a file holds is, to the file's pages.
_OWN, _PAGE = 2 << 20, 4096
_OF_FILES = ("memory-backend-file", "memory-backend-memfd", "memory-backend-shm")
_PLACE = "memaddr"
_GIBIBYTE = 1 << 30
_FOUR_GIBIBYTES = 4 << 30
_UNASSIGNED = -1
# How much memory there may be before it is split, by how much of it then is below 4 GiB (hw/i386/pc_piix.c, pc_q35.c).
_SPLIT_AT = {0xC0000000: 0xE0000000, 0x80000000: 0xB0000000}


class MemoryLayout:
    """Where a machine's memory is: sizes in bytes."""

    __slots__ = ("above", "below", "size")

    def __init__(self, size: int, low: int | None) -> None:
        """`low` is what is below 4 GiB where there is more than fits there; None where that is not known."""
        self.size = size
        split = low is not None and size >= _SPLIT_AT.get(low, low)
        self.below = low if split and low is not None else size
        self.above = size - self.below


class Region:
    """Where the machine has room for memory that is plugged in: `start` and `size` in bytes.

    Each slot gets a GiB beside what may be plugged in, so that everything can be aligned.  `nodes`: of NUMA.
    `has_acpi`: memory can be plugged in while the guest finds the tables that tell it of it.
    """

    __slots__ = ("has_acpi", "limit", "nodes", "size", "slots", "start")

    def __init__(self, settings: MachineSettings, layout: MemoryLayout) -> None:
        self.has_acpi = settings.acpi_tables
        self.slots = settings.memory_slots
        self.nodes = len(settings.node_memory) or 1
        self.limit = max(0, settings.memory_limit - settings.memory)
        self.start = (_FOUR_GIBIBYTES + layout.above + _GIBIBYTE - 1) // _GIBIBYTE * _GIBIBYTE
        self.size = self.limit + self.slots * _GIBIBYTE


def region(settings: MachineSettings, low: int | None) -> Region:
    """Where a machine has room for more; `low` as in `MemoryLayout`."""
    return Region(settings, MemoryLayout(settings.memory, low))


def plugged(devices: Iterable[Device]) -> list[Device]:
    """The memory that is plugged in, by address."""
    return sorted((each for each in devices if each.driver in KINDS), key=lambda each: int(each.node.value("addr")))


def _place(node: Node) -> int:
    """Where memory is."""
    return int(node.value(_PLACE if node.property(_PLACE) is not None else "addr") or 0)


def occupied(devices: Iterable[Device]) -> list[Device]:
    """All that takes room for memory, by address."""
    return sorted((each for each in devices if each.driver in PLACED), key=lambda each: _place(each.node))


def place_virtual(tree: ObjectTree, node: Node, region: Region, devices: Iterable[Device], block: int) -> None:
    """Give memory that is plugged piece by piece its address; `block` is the size of a piece.

    :raise MachineError: there is none for it.
    """
    _move(node, _address(tree, region, occupied(devices), node, _place(node), block))


def _move(node: Node, address: int) -> None:
    for each in node.below():
        if each.property(_PLACE) is not None:
            each.set_value(_PLACE, address)


def forget_place(node: Node) -> None:
    """Let new memory have no place yet."""
    if node.type not in KINDS:
        _move(node, 0)
        return
    node.set_value("slot", _UNASSIGNED)
    node.set_value("addr", 0)


def backend_size(tree: ObjectTree, node: Node) -> int:
    """The size of what memory is made of; 0 where that is not there."""
    backend = tree.find(node.value("memdev") or "/zz")
    size = 0 if backend is None else backend.value("size")
    return size if isinstance(size, int) else 0


def _alignment(tree: ObjectTree, node: Node) -> int:
    """What the place of memory has to be a multiple of, and its size."""
    backend = tree.find(node.value("memdev") or "/zz")
    if backend is None or backend.type not in _OF_FILES:
        return _OWN
    page = (backend.value("hugetlbsize") or _OWN) if backend.property("hugetlb") and backend.value("hugetlb") else _PAGE
    return max(page, (backend.value("align") or 0) if backend.property("align") else 0)


def total(tree: ObjectTree, devices: Iterable[Device]) -> int:
    """How much is plugged in, in bytes."""
    return sum(backend_size(tree, each.node) for each in plugged(devices))


def describe(tree: ObjectTree, device: Device) -> dict[str, Any]:
    """What query-memory-devices says of one."""
    node = device.node
    data: dict[str, Any] = {} if device.identifier is None else {"id": device.identifier}
    data |= {name: tree.plain(node, node.value(name)) for name in ("addr", "slot", "node")}
    data |= {"memdev": node.value("memdev"), "size": backend_size(tree, node)}
    data |= {name: node.value(name) for name in ("hotpluggable", "hotplugged")}
    return {"type": KINDS[device.driver], "data": data}


def check_room(given: Mapping[str, Any], settings: MachineSettings, *, first: bool) -> None:
    """See whether the machine takes virtual memory devices at all; `given` is what one is given.

    `first`: this is looked at before the device itself.

    :raise Refusal: it does not.
    """
    if settings.memory_limit <= settings.memory and (first or given.get("memdev")):
        raise Refusal("memory-devices-off")


def check_backend(given: Mapping[str, Any]) -> None:
    """Refuse memory in a machine that has no place for any, so does not look at it, where it is given no backend.

    :raise Refusal: it has none.
    """
    if not given.get("memdev"):
        raise Refusal("memory-backend-unset")


def plug(tree: ObjectTree, node: Node, region: Region, devices: Iterable[Device], used: Iterable[str]) -> None:
    """Give new memory its slot and its address; `used` are the paths of the backends that have a device.

    :raise MachineError, Refusal: it cannot have them.
    """
    if not region.has_acpi:
        raise Refusal("memory-without-acpi")
    there = occupied(devices)
    slot = _slot(node.value("slot"), region, {each.node.value("slot") for each in plugged(devices)})
    path = node.value("memdev")
    if not path:
        raise MachineError("'memdev' property must be set")
    hint = int(node.value("addr") or 0)
    if not region.limit:
        raise Refusal("memory-devices-off")
    address = _address(tree, region, there, node, hint)
    if path in used:
        raise Refusal("memory-backend-busy", id=path.rpartition("/")[2])
    home = node.value("node") or 0
    if home >= region.nodes:
        text = f"'DIMM property node has value {home}' which exceeds the number of numa nodes: {region.nodes}"
        raise MachineError(text)
    node.set_value("slot", slot)
    node.set_value("addr", address)


def _slot(wanted: Any, region: Region, taken: set[Any]) -> int:
    if wanted != _UNASSIGNED and not 0 <= wanted < region.slots:
        limit = region.slots - 1 & (1 << 64) - 1
        raise MachineError(f"invalid slot number {wanted}, valid range is [0-{limit}]")
    if not region.slots:
        raise MachineError("no slots where allocated, please specify the 'slots' option")
    if wanted != _UNASSIGNED:
        if wanted in taken:
            raise MachineError(f"slot {wanted} is busy")
        return int(wanted)
    free = next((number for number in range(region.slots) if number not in taken), None)
    if free is None:
        raise MachineError("no free slots available")
    return free


def _address(
    tree: ObjectTree, region: Region, there: list[Device], node: Node, hint: int, block: int = _PAGE
) -> int:
    """Where memory goes; `hint` is the address that it was given (0: none), `block` the size of a piece.

    :raise MachineError: there is no room for it.
    """
    size = backend_size(tree, node)
    in_use = sum(backend_size(tree, each.node) for each in there)
    if in_use + size > region.limit:
        raise MachineError(
            f"not enough space, currently 0x{in_use:x} in use of total space for memory devices 0x{region.limit:x}"
        )
    own = _alignment(tree, node)
    end, alignment = region.start + region.size, max(block, own)
    if hint % alignment:
        raise MachineError(f"address must be aligned to 0x{alignment:x} bytes")
    if size % own:
        raise MachineError(f"backend memory size must be multiple of 0x{own:x}")
    if hint and not region.start <= hint <= end - size:
        raise MachineError(
            f"can't add memory device [0x{hint:x}:0x{size:x}], usable range for memory devices "
            f"[0x{region.start:x}:0x{region.size:x}]"
        )
    address = hint or _aligned(region.start, alignment)
    for each in there:
        start = _place(each.node)
        if start < address + size and address < start + backend_size(tree, each.node):
            if hint:
                raise MachineError(f"address range conflicts with memory device id='{each.identifier or '(unnamed)'}'")
            address = _aligned(start + backend_size(tree, each.node), alignment)
    if address + size > end:
        raise MachineError(
            "could not find position in guest address space for memory device - memory fragmented due to alignments"
        )
    return address


def _aligned(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment
