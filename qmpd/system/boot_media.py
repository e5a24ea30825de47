"""The drives of a machine as its firmware sees them: what is looked at whenever a machine boots, so it is little."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.guest.firmware_text import Media
    from qmpd.hardware.inventory import Inventory


def media(inventory: Inventory) -> Media:
    """The letter of each drive that a device has, as `-boot` has them, whether there is a medium, and the own number.

    The number (`bootindex`) is -1 where there is none.
    """
    found = []
    for each in inventory.backends.block.drives:
        if each.device is not None:
            letter = "a" if each.device.driver == "floppy" else "d" if each.has_tray else "c"
            number = each.device.node.value("bootindex")
            has_medium = each.node is not None or each.unmodelled
            found.append((letter, has_medium, number if isinstance(number, int) else -1))
    return tuple(found)
