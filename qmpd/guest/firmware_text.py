"""What SeaBIOS prints, on the screen and, where the machine is to do without one (`-nographic`), on the serial port.

Recorded from releases 5.2 to 11.1.  What it finds on disks is not looked at: a guest with an operating system has it on
the first device that has a medium, and one without has none that is bootable; from a network none comes.
"""

from __future__ import annotations

from typing import NamedTuple

from qmpd.guest import option_rom
from qmpd.guest.option_rom import Roms
from qmpd.guest.phases import GuestPhase

_CLEAR = "\x1bc\x1b[?7l\x1b[2J\x1b[0m"
_NAMES = {"a": "Floppy", "c": "Hard Disk", "d": "DVD/CD"}
"""What can be tried, by the letters of `-boot`, in the order in which it is where nothing is named."""

_NETWORK = "n"

FIRMWARE_EVENTS = (GuestPhase.FIRMWARE, GuestPhase.BOOTING, GuestPhase.NOTHING_TO_BOOT)
"""What happens to a guest and has the firmware print something."""

Media = tuple[tuple[str, bool, int], ...]
"""Drives: for each its letter, whether it has a medium, and its own number among what is booted from, or -1."""


class BootDevices(NamedTuple):
    """What a machine can start from.

    `order` has the letters of those that are tried first, as `-boot` has them; `media` those of which one at least has
    a medium; `drives` those that there are at all; `kernel`: it is given a kernel instead; `menu`: it offers a menu;
    `uuid` is the machine's, where it was given one; `roms` are those of its network cards.  `first` are the letters of
    devices that have numbers of their own (`bootindex`), which come before all others; with `strict` they are all.
    """

    order: str
    media: frozenset[str]
    drives: frozenset[str]
    kernel: bool = False
    menu: bool = False
    uuid: str = ""
    first: str = ""
    strict: bool = False
    roms: Roms = Roms("")


def tried(devices: BootDevices) -> list[str]:
    """The letters of what is tried, in that order.

    A hard disk is tried where there is none, too, behind others that are not named either, and a floppy disk last of
    all then (measured on 7.2 with all of the devices, some and none).
    """

    def place(letter: str) -> tuple[bool, int, bool]:
        missing, named = letter not in devices.drives, devices.order
        missing = missing and letter != _NETWORK
        return letter == "a" and missing, named.index(letter) if letter in named else len(named), missing

    if devices.strict and devices.first:
        return list(devices.first)
    letters = [each for each in _NAMES if each != "d" or "d" in devices.drives]
    letters = sorted([*letters, _NETWORK] if devices.roms.cards else letters, key=place)
    return [*devices.first, *(each for each in letters if each not in devices.first)]


def printed(event: str, words: str, devices: BootDevices) -> bytes:
    """What is printed when one of the events happens, with the firmware's own words."""
    if event == GuestPhase.FIRMWARE:
        return greeting(words, devices)
    return boot(devices, found=event == GuestPhase.BOOTING)


def greeting(words: str, devices: BootDevices) -> bytes:
    """What is printed first of all, with the firmware's own words, on a terminal that may be in any state."""
    menu = "\nPress ESC for boot menu.\r\n\n" if devices.menu else ""
    uuid = f"Machine UUID {devices.uuid}\r\n" if devices.uuid else ""
    return f"{_CLEAR}{words}\r\n{uuid}{option_rom.started(devices.roms)}{menu}".encode()


def boot(devices: BootDevices, *, found: bool) -> bytes:
    """What is printed until the operating system runs, or (`found` is false) it is clear that there is none."""
    if devices.kernel:
        return b"Booting from ROM.."
    said = ""
    letters = tried(devices)
    disks = [letter for letter in letters if letter != _NETWORK] or letters
    last = next((letter for letter in disks if letter in devices.media), disks[0]) if found else ""
    for letter in letters:
        if letter == _NETWORK and letter == last:
            return (said + "Booting from ROM...\r\n").encode()
        if letter == _NETWORK:
            for card in devices.roms.cards:
                said += f"Booting from ROM...\r\n{option_rom.tried(devices.roms, card)}"
            continue
        said += f"Booting from {_NAMES[letter]}...\r\n"
        if letter == last:
            return said.encode()
        said += _failure(letter, has_medium=letter in devices.media)
    return (said + "No bootable device.\r\n").encode()


def _failure(letter: str, *, has_medium: bool) -> str:
    if letter == "d":
        return f"Boot failed: Could not read from CDROM (code {'0005' if has_medium else '0003'})\r\n"
    reason = "not a bootable disk" if has_medium else "could not read the boot disk"
    return f"Boot failed: {reason}\r\n\n"
