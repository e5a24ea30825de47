"""Editing a line on a terminal as QEMU's human monitor does it: the keys, the history, and what is drawn.

Whatever a key changes, the line is drawn as a whole: the cursor goes back to its start, the line is written and the
rest of the row is erased.  (Measured on the real monitor's socket, byte by byte.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 4095
"""Characters that a line can have."""
HISTORY = 64
"""Lines that are remembered."""

_LEFT, _RIGHT, _ERASE = "\x1b[D", "\x1b[C", "\x1b[K"
_ESCAPE, _DELETE = 27, 127
_WIDTH = 80
_LARGEST_PARAMETER = 9999  # beyond all that mean something
_SPACE = " \t\n\v\f\r"


class LineEditor:
    """One terminal's line.  `key` takes a byte; `take_output` gives what is to be written because of it."""

    __slots__ = (
        "_before",
        "_buffer",
        "_complete",
        "_cursor",
        "_drawn",
        "_drawn_cursor",
        "_history",
        "_output",
        "_parameter",
        "_place",
        "_prompt",
    )

    def __init__(self, prompt: str, complete: Callable[[str], list[str]]) -> None:
        """`complete` gives the words that the last word of a line can become."""
        self._prompt = prompt
        self._complete = complete
        self._history: list[str] = []
        self._output: list[str] = []
        self._before = ""  # what of an escape sequence has come: nothing, `esc`, `[` or `O`
        self._parameter = 0
        self._reset()

    def _reset(self) -> None:
        self._buffer = ""
        self._cursor = 0
        self._drawn = ""
        self._drawn_cursor = 0
        self._place = -1

    def start(self) -> str:
        """Begin a line; gives the prompt."""
        self._reset()
        return self._prompt

    def take_output(self) -> str:
        """What is to be written."""
        text = "".join(self._output)
        self._output.clear()
        return text

    def key(self, byte: int) -> str | None:
        """Take one byte; gives the line, where this one finishes it."""
        finished = None
        if self._before == "esc":
            self._after_escape(chr(byte))
        elif self._before:
            self._in_sequence(byte)
        elif byte in (10, 13):
            self._output.append("\n")
            finished = self._buffer
            self._remember(finished)
            # The line is drawn where it was until the next one starts.
            return finished
        else:
            self._plain(byte)
        self._draw()
        return finished

    # What keys do

    def _plain(self, byte: int) -> None:
        match byte:
            case 1:
                self._cursor = 0
            case 4:
                self._delete()
            case 5:
                self._cursor = len(self._buffer)
            case 9:
                self._tabulator()
            case 8 | 127:
                if self._cursor > 0:
                    self._cursor -= 1
                    self._delete()
            case 12:
                self._output.append(f"\x1b[2J\x1b[1;1H{self._prompt}")
                self._drawn, self._drawn_cursor = "", 0
            case 23:
                self._erase_word()
            case 27:
                self._before = "esc"
            case 155:
                self._before = "["
                self._parameter = 0
            case _ if byte >= 32:
                self._insert(chr(byte))

    def _after_escape(self, character: str) -> None:
        self._parameter = 0
        self._before = character if character in "[O" else ""

    def _in_sequence(self, byte: int) -> None:
        character = chr(byte)
        if self._before == "[" and "0" <= character <= "9":
            self._parameter = min(self._parameter * 10 + byte - 48, _LARGEST_PARAMETER)
            return
        match self._before + character:
            case "[A" | "[F":
                self._earlier()
            case "[B" | "[E":
                self._later()
            case "[D":
                self._cursor = max(self._cursor - 1, 0)
            case "[C":
                self._cursor = min(self._cursor + 1, len(self._buffer))
            case "OH":
                self._cursor = 0
            case "OF":
                self._cursor = len(self._buffer)
            case "[~":
                if self._parameter == 1:
                    self._cursor = 0
                elif self._parameter == 3:
                    self._delete()
                elif self._parameter == 4:
                    self._cursor = len(self._buffer)
        self._before = ""

    def _insert(self, text: str) -> None:
        if len(self._buffer) + len(text) <= LIMIT:
            self._buffer = self._buffer[: self._cursor] + text + self._buffer[self._cursor :]
            self._cursor += len(text)

    def _delete(self) -> None:
        self._buffer = self._buffer[: self._cursor] + self._buffer[self._cursor + 1 :]

    def _word_left(self) -> None:
        start = self._cursor
        while start > 0 and self._buffer[start - 1] in _SPACE:
            start -= 1
        while start > 0 and self._buffer[start - 1] not in _SPACE:
            start -= 1
        self._cursor = start

    def _erase_word(self) -> None:
        end = self._cursor
        self._word_left()
        self._buffer = self._buffer[: self._cursor] + self._buffer[end:]

    # The history

    def _remember(self, line: str) -> None:
        if not line:
            return
        if self._place >= 0 and self._place < len(self._history) and self._history[self._place] == line:
            del self._history[self._place]
        elif line in self._history:
            self._history.remove(line)
        self._history.append(line)
        del self._history[:-HISTORY]
        self._place = -1

    def _earlier(self) -> None:
        if self._place == 0 or not self._history:
            return
        self._place = len(self._history) - 1 if self._place < 0 else self._place - 1
        self._recall(self._history[self._place])

    def _later(self) -> None:
        if self._place < 0:
            return
        if self._place < len(self._history) - 1:
            self._place += 1
            self._recall(self._history[self._place])
        else:
            self._place = -1
            self._recall("")

    def _recall(self, line: str) -> None:
        self._buffer = line
        self._cursor = len(line)

    # Completion

    def _tabulator(self) -> None:
        text = self._buffer[: self._cursor]
        words = sorted(dict.fromkeys(self._complete(text)))
        if not words:
            return
        last = text[max(text.rfind(character) for character in " \t") + 1 :]
        if len(words) == 1:
            self._insert(words[0][len(last) :])
            if words[0][-1:] != "/":
                self._insert(" ")
            return
        common = words[0]
        while not all(word.startswith(common) for word in words):
            common = common[:-1]
        self._insert(common[len(last) :])
        self._output.append("\n" + _columns(words))
        self._output.append(self._prompt)
        self._drawn, self._drawn_cursor = "", 0

    # Drawing

    def _draw(self) -> None:
        if self._buffer != self._drawn:
            self._output.append(_LEFT * self._drawn_cursor + self._buffer + _ERASE)
            self._drawn = self._buffer
            self._drawn_cursor = len(self._buffer)
        move = self._cursor - self._drawn_cursor
        self._output.append(_RIGHT * move if move > 0 else _LEFT * -move)
        self._drawn_cursor = self._cursor


def _columns(words: list[str]) -> str:
    """Words side by side, as many as fit into the width of a terminal."""
    width = min(max(max(map(len, words)) + 2, 10), _WIDTH)
    across = _WIDTH // width
    rows = [words[start : start + across] for start in range(0, len(words), across)]
    return "".join("".join(word.ljust(width) for word in row) + "\n" for row in rows)
