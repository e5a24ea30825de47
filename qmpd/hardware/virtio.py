"""Virtio devices on PCI: below a port of PCI Express they have no legacy interface (hw/virtio/virtio-pci.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.hardware.buses import Bus
    from qmpd.qom.node import Node

_DISABLED = "disable-legacy"
_LEGACY_REGION = "virtio-pci[1]"
# The region with the table of vectors.
_VECTORS_BAR = 1


def choose_interfaces(node: Node, bus: Bus, given: Mapping[str, object]) -> None:
    """Take the legacy interface from a device where its bus or its user says so; `given` are its options."""
    if node.property(_DISABLED) is None:
        return
    chosen = _disabled(bus, given)
    if given.get(_DISABLED, "auto") == "auto":
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

    :raise MachineError: something was given that it cannot.
    """
    if node.property(_DISABLED) is None:
        return
    if given.get("free-page-hint") and not given.get("iothread"):
        raise MachineError("'free-page-hint' requires 'iothread' to be set")
    if given.get("scsi") and not given.get("disable-modern"):
        raise MachineError("Please set scsi=off for virtio-blk devices in order to use virtio 1.0")
    if given.get("iommu_platform") and _disabled(bus, given) != "on" and node.value(_DISABLED) != "on":
        raise MachineError("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device")


def shown_on_pci(node: Node, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What query-pci tells of a device, `facts` in the usual case: without vectors it has no table of them (MSI-X)."""
    if node.value("vectors") != 0:
        return facts
    return {**facts, "regions": [each for each in facts["regions"] if each["bar"] != _VECTORS_BAR]}
