"""Who carries out that a device is plugged in or out: the hotplug handler of its bus.

ACPI (hw/acpi/pcihp.c), a standard PCI controller (hw/pci/shpc.c), a port of PCI Express (hw/pci/pcie.c), the machine
for what sits on no bus, or the bus itself, which asks nobody.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from qmpd.machine.errors import MachineError
from qmpd.qom.node import Property

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.hardware.buses import Bus, Device
    from qmpd.qom.node import Node
    from qmpd.qom.tree import ObjectTree

# The number that ACPI gives a bus that it plugs devices into; the bus gets it when the machine is first reset.
NUMBER = "acpi-pcihp-bsel"
_HANDLER = "hotplug-handler"
_BRIDGES = "acpi-pci-hotplug-with-bridge-support"
_ROOT = "acpi-root-pci-hotplug"
_CHILD = "child["
# The controllers that boards have, by the name of their first PCI bus: their types, where they are on it, and which of
# the first one's ports are theirs (hw/usb/hcd-ehci-pci.c).
USB: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "pci.0": (("piix3-usb-uhci", {"addr": 1 << 3 | 2}),),
    "pcie.0": (
        ("ich9-usb-ehci1", {"addr": 0x1D << 3 | 7, "multifunction": True}),
        *(
            (f"ich9-usb-uhci{each}", {"addr": 0x1D << 3 | each - 1, "multifunction": True, "firstport": 2 * (each - 1)})
            for each in (1, 2, 3)
        ),
    ),
}


class Controller(enum.Enum):
    """Who plugs devices in and out."""

    NOBODY = "nobody"
    """The bus takes none while the machine exists."""
    BUS = "bus"
    """At once."""
    MACHINE = "machine"
    """The guest has to let go of it, and a reset does not change that."""
    ACPI = "acpi"
    """The guest has to let go of it, or the machine be reset."""
    STANDARD = "standard"
    """The guest has to let go of it once it has used it; before, it goes at once."""
    EXPRESS = "express"
    """The guest has to let go of it, and a reset does not change that."""


def controller(tree: ObjectTree, bus: Bus | None) -> Controller:
    """Who plugs devices in and out of a bus; None stands for no bus."""
    if bus is None:
        return Controller.MACHINE
    if bus.node.property(_HANDLER) is None:
        return Controller.NOBODY
    path = tree.get(bus.node, _HANDLER)
    handler = tree.find(path) if path else None
    if handler is None:
        return Controller.NOBODY
    if "PCI" not in bus.types:
        return Controller.BUS
    if handler.property(_BRIDGES) is not None or bus.node.property(NUMBER) is not None:
        return Controller.ACPI if bus.node.property(NUMBER) is not None else Controller.NOBODY
    return Controller.EXPRESS if "PCIE" in bus.types else Controller.STANDARD


def check_bus(tree: ObjectTree, bus: Bus | None) -> None:
    """Refuse to put a device on a bus, or to take one away, while the machine exists.

    :raise MachineError: nobody does that there.
    """
    if bus is not None and controller(tree, bus) is Controller.NOBODY:
        raise MachineError(f"Bus '{bus.name}' does not support hotplugging")


def check_slot(tree: ObjectTree, bus: Bus, device: Device) -> None:
    """Refuse a place that the bus's controller does not serve.

    :raise MachineError: a standard controller has no slot 0.
    """
    if device.cold or controller(tree, bus) is not Controller.STANDARD:
        return
    slot = device.slot // 8 if isinstance(device.slot, int) else 0
    if slot == 0:
        raise MachineError(
            "Unsupported PCI slot 0 for standard hotplug controller. Valid slots are between 1 and 31."
        )


def check_chassis(device: Device, others: Iterable[Device]) -> None:
    """Refuse a port of PCI Express that is in the same slot of the same chassis as another (hw/pci/pcie_port.c).

    :raise MachineError: it is.
    """
    node = device.node
    if node.property("chassis") is None or node.property("slot") is None:
        return
    place = node.value("chassis"), node.value("slot")
    for other in others:
        port = other.node
        if port.property("chassis") is not None and (port.value("chassis"), port.value("slot")) == place:
            raise MachineError("Can't add chassis slot, error -16")


def is_hidden(device: Device) -> bool:
    """Whether a device is a PCI function whose slot has no function 0: no guest finds it."""
    slot, bus = device.slot, device.bus
    if not isinstance(slot, int) or bus is None or "PCI" not in bus.types:
        return False
    # Behind a port there is one slot.
    first = 0 if bus.type == "PCIE" and bus.device is not None else slot // 8 * 8
    return slot != first and all(each.slot != first for each in bus.children)


def order(device: Device) -> tuple[int, int]:
    """Where a device comes among those that ACPI lets go of: by the bus's number, then by its place."""
    number = device.bus.node.value(NUMBER) if device.bus is not None else None
    return (number if isinstance(number, int) else -1, device.slot if isinstance(device.slot, int) else -1)


def _acpi(nodes: Iterable[Node]) -> Node | None:
    """The device that plugs in and out by ACPI, with bridges, if the machine has one."""
    return next((node for node in nodes if node.value(_BRIDGES) is True), None)


def leave(path: str, nodes: Iterable[Node]) -> None:
    """The device at this path is not there: nobody plugs devices into the buses among these that it would serve."""
    for node in nodes:
        if node.value(_HANDLER) == path:
            node.set_value(_HANDLER, "")
            for each in node.properties():
                if each.name == NUMBER or (each.name.startswith(_CHILD) and node.value(each.name) == path):
                    node.remove(each.name)


def adopt_bridges(root: Bus, nodes: Iterable[Node]) -> None:
    """The machine has been put together: ACPI takes over the buses of the bridges, and numbers those that it serves.

    `nodes` are the machine's devices.
    """
    acpi = _acpi(nodes)
    if acpi is None:
        return
    number = 0
    for bus in _depth_first(root):
        if "PCI" not in bus.types:
            continue
        bridged = bus.device is not None and bus.device.cold and bus.device.slot is not None
        if bus.node.property(NUMBER) is not None:
            bus.node.put_last(NUMBER)
        elif bridged:
            bus.node.set_value(_HANDLER, acpi.path)
            bus.node.add(Property(NUMBER, "uint32"))
        else:
            continue
        bus.node.set_value(NUMBER, number)
        number += 1


def settle_root(root: Bus, nodes: Iterable[Node]) -> None:
    """The board is there: where its ACPI device is not to serve the first PCI bus, nobody does."""
    if any(node.value(_ROOT) is False for node in nodes):
        for bus in _depth_first(root):
            if "PCI" in bus.types and bus.node.property(NUMBER) is not None:
                bus.node.remove(NUMBER)


def _depth_first(bus: Bus) -> Iterable[Bus]:
    """A bus and those below it, each before what hangs on it, the newest first."""
    yield bus
    for device in bus.children:
        for below in device.buses:
            yield from _depth_first(below)
