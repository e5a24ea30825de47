"""Virtio devices on PCI: below a port of PCI Express they have no legacy interface (hw/virtio/virtio-pci.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.machine.objects.buses import Bus
    from qmpd.machine.objects.node import Node

_DISABLED = "disable-legacy"
_LEGACY_REGION = "virtio-pci[1]"


def choose_interfaces(node: Node, bus: Bus, given: Mapping[str, object]) -> None:
    """Take the legacy interface from a device where its bus or its user says so; `given` are its options."""
    if node.property(_DISABLED) is None:
        return
    chosen = given.get(_DISABLED, "auto")
    if chosen == "auto":
        # The bridge of a root bus is no PCI device.
        below = bus.device is not None and bus.device.node.property("addr") is not None
        chosen = "on" if "PCIE" in bus.types and below else "off"
        node.set_value(_DISABLED, chosen)
    if chosen == "on" and node.property(_LEGACY_REGION) is not None:
        node.remove(_LEGACY_REGION)
