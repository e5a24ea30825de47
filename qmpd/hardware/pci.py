"""The PCI functions of a machine in the order in which its firmware finds them, and the numbers that it gives buses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.hardware.buses import Bus, Device
    from qmpd.hardware.devices import Devices

_ADDRESS = "addr"
_BRIDGE = "PCI"


def functions(devices: Devices) -> Iterator[tuple[str, Device]]:
    """Each function with its place, such as `00:03.0`."""
    found = [each for each in devices.buses.devices.values() if _is_function(each)]
    count = iter(range(1, len(found) + 1))

    def walk(bus: Bus, number: int) -> Iterator[tuple[str, Device]]:
        for each in sorted((each for each in found if each.bus is bus), key=_address):
            slot, function = divmod(_address(each), 8)
            yield f"{number:02x}:{slot:02x}.{function}", each
            for below in each.buses:
                if below.node.type.startswith(_BRIDGE):
                    yield from walk(below, next(count))

    behind = [bus for each in found for bus in each.buses]
    for root in dict.fromkeys(each.bus for each in found):
        if root is not None and root not in behind:
            yield from walk(root, 0)


def _is_function(device: Device) -> bool:
    bus = device.bus
    return device.node.property(_ADDRESS) is not None and bus is not None and bus.node.type.startswith(_BRIDGE)


def _address(device: Device) -> int:
    return int(device.node.value(_ADDRESS))
