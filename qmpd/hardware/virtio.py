"""Virtio devices on PCI: below a port of PCI Express they have no legacy interface (hw/virtio/virtio-pci.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.hardware.buses import Bus
    from qmpd.qom.node import Node

_DISABLED, _NOT_MODERN = "disable-legacy", "disable-modern"
_LEGACY_REGION = "virtio-pci[1]"
_LEGACY_BAR, _VECTORS_BAR, _MODERN_BAR = 0, 1, 4
# Kinds of device by what a PCI device with the legacy interface is called (virtio 1.0, 4.1.2 and 5).
_MODERN = {0x1000: 1, 0x1001: 2, 0x1002: 5, 0x1003: 3, 0x1004: 8, 0x1005: 4, 0x1009: 9, 0x1012: 19}
_FIRST_MODERN, _MODERN_SUBSYSTEM = 0x1040, 0x1100


def choose_interfaces(node: Node, bus: Bus, given: Mapping[str, object]) -> None:
    """Take the legacy interface from a device where its bus or its user says so; `given` are its options."""
    if node.property(_DISABLED) is None:
        return
    chosen = _disabled(bus, given)
    if node.captured[node.shape.places[_DISABLED]] == "on":
        # A kind that never has a legacy interface, whatever it is told.
        node.set_value(_DISABLED, "on")
        node.set_value(_NOT_MODERN, value=False)
    elif given.get(_DISABLED, "auto") == "auto":
        node.set_value(_DISABLED, chosen)
    if chosen == "on" and node.property(_LEGACY_REGION) is not None:
        node.remove(_LEGACY_REGION)


def _disabled(bus: Bus, given: Mapping[str, object]) -> object:
    chosen = given.get(_DISABLED, "auto")
    if chosen == "auto":
        # The bridge of a root bus is no PCI device.
        below = bus.device is not None and bus.device.node.property("addr") is not None
        chosen = "on" if "PCIE" in bus.types and below else "off"
    return chosen


def check(node: Node, bus: Bus, given: Mapping[str, object]) -> None:
    """Refuse what a device cannot do with the interfaces that it has.

    :raise MachineError, Refusal: something was given that it cannot.
    """
    if node.property(_DISABLED) is None:
        return
    if given.get(_NOT_MODERN) and _disabled(bus, given) == "on":
        raise Refusal("virtio-no-interface")
    if given.get("free-page-hint") and not given.get("iothread"):
        raise MachineError("'free-page-hint' requires 'iothread' to be set")
    if given.get("scsi") and not given.get(_NOT_MODERN):
        raise MachineError("Please set scsi=off for virtio-blk devices in order to use virtio 1.0")
    if given.get("iommu_platform") and _disabled(bus, given) != "on" and node.value(_DISABLED) != "on":
        raise MachineError("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device")


def shown_on_pci(node: Node, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What query-pci tells of a device, `facts` where it has all interfaces; asked of all releases with each missing.

    Without the legacy interface it is called by a modern device's number; each has a region of its own, as the table of
    vectors (MSI-X) has.
    """
    missing = {_VECTORS_BAR} if node.value("vectors") == 0 else set()
    # What is not called by such a number has no legacy interface, and keeps the other.
    if (number := _MODERN.get(facts["id"]["device"])) is not None and node.property(_DISABLED) is not None:
        if node.value(_NOT_MODERN):
            missing.add(_MODERN_BAR)
        if node.value(_DISABLED) == "on":
            missing.add(_LEGACY_BAR)
            facts = {**facts, "id": {**facts["id"], "device": _FIRST_MODERN + number, "subsystem": _MODERN_SUBSYSTEM}}
    if not missing:
        return facts
    return {**facts, "regions": [each for each in facts["regions"] if each["bar"] not in missing]}
