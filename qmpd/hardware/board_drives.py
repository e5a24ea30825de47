"""The devices that a board makes for drives of its own interfaces (`-drive if=ide` and the like).

QEMU's hw/ide/qdev.c and hw/block/fdc.c.  Where they come among the board's other devices was seen on releases 5.2 to
11.1: right behind those that have the buses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.hardware.assembly import UNATTACHED
from qmpd.hardware.buses import Device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.hardware.devices import Devices
    from qmpd.qom.node import Node

FLOPPY, IDE = "floppy", "ide"
_BUSES = {FLOPPY: "floppy-bus", IDE: "IDE"}
BOARD_INTERFACES = frozenset(_BUSES)
"""The interfaces that such devices are for."""


class BoardDrive(NamedTuple):
    """A drive, by its id, that is for a place of the board; `has_cds`: its media are CDs."""

    interface: str
    bus: int
    unit: int
    drive: str
    has_cds: bool = False


def add_board_drives(devices: Devices, drives: Iterable[BoardDrive]) -> None:
    """Make the devices.

    :raise Refusal: a drive does not fit its device.
    """
    chosen = list(drives)
    for interface in _BUSES:
        for each in sorted((each for each in chosen if each.interface == interface), key=lambda each: each[1:3]):
            _add(devices, each)


def _add(devices: Devices, each: BoardDrive) -> None:
    kind = _BUSES[each.interface]
    driver = FLOPPY if each.interface == FLOPPY else "ide-cd" if each.has_cds else "ide-hd"
    bus = devices.buses.first(kind=kind) if each.interface == FLOPPY else devices.buses.first(name=f"ide.{each.bus}")
    if bus is None:
        return
    given: dict[str, Any] = {"unit": each.unit, "drive": each.drive}
    devices.add_own(driver, bus, given, cold=True, number=_behind(devices, kind))


def _behind(devices: Devices, kind: str) -> int:
    """The number that comes behind those of the board's devices that have a bus of this kind, and what is on it."""
    holders = [each for each in devices.buses.devices.values() if any(kind in bus.types for bus in each.buses)]
    there = [*holders, *(each for each in devices.buses.devices.values() if each.bus and kind in each.bus.types)]
    return 1 + max(number for each in there if (number := _number(each)) is not None)


def _number(device: Device) -> int | None:
    """The number of the board's device that this one is, or belongs to."""
    node: Node | None = device.node
    while node is not None and (node.parent is None or node.parent.path != UNATTACHED):
        node = node.parent
    return None if node is None or not node.name.startswith("device[") else int(node.name[len("device[") : -1])


