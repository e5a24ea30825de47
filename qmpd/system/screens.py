"""The screens of a machine: which one a picture is taken of, and what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.guest.picture import Picture
from qmpd.guest.screen import COLUMNS, ROWS, Screen
from qmpd.hardware import screens
from qmpd.machine.errors import MachineError
from qmpd.system.boot_devices import boot_devices

if TYPE_CHECKING:
    from qmpd.guest.course import Guest
    from qmpd.hardware.devices import Devices
    from qmpd.machine.machine import Machine
    from qmpd.qapi import Release
    from qmpd.qom.node import Node
    from qmpd.qom.tree import ObjectTree
    from qmpd.system.boot_devices import Home as BootHome

_AT_START = (640, 480)
# Of the VGA's text mode: its picture, the width of a character, and its grey.
_AS_TEXT, _CELL, _GREY = (720, 400), 9, b"\xa8\xa8\xa8"
_WIDTH, _HEIGHT = 8, 16
_NOT_YET = "Guest has not initialized the display (yet)."
_BLUE = b"\0\0\xaa"
_VIRTIO = "virtio"


class Home(Protocol):
    """The machine that has the screens (`qmpd.system.system.System`)."""

    release: Release
    machine: Machine
    guest: Guest | None

    @property
    def tree(self) -> ObjectTree:
        """Its objects."""

    @property
    def devices(self) -> Devices:
        """Its devices."""


def console_for(system: Home, identifier: str | None, head: int | None) -> Node:
    """The console of the device with this id, of its output `head`; without an id the first one that there is.

    :raise MachineError: there is none.
    """
    tree = system.tree
    if identifier is not None:
        if not identifier or "/" in identifier:
            raise MachineError(f"Device '{identifier}' not found")
        found = screens.find(tree, system.devices.find(identifier).node, head or 0)
        if found is None:
            raise MachineError(f"Device {identifier} (head {head or 0}) is not bound to a QemuConsole")
        return found
    if head is not None:
        raise MachineError("'head' must be specified together with 'device'")
    consoles = screens.consoles(tree)
    if not consoles:
        raise MachineError("There is no console to take a screendump from")
    return consoles[0]


def picture(system: Home, console: Node) -> Picture:
    """What a console shows now.  Of a character device's it is the title alone.

    :raise MachineError: it has nothing to show.
    """
    text = screens.text_of(console)
    if text is not None:
        return Picture(text.width, text.height, [f"{text.label} console"], paper=_BLUE)
    if console.value("head") and system.release.behaviour.idle_outputs_blank:
        raise MachineError("no surface")
    lit, guest = screens.lit(system.tree), system.guest
    if lit is None or lit.console is not console or guest is None or not guest.screen_is_lit:
        return _unlit(system, console, _AT_START)
    if _is_virtio(system, console) and system.release.behaviour.idle_virtio_screen and guest.screen_is_reset:
        return _unlit(system, console, _AS_TEXT)
    screen = guest.have_screen()
    if lit.size is None:
        shown = screen.show(COLUMNS, ROWS)
        width, height = _AS_TEXT
        return Picture(width, height, shown.lines, _CELL, _GREY, cursor=(shown.row, shown.column))
    width, height = lit.size
    shown = screen.show(max(width // _WIDTH, 1), max(height // _HEIGHT, 1))
    return Picture(width, height, shown.lines, cursor=(shown.row, shown.column))


def _unlit(system: Home, console: Node, size: tuple[int, int]) -> Picture:
    """A picture with a line of text in its middle."""
    idle = system.release.behaviour.idle_virtio_screen
    line = idle if idle and _is_virtio(system, console) else _NOT_YET
    width, height = size
    left = (width // _WIDTH - len(line)) // 2 * _WIDTH
    top = (height // _HEIGHT - 1) // 2 * _HEIGHT
    return Picture(width, height, [line], left=left, top=top)


def _is_virtio(system: Home, console: Node) -> bool:
    device = screens.device_of(system.tree, console)
    return device is not None and device.type.startswith(_VIRTIO)


def has_lit_screen(system: Home) -> bool:
    """Whether there is a screen that the guest's text is on."""
    return system.guest is not None and screens.lit(system.tree) is not None


def make_screen(system: BootHome) -> Screen:
    """The screen of a machine's guest."""
    prints = system.machine.settings.has_seabios(system.release.behaviour)
    words = system.release.behaviour.seabios_greeting
    return Screen(words, lambda seen: boot_devices(system, seen) if prints else None)
