"""Where one message ends and the next begins, QEMU's limits, and what is thrown away after an error.

Theory. Up to release 10.0 a message is all tokens up to the point where braces and brackets, counted apart, are both
back at zero, or one of them is below; only then is it parsed, and the first complaint is what the client hears. A bad
token or an exceeded limit ends the message at once.

Release 11.1 parses as tokens come and complains on the spot. Then it throws tokens away until braces and brackets are
both at zero, where a closing one that was never opened, like a bad token, counts as being at zero.

Here both parse as tokens come. As long as nothing is wrong a message ends where its value does, and what is open is
what the parser has open; braces and brackets are counted from the first complaint on (`doomed`).
"""

from __future__ import annotations

from typing import Final

from qmpd.wire.lexer import TOKEN_STRUCTURAL
from qmpd.wire.parser import (
    CLASSIC_COMPLAINTS,
    MAX_NESTING,
    POSITIONS_COMPLAINTS,
    Complaints,
    NestedTooDeep,
    Parser,
    SyntaxFault,
)

MAX_TOKEN_SIZE = 64 << 20  # bytes that the tokens of a message must stay below
MAX_TOKEN_COUNT = 2 << 20

# QEMU would send back up to 64 MiB of a bad token, and each byte as six: a client must not cost the others that much.
_LONGEST_EXCERPT = 1 << 18

# Kinds of tokens that exist here alone.
TOKEN_STRAY = 7  # the lexer could make nothing of it
TOKEN_TOO_LONG = 8  # cut off in the middle


class Fault:
    """An error to be reported; `positioned` where a dialect with positions says where the token began.

    `stray`: the lexer could make no token of the input.
    """

    __slots__ = ("positioned", "stray", "text")

    def __init__(self, text: bytes, *, positioned: bool, stray: bool = False) -> None:
        self.text = text
        self.positioned = positioned
        self.stray = stray


class _Nothing:
    __slots__ = ()


NOTHING: Final = _Nothing()

_SIZE_FAULT = Fault(b"JSON token size limit exceeded", positioned=False)
_COUNT_FAULT = Fault(b"JSON token count limit exceeded", positioned=False)
_NESTING_FAULT = Fault(b"JSON nesting depth limit exceeded", positioned=False)


def _parse_fault(text: bytes, *, stray: bool = False) -> Fault:
    return Fault(b"JSON parse error, " + text, positioned=True, stray=stray)


class _Streamer:
    """The message in the making. `take` gives a value, a `Fault`, or `NOTHING` for each token."""

    __slots__ = ("braces", "brackets", "doomed", "fault", "parser", "size", "tokens")

    def __init__(self, complaints: Complaints) -> None:
        self.parser = Parser(complaints)
        self.doomed = False
        self.fault = b""  # what is wrong with a doomed message, if that is still to be said
        # Open ones, while doomed.
        self.braces = 0
        self.brackets = 0
        # What the message has come to.
        self.tokens = 0
        self.size = 0

    @property
    def idle(self) -> bool:
        """Whether no message is half received."""
        return self.tokens == 0

    def has_room(self, size: int) -> bool:
        """Whether no limit but that on nesting can be reached by so many bytes, as long as nothing is wrong."""
        return not self.doomed and self.tokens + size < MAX_TOKEN_COUNT and self.size + size < MAX_TOKEN_SIZE

    def reset(self) -> None:
        """Start afresh with the next token."""
        self.doomed = False
        self.fault = b""
        self.braces = 0
        self.brackets = 0
        self.tokens = 0
        self.size = 0
        self.parser.reset()

    def _doom(self) -> None:
        """Nothing comes of the message: count what is open instead of parsing."""
        self.braces, self.brackets = self.parser.depth
        self.parser.reset()
        self.doomed = True

    def _count(self, kind: int, text: bytes) -> None:
        if kind == TOKEN_STRUCTURAL:
            if text == b"{":
                self.braces += 1
            elif text == b"}":
                self.braces -= 1
            elif text == b"[":
                self.brackets += 1
            elif text == b"]":
                self.brackets -= 1


class ClassicStreamer(_Streamer):
    """Releases up to 10.0."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(CLASSIC_COMPLAINTS)

    def take(self, kind: int, text: bytes) -> object:
        """Take the next token."""
        self.tokens += 1
        self.size += len(text)
        if kind == TOKEN_STRAY:
            self.reset()
            # Here alone the text is not cut to the size of a buffer.
            return _parse_fault(b"stray '%s'" % text.partition(b"\x00")[0][:_LONGEST_EXCERPT], stray=True)
        if self.size >= MAX_TOKEN_SIZE:
            self.reset()
            return _SIZE_FAULT
        if self.tokens > MAX_TOKEN_COUNT:
            self.reset()
            return _COUNT_FAULT
        if self.doomed:
            return self._skip(kind, text)
        try:
            if not self.parser.feed(kind, text):
                return NOTHING
        except SyntaxFault as fault:
            return self.complain(kind, text, fault)
        except NestedTooDeep as fault:
            return self.complain(kind, text, fault)
        value = self.parser.value
        self.reset()
        return value

    def complain(self, kind: int, text: bytes, fault: SyntaxFault | NestedTooDeep) -> object:
        """The parser did not want the token; it has been counted."""
        if isinstance(fault, NestedTooDeep):
            self.reset()
            return _NESTING_FAULT
        self._doom()
        self.fault = fault.text
        return self._skip(kind, text)

    def _skip(self, kind: int, text: bytes) -> object:
        self._count(kind, text)
        if self.braces + self.brackets > MAX_NESTING:
            self.reset()
            return _NESTING_FAULT
        if (self.braces > 0 or self.brackets > 0) and self.braces >= 0 and self.brackets >= 0:
            return NOTHING
        fault = self.fault
        self.reset()
        return _parse_fault(fault)


class PositionsStreamer(_Streamer):
    """Release 11.1."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(POSITIONS_COMPLAINTS)

    def take(self, kind: int, text: bytes) -> object:
        """Take the next token."""
        self.tokens += 1
        self.size += len(text)
        if self.doomed:
            return self._skip(kind, text)
        if self.size >= MAX_TOKEN_SIZE:
            return self._recover(kind, text, _SIZE_FAULT)
        if self.tokens > MAX_TOKEN_COUNT:
            return self._recover(kind, text, _COUNT_FAULT)
        try:
            if kind == TOKEN_STRAY:
                raise SyntaxFault(b"stray '%s'" % text.partition(b"\x00")[0])
            if not self.parser.feed(kind, text):
                return NOTHING
        except SyntaxFault as fault:
            return self.complain(kind, text, fault)
        except NestedTooDeep as fault:
            return self.complain(kind, text, fault)
        value = self.parser.value
        self.reset()
        return value

    def complain(self, kind: int, text: bytes, fault: SyntaxFault | NestedTooDeep) -> object:
        """The parser did not want the token; it has been counted."""
        if isinstance(fault, NestedTooDeep):
            return self._recover(kind, text, _NESTING_FAULT)
        return self._recover(kind, text, _parse_fault(fault.text, stray=kind == TOKEN_STRAY))

    def _recover(self, kind: int, text: bytes, complaint: Fault) -> Fault:
        self._doom()
        self._skip(kind, text)
        return complaint

    def _skip(self, kind: int, text: bytes) -> object:
        self._count(kind, text)
        if kind == TOKEN_STRAY or self.braces < 0 or self.brackets < 0 or (self.braces == 0 and self.brackets == 0):
            self.reset()
        return NOTHING
