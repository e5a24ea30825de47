"""The way in: bytes as they arrive, in any slicing, to messages.

Three ways lead through here, and they give the same answers:
- whole plain messages at the start of a chunk go to orjson in one call (`_plain_messages`), which is what a client's
  ordinary traffic takes;
- whole tokens are found by one pattern and go straight to the parser (`_take_tokens`);
- what is cut, bad, long, or to be skipped is walked by the lexer's table (`_walk`).
"""

from __future__ import annotations

import re

from orjson import JSONDecodeError, JSONEncodeError, dumps, loads

from qmpd.wire.lexer import (
    ENDED,
    ERROR,
    NO_TOKEN,
    RECOVERY,
    RESTART,
    START,
    TOKEN,
    TOKEN_STRING,
    TOKEN_STRUCTURAL,
    TRANSITIONS,
    run,
)
from qmpd.wire.parser import NestedTooDeep, SyntaxFault
from qmpd.wire.streamer import (
    MAX_TOKEN_SIZE,
    NOTHING,
    TOKEN_STRAY,
    TOKEN_TOO_LONG,
    ClassicStreamer,
    Fault,
    PositionsStreamer,
)
from qmpd.wire.unicode import decode_leniently

_WHITESPACE = b" \t\r\n"
_LINE_FEED, _BACKSLASH, _CLOSING_BRACE = b"\n\\}"

# Stands between messages that orjson reads as one list. ASCII input without escapes cannot spell this string.
_MARK = "\u00e9"
_MARK_BETWEEN = f',"{_MARK}",'.encode()

# orjson is asked only where neither the count of tokens nor their size could reach a limit. (It gives up on nesting
# beyond 254 when it writes and beyond 1024 when it reads, which is QEMU's limit too.)
_PLAIN_SIZE = 1 << 20


