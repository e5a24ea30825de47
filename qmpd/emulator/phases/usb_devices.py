"""`-usbdevice`: the types of device that its names stand for (hw/usb/bus.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language.errors import OptionError

if TYPE_CHECKING:
    from qmpd.emulator.phases.board import Board
    from qmpd.emulator.reading.options import EmulatorOptions

_USB = {
    "mouse": "usb-mouse",
    "tablet": "usb-tablet",
    "keyboard": "usb-kbd",
    "braille": "usb-braille",
    "wacom-tablet": "usb-wacom-tablet",
    "u2f-key": "u2f-passthru",
    "ccid": "usb-ccid",
}


def usb_driver(options: EmulatorOptions, board: Board, name: str, location: str) -> str:
    """The type of device.

    :raise OptionError: there is none of this name, or the board has no place for it.
    """
    if options.release.behaviour.usb_devices_deprecated:
        options.complaints.error(Refusal("usb-devices-deprecated").at(location))
    kind = _USB.get(name)
    if kind is not None and not board.kind.has_pci:
        text = (
            f"Error: no usb bus to attach usbdevice {name}, please try -machine usb=on and check that the machine "
            "model supports USB"
        )
        options.complaints.error(OptionError(text, location))
        kind = None
    if kind is None and ":" in name:
        options.complaints.error(OptionError("usbdevice parameters are not supported anymore", location))
    if kind == "usb-braille":
        for text in (
            "brlapi__openConnection: connect: No such file or directory",
            "Failed to create USB device 'usb-braille'",
        ):
            options.complaints.error(OptionError(text, location))
        kind = None
    if kind is None:
        raise OptionError(f"could not add USB device '{name}'", location)
    return kind
