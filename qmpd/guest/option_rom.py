"""What the ROMs of network cards print, which is iPXE: as SeaBIOS starts them, and as it tries to boot from them.

Recorded from releases 5.2 to 11.1.  Nobody is at the other end of a network but QEMU's own (`-netdev user`), which
gives an address and no file: booting over a network always fails.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 80
_SEGMENT = 0x100
_QUESTION = "Press Ctrl-B for the iPXE command line..."
_ERASED = "\b \b" * len(_QUESTION)
_BOLD, _COLOURED, _PLAIN = "\x1b[0;1m", "\x1b[0;36m", "\x1b[0m"
# A character that takes a place, or something that takes none.
_PIECE = re.compile(r"\x1b\[[0-9;]*m|\r|\n|.")
_HOST_BITS = 0x02


class RomWords(NamedTuple):
    """What one build of iPXE says otherwise than others (`schemas/option-roms.json`).

    `dots` is how many it prints while it waits for an address in vain, `image` how much memory its code takes, as
    hexadecimal digits.
    """

    site: str = ""
    features: str = ""
    initialised: str = ""
    state: str = ""
    dots: int = 0
    image: str = "0"


class Rom(NamedTuple):
    """A network card with a ROM: its place (`00:03.0`), its hardware address, what iPXE calls it, and its ROM's file.

    `answered`: QEMU's own network is there, which gives it an address.
    """

    place: str
    mac: str
    driver: str
    file: str
    answered: bool


class Roms(NamedTuple):
    """All of a machine's, in the order in which SeaBIOS finds them, and where they are put.

    `build` is iPXE's, `words` what that one says in its own way.  `segment` is where the first one is, `memory` what it
    is given there and for its `image`.
    """

    build: str
    cards: tuple[Rom, ...] = ()
    segment: int = 0
    memory: int = 0
    image: int = 0
    words: RomWords = RomWords()


def started(roms: Roms) -> str:
    """What they print as they are started."""
    said, words = "", roms.words
    image, files = roms.image, {card.file: (roms.memory, "+") for card in roms.cards[:1]}
    for number, card in enumerate(roms.cards):
        at, sign = files.get(card.file, (0, "+"))
        if not at:
            image -= int(words.image, 16)
            at = image
        files[card.file] = at, " "
        first = "+" if number == 0 else " "
        segment = f"{roms.segment + number * _SEGMENT:04X}"
        said += (
            f"\n\niPXE ({words.site}) {card.place} {segment} PCI2.10 PnP PMM{sign}{at:08X}{first}{roms.image:08X}"
            f" {segment}\r\nPress Ctrl-B to configure iPXE (PCI {card.place})...\r{' ' * (_WIDTH - 1)}\r\n\n\n"
        )
    return said


def tried(roms: Roms, card: Rom) -> str:
    """What one prints as it is to boot the machine, and fails."""
    words = roms.words
    said = (
        f"iPXE (PCI {card.place}) starting execution...ok\r\niPXE initialising devices...{words.initialised}\r\n\n\n\n"
        f"{_BOLD}iPXE {roms.build}{_PLAIN} -- Open Source Network Boot Firmware -- {_COLOURED}{words.site}\r\n"
        f"{_PLAIN}Features: {words.features}\r\n\n{_QUESTION}{_ERASED}"
        f"net0: {card.mac} using {card.driver} on 0000:{card.place} {words.state}\r\n"
        "  [Link:up, TX:0 TXE:0 RX:0 RXE:0]\r\n"
    )
    waited = f"Configuring (net0 {card.mac})"
    if card.answered:
        said += f"{waited}...... ok\r\n"
        said += "".join(f"net0: {each}\r\n" for each in _addresses(card.mac))
        said += f"Nothing to boot: No such file or directory ({words.site}/2d03e13b)\r\n"
    else:
        said += f"{waited}{'.' * words.dots} No configuration methods succeeded ({words.site}/040ee119)\r\n"
    return _wrapped(f"{said}No more network devices\r\n\n{_QUESTION}{_ERASED}")


def _addresses(mac: str) -> Sequence[str]:
    import ipaddress  # almost nobody wants it

    first, *rest = (int(each, 16) for each in mac.split(":"))
    host = bytes([first ^ _HOST_BITS, *rest[:2], 0xFF, 0xFE, *rest[2:]])
    networks = (bytes.fromhex(each).ljust(8, b"\0") for each in ("fec0", "fe80"))
    site, link = (ipaddress.IPv6Address(network + host) for network in networks)
    return "10.0.2.15/255.255.255.0 gw 10.0.2.2", f"{site}/64 gw fe80::2", f"{link}/64"


def _wrapped(text: str) -> str:
    """The text with a new line behind each character that fills one."""
    said, column = [], 0
    for piece in _PIECE.findall(text):
        said.append(piece)
        if piece in ("\r", "\n"):
            column = 0 if piece == "\r" else column
        elif piece == "\b":
            column -= 1
        elif len(piece) == 1:
            column += 1
            if column == _WIDTH:
                said.append("\r\n")
                column = 0
    return "".join(said)
