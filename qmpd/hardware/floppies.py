"""Floppy drives: the type of a drive that is to find it out from its medium (hw/block/fdc.c, `pick_drive_type`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from qmpd.hardware.buses import Device

FLOPPY = "floppy"
_TYPE, _AUTO = "drive-type", "auto"
# Sectors a track, tracks and heads of the media of each type, in the order in which QEMU tries them.
_MEDIA = (
    ("144", ((18, 80, 2), (20, 80, 2), (21, 80, 2), (21, 82, 2), (21, 83, 2), (22, 80, 2), (23, 80, 2), (24, 80, 2))),
    ("288", ((36, 80, 2), (39, 80, 2), (40, 80, 2), (44, 80, 2), (48, 80, 2))),
    ("144", ((9, 80, 2), (10, 80, 2), (10, 82, 2), (10, 83, 2), (13, 80, 2), (14, 80, 2))),
    ("120", ((15, 80, 2), (18, 80, 2), (18, 82, 2), (18, 83, 2), (20, 80, 2), (9, 80, 2), (11, 80, 2))),
    ("120", ((9, 40, 2), (9, 40, 1), (10, 41, 2), (10, 42, 2), (8, 40, 2), (8, 40, 1))),
    ("144", ((9, 80, 1),)),
)
_SECTOR = 512


def choose_type(device: Device, given: Mapping[str, Any], size: int | None) -> None:
    """Let a drive be of the type that fits its medium of so many bytes; None without one."""
    if given.get(_TYPE, _AUTO) != _AUTO:
        return
    controller = None if device.bus is None else device.bus.device
    fallback = "288" if controller is None else controller.node.value("fallback")
    found = None if size is None else _of_sectors(size // _SECTOR)
    device.node.set_value(_TYPE, found or fallback)


def _of_sectors(count: int) -> str | None:
    for name, shapes in _MEDIA:
        if any(sectors * tracks * heads == count for sectors, tracks, heads in shapes):
            return name
    return None
