"""Pictures of screens: text as dots, in the formats of `screendump`."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.guest.font import HEIGHT, dots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BLACK = b"\0\0\0"
_CURSOR = (13, 14)
"""The scan lines of its character that the cursor takes."""
_BITS = 8
_ALL = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class Picture:
    """What a screen shows: lines of text on black, `top` scan lines from the top and `left` from the left.

    `width` and `height` are in pixels, and so is `cell`, the width of a character; `ink` and `paper` are the colours of
    the characters, as bytes of red, green and blue.  The cursor is at a row and column, where there is one.
    """

    width: int
    height: int
    lines: Sequence[str] = ()
    cell: int = 8
    ink: bytes = b"\xaa\xaa\xaa"
    paper: bytes = _BLACK
    left: int = 0
    top: int = 0
    cursor: tuple[int, int] | None = None

    def draw(self) -> bytes:
        """All of its pixels, three bytes each, line by line."""
        blank, known = _BLACK * self.width, _Known(self)
        drawn = [blank] * self.height
        for row, line in enumerate(self.lines):
            for scan in range(HEIGHT) if line else ():
                self._put(drawn, self.top + row * HEIGHT + scan, 0, [known[dots(each)[scan]] for each in line])
        if self.cursor is not None:
            row, column = self.cursor
            for scan in _CURSOR:
                self._put(drawn, self.top + row * HEIGHT + scan, column, [known[_ALL]])
        return b"".join(drawn)

    def _put(self, drawn: list[bytes], number: int, column: int, cells: list[bytes]) -> None:
        """Put these pixels of characters into a scan line, from a column on, as far as they are in the picture."""
        if number < self.height:
            pixels = b"".join(cells)
            place = (self.left + column * self.cell) * len(_BLACK)
            line = drawn[number]
            drawn[number] = (line[:place] + pixels + line[place + len(pixels) :])[: len(line)]


class _Known(dict[int, bytes]):
    """The pixels of a scan line of a character, by its dots."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self._picture = picture

    def __missing__(self, cell: int) -> bytes:
        picture = self._picture
        told = [picture.ink if cell >> bit & 1 else picture.paper for bit in range(_BITS - 1, -1, -1)]
        # Of nine dots the last is blank, but for the cursor's.
        more = picture.ink if cell == _ALL else picture.paper
        self[cell] = b"".join(told) + more * (picture.cell - _BITS)
        return self[cell]


def ppm(picture: Picture) -> bytes:
    """A picture as a portable pixmap."""
    return b"P6\n%d %d\n255\n" % (picture.width, picture.height) + picture.draw()


def png(picture: Picture) -> bytes:
    """A picture as Portable Network Graphics."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels, width = picture.draw(), picture.width * len(_BLACK)
    lines = b"".join(b"\0" + pixels[begin : begin + width] for begin in range(0, len(pixels), width))
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


FORMATS: dict[str, Callable[[Picture], bytes]] = {"ppm": ppm, "png": png}
"""What spells a picture, by QAPI's ImageFormat."""
