"""What the firmware of a machine finds to boot from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.guest.firmware_text import BootDevices
from qmpd.machine.blueprint import Firmware

if TYPE_CHECKING:
    from qmpd.guest.course import Guest
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.machine import Machine
    from qmpd.qapi import Release


class Home(Protocol):
    """The machine that boots (`qmpd.system.system.System`)."""

    release: Release
    machine: Machine
    guest: Guest | None

    @property
    def inventory(self) -> Inventory:
        """What it is made of."""


def boot_devices(system: Home) -> BootDevices | None:
    """What it can start from now; None where its firmware looks for nothing."""
    settings, guest = system.machine.settings, system.guest
    if guest is None or guest.settings.firmware is Firmware.NONE or not settings.has_seabios:
        return None
    drives: set[str] = set()
    media: set[str] = set()
    for each in system.inventory.backends.block.drives:
        if each.device is None:
            continue
        letter = "a" if each.device.driver == "floppy" else "d" if each.has_tray else "c"
        drives.add(letter)
        if each.node is not None or each.unmodelled:
            media.add(letter)
    named = settings.boot_once if settings.boot_once and guest.starts == 1 else settings.boot_order
    order = named or settings.board.boots_first
    kernel = "kernel" in settings.machine_options
    return BootDevices(order, frozenset(media), frozenset(drives), kernel, settings.boot_menu)