class ParseError:
    """Input that is no message. `message` is the `desc` of the error that QEMU sends, of class GenericError."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParseError) and other.message == self.message

    def __hash__(self) -> int:
        return hash(self.message)

    def __repr__(self) -> str:
        return f"ParseError({self.message!r})"


class Decoder:
    """Takes the bytes of one connection and gives the messages in them.

    `dialect` is "classic" (releases 5.2 to 10.0) or "positions" (11.1, whose errors begin with line and column).

    Memory: the text of the half-received message at most, which QEMU's limits bound to 64 MiB in 2^21 tokens.
    """

    __slots__ = (
        "_clean",
        "_column",
        "_dialect",
        "_line",
        "_mark",
        "_partial",
        "_partial_where",
        "_positions",
        "_state",
        "_streamer",
    )

    def __init__(self, dialect: str = "classic") -> None:
        """:raise ValueError: there is no such dialect."""
        if dialect not in ("classic", "positions"):
            raise ValueError(f"unknown dialect {dialect!r}")
        self._dialect = dialect
        self._positions = dialect == "positions"
        self._streamer = PositionsStreamer() if self._positions else ClassicStreamer()
        self._state = START
        self._clean = True  # the next byte begins a message
        # The token that the last chunk ended in, and the line and column where it began.
        self._partial = bytearray()
        self._partial_where = (1, 1)
        # Line and column of the byte at offset _mark of the chunk at hand, counted from 1, in bytes, since the
        # connection began.
        self._line = 1
        self._column = 1
        self._mark = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is half received and nothing is being skipped."""
        return self._clean

    def feed(self, data: bytes) -> list[object]:
        """Take the next bytes; give the messages that they complete, in order: JSON values and `ParseError`s.

        Every text is one that `encode` gives back as QEMU does. Cost is linear in the bytes fed, whatever came before.
        """
        messages: list[object] = []
        position = 0
        if self._clean:
            # An ordinary client's traffic: compact JSON, one message. All the work is done here.
            text = data.strip(_WHITESPACE)
            if text and text[-1] == _CLOSING_BRACE and text.isascii() and len(text) < _PLAIN_SIZE:
                if _LINE_FEED not in text:
                    try:
                        value = loads(text)
                        spelt = dumps(value)
                        # What is compact JSON is written as it was read, if nothing is odd about it.
                        if spelt == text or _read_alike(text, spelt):
                            if self._positions:
                                self._advance_message(data, text)
                            return [value]
                    except (JSONDecodeError, JSONEncodeError):
                        # Perhaps these are several messages without a line break between them.
                        text = text.replace(b"}{", b"}\n{")
                plain = _plain_messages(text) if _LINE_FEED in text else None
                if plain is not None:
                    if self._positions:
                        self._advance(data, len(data))
                        self._mark = 0
                    return plain
            else:
                position = self._take_plain(data, 0, messages)
        self._scan(data, position, messages)
        return messages

    def snapshot(self) -> dict[str, object]:
        """All that the decoder knows, as a JSON object, for another process to go on with."""
        from qmpd.wire.snapshot import take_snapshot

        return take_snapshot(self)

    @classmethod
    def restore(cls, snapshot: dict[str, object]) -> Decoder:
        """A decoder that goes on where the one of the snapshot was.

        :raise KeyError: this is no snapshot of a decoder.
        """
        from qmpd.wire.snapshot import restore_snapshot

        return restore_snapshot(snapshot)

    def _take_plain(self, data: bytes, position: int, messages: list[object]) -> int:
        """Take the plain messages at `position` that end with a line; the offset after them."""
        end = data.rfind(b"}\n", position) + 1
        if end == 0:
            return position
        text = data[position:end].strip(_WHITESPACE)
        plain = _plain_messages(text) if text.isascii() and len(text) < _PLAIN_SIZE else None
        if plain is None:
            return position
        messages += plain
        return end

    def _scan(self, data: bytes, position: int, messages: list[object]) -> None:
        """Take the rest of the chunk from `position` on."""
        end = len(data)
        streamer = self._streamer
        shifted = False
        # After a first message that was not plain the rest of the chunk gets another chance to be: once, so that cost
        # stays linear.
        again = True
        while position < end:
            if self._state == START and streamer.has_room(end - position):
                position, shifted = self._take_tokens(data, position, shifted, messages)
            if position < end:
                position, shifted = self._walk(data, position, shifted, messages)
            if again and messages and self._state == START and streamer.idle:
                again = False
                after = self._take_plain(data, position, messages)
                shifted = shifted and after == position
                position = after
        self._clean = self._state == START and streamer.idle
        if self._positions:
            self._advance(data, end)
            self._mark = 0

    def _take_tokens(self, data: bytes, position: int, shifted: bool, messages: list[object]) -> tuple[int, bool]:
        """Take whole tokens as long as there are any and nothing is wrong, with room for them all.

        Gives the offset after them and whether a token that begins there is `shifted` (see `_walk`).
        """
        streamer = self._streamer
        parser = streamer.parser
        feed = parser.feed
        tokens = streamer.tokens
        size = streamer.size
        kind = TOKEN_STRUCTURAL
        for found in TOKEN.finditer(data, position):
            kind = found.lastindex  # type: ignore[assignment]
            if kind == NO_TOKEN:
                # Maybe some whitespace was stepped over.
                shifted = shifted and found.end() == position
                position = found.end()
                break
            text = found[kind]
            tokens += 1
            size += len(text)
            try:
                complete = feed(kind, text)
            except (SyntaxFault, NestedTooDeep) as fault:
                streamer.tokens = tokens
                streamer.size = size
                item = streamer.complain(kind, text, fault)
                if item is not NOTHING:
                    start = found.start(kind)
                    messages.append(self._report(item, data, start, shifted and start == position))
                return found.end(), kind > TOKEN_STRING
            position = found.end()
            # Numbers and keywords have looked at the byte after them.
            shifted = kind > TOKEN_STRING
            if complete:
                messages.append(parser.value)
                parser.reset()
                tokens = size = 0
        streamer.tokens = tokens
        streamer.size = size
        return position, shifted

    def _walk(self, data: bytes, position: int, shifted: bool, messages: list[object]) -> tuple[int, bool]:
        """Take one token, or the part of it that is there, or what is skipped, a byte at a time.

        Gives the offset after it and whether a token that begins there is `shifted`: QEMU's column is one too high
        for a token whose first byte had been looked at before as the end of another (11.1: `[1,2}` complains at 1:6).
        """
        state = self._state
        partial = self._partial
        begin = position
        while True:
            after = run(state, data, position)
            if state == START:
                shifted = shifted and after == position
                begin = after
            position = after
            if state not in (START, RECOVERY) and len(partial) + position - begin > MAX_TOKEN_SIZE:
                position = begin + MAX_TOKEN_SIZE + 1 - len(partial)
                kind = TOKEN_TOO_LONG
                state = START
                shifted_next = False
                break
            if position == len(data):
                self._state = state
                if state not in (START, RECOVERY):
                    if self._positions and not partial:
                        self._advance(data, begin)
                        self._partial_where = (self._line, self._column + shifted)
                    partial += data[begin:]
                return position, False
            outcome = TRANSITIONS[state][data[position]]
            if outcome < ERROR:
                position += 1
                state = outcome
                continue
            if outcome == RESTART:
                self._state = START
                return position, True
            shifted_next = outcome >= ENDED
            if not shifted_next:
                position += 1
            if outcome == ERROR:
                kind = TOKEN_STRAY
                state = RECOVERY
            else:
                kind = outcome & 31
                state = START
            break
        self._state = state
        text = data[begin:position]
        where: tuple[int, int] | None = None
        if partial:
            partial += text
            text = bytes(partial)
            self._partial = partial = bytearray()
            where = self._partial_where
        item = self._streamer.take(kind, text)
        if item is not NOTHING:
            messages.append(self._report(item, data, begin, shifted, where))
        return position, shifted_next

    def _advance_message(self, data: bytes, text: bytes) -> None:
        """Have line and column be those after a chunk of one message `text` with no line break in it."""
        if data[-1] == _LINE_FEED and len(data) == len(text) + 1:
            self._line += 1
            self._column = 1
        else:
            self._advance(data, len(data))
            self._mark = 0

    def _advance(self, data: bytes, offset: int) -> None:
        """Have line and column be those of the byte at `offset`."""
        mark = self._mark
        newlines = data.count(b"\n", mark, offset)
        if newlines:
            self._line += newlines
            self._column = offset - data.rfind(b"\n", mark, offset)
        else:
            self._column += offset - mark
        self._mark = offset

    def _report(
        self, item: object, data: bytes, start: int, shifted: bool, where: tuple[int, int] | None = None
    ) -> object:
        """The message to give for what the streamer made of the token at `start` (or at `where`, in an older chunk)."""
        if not isinstance(item, Fault):
            return item
        text = item.text
        if self._positions and item.positioned:
            if where is None:
                self._advance(data, start)
                where = (self._line, self._column + shifted)
            text = b"%d:%d: %s" % (*where, text)
        return ParseError(decode_leniently(text))


