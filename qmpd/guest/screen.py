"""The guest's screen in text mode: what was printed on it, and what of that is to be seen.

It is a plain terminal: besides line feed, carriage return, backspace and tab it knows the escape sequences that clear
it and move its cursor.  Colours and the rest of a terminal's sequences are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from qmpd.guest.firmware_text import FIRMWARE_EVENTS, printed
from qmpd.guest.phases import GuestPhase

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.guest.firmware_text import BootDevices, Media

COLUMNS, ROWS = 80, 25
"""Of the VGA's text mode, in characters."""

MOST = 1 << 16
"""Bytes that are kept of what was printed; what is before has scrolled away."""

_TAB = 8
# Where the sequences with these ends move the cursor: down and to the right.
_STEPS = {"A": (-1, 0), "B": (1, 0), "C": (0, 1), "D": (0, -1)}
_PIECE = re.compile(r"\x1b\[([?0-9;]*)([@-~])|\x1b([^\[\x1b])|\x1b\[?[?0-9;]*|([^\x1b])", re.DOTALL)


class Shown(NamedTuple):
    """What is to be seen: lines without the spaces at their ends, and the row and column where the cursor is."""

    lines: list[str]
    row: int
    column: int


class Screen:
    """What was printed since the screen was last cleared, the firmware's `words` and what it boots from first."""

    __slots__ = ("_devices", "_said", "_words")

    def __init__(self, words: str, devices: Callable[[Media | None], BootDevices | None]) -> None:
        """`devices` tells what the firmware finds to boot from, now or with other drives than now.

        None: it is none that prints on the screen.
        """
        self._words = words
        self._devices = devices
        self._said = bytearray()

    def happened(self, event: str, seen: Media | None = None) -> None:
        """Something has happened to the guest; the firmware has `seen` these drives then, or those of now."""
        if event in FIRMWARE_EVENTS and (found := self._devices(seen)) is not None:
            if event == GuestPhase.FIRMWARE:
                self._said.clear()
            self.say(printed(event, self._words, found))

    def say(self, data: bytes) -> None:
        """Print something, which is UTF-8."""
        self._said += data
        if len(self._said) > MOST:
            del self._said[: len(self._said) - MOST // 2]

    @property
    def said(self) -> str:
        """All that is kept, a character for each byte."""
        return self._said.decode("latin-1")

    def restore(self, said: str) -> None:
        """Have this, and nothing else."""
        self._said[:] = said.encode("latin-1")

    def show(self, columns: int = COLUMNS, rows: int = ROWS) -> Shown:
        """What is to be seen of it in that many columns and rows."""
        page = _Page(columns, rows)
        for match in _PIECE.finditer(self._said.decode(errors="replace")):
            page.take(match)
        return page.shown()


class _Page:
    """A screen that is being printed on."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    def take(self, match: re.Match[str]) -> None:
        numbers, end, single, character = match.groups()
        if character is not None:
            self._print(character)
        elif single == "c":
            self._erase(0, self._rows * self._columns)
            self._row = self._column = 0
        elif end is not None and not numbers.startswith("?"):
            self._control(end, [int(each or 0) for each in numbers.split(";")])

    def _print(self, character: str) -> None:
        if character == "\n":
            self._feed()
        elif character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(self._column - 1, 0)
        elif character == "\t":
            self._column = min((self._column // _TAB + 1) * _TAB, self._columns - 1)
        elif character >= " ":
            if self._column == self._columns:
                self._column = 0
                self._feed()
            self._cells[self._row][self._column] = character
            self._column += 1

    def _feed(self) -> None:
        if self._row + 1 < self._rows:
            self._row += 1
        else:
            self._cells = [*self._cells[1:], [" "] * self._columns]

    def _control(self, end: str, numbers: list[int]) -> None:
        first, second = numbers[0], numbers[1] if len(numbers) > 1 else 0
        here = self._row * self._columns + min(self._column, self._columns - 1)
        last = self._rows * self._columns
        line = self._row * self._columns
        if end in "Hf":
            self._move(max(first, 1) - 1, max(second, 1) - 1)
        elif end in _STEPS:
            by, (down, right) = max(first, 1), _STEPS[end]
            self._move(self._row + by * down, self._column + by * right)
        elif end == "J":
            self._erase(0 if first else here, here + 1 if first == 1 else last)
        elif end == "K":
            self._erase(line if first else here, here + 1 if first == 1 else line + self._columns)

    def _move(self, row: int, column: int) -> None:
        self._row = min(max(row, 0), self._rows - 1)
        self._column = min(max(column, 0), self._columns - 1)

    def _erase(self, begin: int, end: int) -> None:
        for place in range(begin, end):
            self._cells[place // self._columns][place % self._columns] = " "

    def shown(self) -> Shown:
        lines = ["".join(each).rstrip() for each in self._cells]
        return Shown(lines, self._row, min(self._column, self._columns - 1))
