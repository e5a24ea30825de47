"""`-display` and `-vga`: what shows the guest's screen, and the card that makes it (system/vl.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language.errors import NOWHERE, OptionError

if TYPE_CHECKING:
    from qmpd.emulator.phases.board import Board
    from qmpd.emulator.reading.options import EmulatorOptions

_VGA = {
    "none": "", "std": "standard VGA", "cirrus": "Cirrus VGA", "vmware": "VMWare SVGA", "xenfb": "Xen paravirtualized",
    "qxl": "QXL VGA", "virtio": "Virtio VGA", "tcx": "TCX framebuffer", "cg3": "CG3 framebuffer",
}  # fmt: skip
_VGA_MODULES = {"qxl": "qemu-system-modules-spice", "tcx": "qemu-system-modules-opengl"}
_DISPLAY_MODULES = {"gtk": "qemu-system-gui", "sdl": "qemu-system-gui", "spice-app": "qemu-system-modules-spice"}


def check_display(options: EmulatorOptions) -> None:
    """See whether the display was compiled in.

    :raise Refusal: it was not.
    """
    kind = options.singles.display_type
    listed = options.lists.choices("displays")
    if kind and listed and kind not in listed and kind != "default":
        package = _DISPLAY_MODULES.get(kind, "qemu-system-modules-opengl")
        raise Refusal("display-missing", display=kind, package=package).at(NOWHERE)


def select_card(options: EmulatorOptions) -> None:
    """Look at `-vga`.

    :raise Refusal: there is no such card.
    :raise OptionList: they are to be listed.
    """
    text = options.values.get("vga")
    if text is None:
        return
    if text == "help":
        _complain_of_types(options, 2)
        raise options.lists.listed("-vga")
    name = next((each for each in _VGA if text.startswith(each)), None)
    known = options.lists.choices("vga-cards")
    if name is not None and name not in known and known:
        if name == "xenfb":
            name = None
        else:
            _complain_of_types(options, 1 if name in ("tcx", "cg3") else 0)
            package = _VGA_MODULES.get(name, "qemu-system-modules-opengl")
            raise Refusal("vga-missing", card=_VGA[name], package=package).at(NOWHERE)
    rest = "" if name is None else text.removeprefix(name)
    if name is None or re.fullmatch(r"(,retrace=(dumb|precise))*", rest) is None:
        raise OptionError(f"unknown vga type: {text}", NOWHERE)


def _complain_of_types(options: EmulatorOptions, count: int) -> None:
    """What some releases say of the displays that have but one type, when they look for a second."""
    if options.release.behaviour.missing_types_told:
        for _ in range(count):
            options.complaints.line("type is NULL")


def warn_of_card(options: EmulatorOptions, board: Board) -> None:
    """Warn of a card that the board does not take."""
    vga = options.values.get("vga", "none")
    if not vga.startswith("none") and not board.kind.takes_vga:
        options.complaints.line(
            "warning: A -vga option was passed but this machine type does not use that option; "
            "No VGA device has been created"
        )