# A number like 0e1 is no JSON to QEMU. The first pattern is quick, the second one sure.
_ZERO_EXPONENT_SOMEWHERE = re.compile(rb"0[eE]")
_ZERO_EXPONENT = re.compile(rb"[-:,\[ \t\r\n]0[eE]")


def _plain_messages(text: bytes) -> list[object] | None:
    """The messages in `text`, one a line, where orjson and QEMU read them alike without doubt; else None.

    `text` is ASCII, begins with no whitespace and ends with `}`.
    """
    newlines = text.count(b"\n")
    text = b"[%s]" % text.replace(b"\n", _MARK_BETWEEN)
    try:
        values: list[object] = loads(text)
        spelt = dumps(values)
    except (JSONDecodeError, JSONEncodeError):
        return None
    # All marks have to stand between messages, each message between marks.
    if len(values) != 2 * newlines + 1 or values[1::2].count(_MARK) != newlines:
        return None
    return values[::2] if spelt == text or _read_alike(text, spelt) else None


def _read_alike(text: bytes, spelt: bytes) -> bool:
    """Whether orjson, which writes as `spelt` what it read in `text`, has read what QEMU reads.

    A duplicate key shows as quotes that are missing, if no quote is escaped.
    """
    return (
        _BACKSLASH not in text
        and text.count(b'"') == spelt.count(b'"')
        and not (_ZERO_EXPONENT_SOMEWHERE.search(text) and _ZERO_EXPONENT.search(text))
    )
