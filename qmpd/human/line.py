"""A line of the human monitor: what follows a command's name, read as QEMU reads it (monitor/hmp.c, `args_type`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.human.errors import Misread
from qmpd.human.expressions import Reader

if TYPE_CHECKING:
    from qmpd.monitor.client import Client

_BLANKS = " \t\n\v\f\r"


class Line:
    """What follows a command's name: gives its arguments one after another."""

    def __init__(
        self, title: str, text: str, client: Client | None = None, choices: dict[str, int] | None = None
    ) -> None:
        """`client` is who asks, where that is known; `choices` are what was chosen at the monitor (`cpu`)."""
        self.title = title
        self.client = client
        self.choices = {} if choices is None else choices
        self._text = text
        self._at = 0

    @property
    def monitor(self) -> str:
        """The monitor that asks."""
        return "" if self.client is None else self.client.label

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _BLANKS:
            self._at += 1

    def word(self) -> str | None:
        """The next word, which may be quoted; None at the end of the line."""
        self._skip()
        if self._at == len(self._text):
            return None
        start = self._at
        if self._text[start] == '"':
            end = self._text.find('"', start + 1)
            end = len(self._text) if end < 0 else end
            self._at = min(end + 1, len(self._text))
            return self._text[start + 1 : end]
        while self._at < len(self._text) and self._text[self._at] not in _BLANKS:
            self._at += 1
        return self._text[start : self._at]

    def rest(self) -> str | None:
        """All that is left; None where nothing is."""
        self._skip()
        rest, self._at = self._text[self._at :], len(self._text)
        return rest or None

    def required(self, what: str = "string") -> str:
        """The next word.

        :raise Misread: there is none.
        """
        found = self.word()
        if found is None:
            raise Misread(f"{self.title}: {what} expected")
        return found

    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        self._skip()
        return self._at == len(self._text)

    def form(self) -> str:
        """What follows at once behind a stroke, in which form something is to be shown; empty where none does."""
        self._skip()
        if self._text[self._at : self._at + 1] != "/":
            return ""
        start = self._at = self._at + 1
        while self._at < len(self._text) and self._text[self._at] not in _BLANKS:
            self._at += 1
        return self._text[start : self._at]

    def number(self) -> int:
        """The next expression.

        :raise Misread: it is none.
        """
        reader = Reader(self._text, self._at)
        value = reader.read()
        self._at = reader.end
        return value

    def integer(self) -> int:
        """The next expression, a number of 32 bits.

        :raise Misread: it is none.
        """
        value = self.number()
        if value >> 32 & 0xFFFFFFFF:
            raise Misread(f"'{self.title}' has failed: integer is for 32-bit values")
        return value

    def flag(self, letter: str, later: str = "") -> bool:
        """Whether the flag of this letter comes next; `later` are the letters of those that may come in its place.

        :raise Misread: another one does.
        """
        self._skip()
        rest = self._text[self._at :]
        if rest[:1] != "-" or (rest[1:2] != letter and rest[1:2] in later and rest[1:2]):
            return False
        if rest[1:2] != letter:
            raise Misread(f"{self.title}: unsupported option -{rest[1:2]}")
        self._at += 2
        return True

    def choice(self, letter: str, later: str = "") -> str | None:
        """The word behind the flag of this letter; None where that does not come next.

        :raise Misread: another flag does, or nothing is behind it.
        """
        if not self.flag(letter, later):
            return None
        found = self.word()
        if found is None:
            raise Misread(f"{self.title}: value expected for -{letter}")
        return found

    def end(self) -> None:
        """Nothing may follow.

        :raise Misread: something does.
        """
        if self.rest() is not None:
            raise Misread(f"{self.title}: extraneous characters at the end of line")
