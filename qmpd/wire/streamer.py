"""Where one message ends and the next begins, QEMU's limits, and what is thrown away after an error.

Theory. Up to release 10.0 a message is all tokens up to the point where braces and brackets, counted apart, are both
back at zero, or one of them is below; only then is it parsed, and the first complaint is what the client hears. A bad
token or an exceeded limit ends the message at once.

Release 11.1 parses as tokens come and complains on the spot. Then it throws tokens away until braces and brackets are
both at zero, where a closing one that was never opened, like a bad token, counts as being at zero.
"""

from __future__ import annotations

from typing import Final

from qmpd.wire.lexer import TOKEN_STRUCTURAL
from qmpd.wire.parser import CLASSIC_COMPLAINTS, POSITIONS_COMPLAINTS, Complaints, Parser, SyntaxFault

MAX_TOKEN_SIZE = 64 << 20  # bytes, of one token and of all of a message
MAX_TOKEN_COUNT = 2 << 20
MAX_NESTING = 1 << 10

# Kinds of tokens that exist here alone.
TOKEN_STRAY = 6  # the lexer could make nothing of it
TOKEN_TOO_LONG = 7  # cut off in the middle


class Fault:
    """An error to be reported; `positioned` where a dialect with positions says where the token began."""

    __slots__ = ("positioned", "text")

    def __init__(self, text: bytes, *, positioned: bool) -> None:
        self.text = text
        self.positioned = positioned


class _Nothing:
    __slots__ = ()


NOTHING: Final = _Nothing()

_BRACES = {0x7B: 1, 0x7D: -1}
_BRACKETS = {0x5B: 1, 0x5D: -1}
_SIZE_FAULT = Fault(b"JSON token size limit exceeded", positioned=False)
_COUNT_FAULT = Fault(b"JSON token count limit exceeded", positioned=False)
_NESTING_FAULT = Fault(b"JSON nesting depth limit exceeded", positioned=False)


def _parse_fault(text: bytes) -> Fault:
    return Fault(b"JSON parse error, " + text, positioned=True)


class _Streamer:
    """The message in the making. `take` gives a value, a `Fault`, or `NOTHING` for each token."""

    __slots__ = ("braces", "brackets", "parser", "size", "tokens")

    def __init__(self, complaints: Complaints) -> None:
        self.parser = Parser(complaints)
        self.braces = 0
        self.brackets = 0
        self.tokens = 0
        self.size = 0

    @property
    def idle(self) -> bool:
        """Whether no message is half received."""
        return self.tokens == 0

    def reset(self) -> None:
        """Start afresh with the next token."""
        if self.braces or self.brackets:
            self.braces = 0
            self.brackets = 0
        self.tokens = 0
        self.size = 0
        self.parser.reset()


class ClassicStreamer(_Streamer):
    """Releases up to 10.0."""

    __slots__ = ("fault",)

    def __init__(self) -> None:
        super().__init__(CLASSIC_COMPLAINTS)
        self.fault: bytes | None = None  # the first complaint about the message

    def take(self, kind: int, text: bytes) -> object:
        """Take the next token."""
        if kind == TOKEN_STRUCTURAL:
            self.braces += _BRACES.get(text[0], 0)
            self.brackets += _BRACKETS.get(text[0], 0)
        limit: Fault | None = None
        if kind == TOKEN_STRAY:
            # Here alone the text is not cut to the size of a buffer.
            limit = _parse_fault(b"stray '%s'" % text.partition(b"\x00")[0])
        elif self.size + len(text) + 1 > MAX_TOKEN_SIZE:
            limit = _SIZE_FAULT
        elif self.tokens + 1 > MAX_TOKEN_COUNT:
            limit = _COUNT_FAULT
        elif self.braces + self.brackets > MAX_NESTING:
            limit = _NESTING_FAULT
        if limit is not None:
            self.reset()
            return limit
        self.tokens += 1
        self.size += len(text)
        if self.fault is None:
            try:
                self.parser.feed(kind, text)
            except SyntaxFault as fault:
                self.fault = fault.text
                self.parser.reset()
        if (self.braces > 0 or self.brackets > 0) and self.braces >= 0 and self.brackets >= 0:
            return NOTHING
        result = self.parser.value if self.fault is None else _parse_fault(self.fault)
        self.reset()
        return result

    def reset(self) -> None:
        """Start afresh with the next token."""
        self.fault = None
        super().reset()


class PositionsStreamer(_Streamer):
    """Release 11.1."""

    __slots__ = ("recovering",)

    def __init__(self) -> None:
        super().__init__(POSITIONS_COMPLAINTS)
        self.recovering = False  # the complaint is out, the rest of the message is thrown away

    def take(self, kind: int, text: bytes) -> object:
        """Take the next token."""
        self.tokens += 1
        self.size += len(text)
        if kind == TOKEN_STRUCTURAL:
            self.braces += _BRACES.get(text[0], 0)
            self.brackets += _BRACKETS.get(text[0], 0)
        if self.braces < 0 or self.brackets < 0 or kind == TOKEN_STRAY:
            self.braces = 0
            self.brackets = 0
        result: object = NOTHING
        if not self.recovering:
            result = self._parse(kind, text)
            self.recovering = isinstance(result, Fault)
        if self.braces == 0 and self.brackets == 0:
            self.reset()
        return result

    def _parse(self, kind: int, text: bytes) -> object:
        if self.size > MAX_TOKEN_SIZE:
            return _SIZE_FAULT
        if self.tokens > MAX_TOKEN_COUNT:
            return _COUNT_FAULT
        if self.braces + self.brackets > MAX_NESTING:
            return _NESTING_FAULT
        try:
            if kind == TOKEN_STRAY:
                raise SyntaxFault(b"stray '%s'" % text.partition(b"\x00")[0])
            if self.parser.feed(kind, text):
                return self.parser.value
        except SyntaxFault as fault:
            return _parse_fault(fault.text)
        return NOTHING

    def reset(self) -> None:
        """Start afresh with the next token."""
        self.recovering = False
        super().reset()
