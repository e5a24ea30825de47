"""The exact way in: bytes to tokens to messages, by QEMU's rules and with its complaints.

Whole tokens are found by one pattern and go straight to the parser (`_take_tokens`). What is cut, bad, long, or to be
skipped is walked by the lexer's table (`_walk`).
"""

from __future__ import annotations

from qmpd.wire.errors import ParseError
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
from qmpd.wire.plain import take_plain
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


class Scanner:
    """Reads the chunks of a connection from where something came that was not plain until all is plain again."""

    __slots__ = ("_mark", "column", "line", "partial", "partial_where", "positions", "state", "streamer")

    def __init__(self, *, positions: bool, line: int, column: int) -> None:
        self.positions = positions
        self.streamer = PositionsStreamer() if positions else ClassicStreamer()
        self.state = START
        # The token that the last chunk ended in, and the line and column where it began.
        self.partial = bytearray()
        self.partial_where = (1, 1)
        # Line and column of the byte at offset _mark of the chunk at hand (kept where the dialect has positions).
        self.line = line
        self.column = column
        self._mark = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is half received and nothing is being skipped."""
        return self.state == START and self.streamer.idle

    def scan(self, data: bytes, position: int, messages: list[object]) -> None:
        """Take the rest of the chunk from `position` on."""
        end = len(data)
        streamer = self.streamer
        shifted = False
        # After a first message that was not plain the rest of the chunk gets another chance to be: once, so that cost
        # stays linear.
        again = True
        while position < end:
            if self.state == START and streamer.has_room(end - position):
                position, shifted = self._take_tokens(data, position, shifted, messages)
            if position < end:
                position, shifted = self._walk(data, position, shifted, messages)
            if again and messages and self.state == START and streamer.idle:
                again = False
                after = take_plain(data, position, messages)
                shifted = shifted and after == position
                position = after
        if self.positions:
            self._advance(data, end)
            self._mark = 0

    def _take_tokens(self, data: bytes, position: int, shifted: bool, messages: list[object]) -> tuple[int, bool]:
        """Take whole tokens as long as there are any and nothing is wrong, with room for them all.

        Gives the offset after them and whether a token that begins there is `shifted` (see `_walk`).
        """
        streamer = self.streamer
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
        state = self.state
        partial = self.partial
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
                self.state = state
                if state not in (START, RECOVERY):
                    if self.positions and not partial:
                        self._advance(data, begin)
                        self.partial_where = (self.line, self.column + shifted)
                    partial += data[begin:]
                return position, False
            outcome = TRANSITIONS[state][data[position]]
            if outcome < ERROR:
                position += 1
                state = outcome
                continue
            if outcome == RESTART:
                self.state = START
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
        self.state = state
        text = data[begin:position]
        where: tuple[int, int] | None = None
        if partial:
            partial += text
            text = bytes(partial)
            self.partial = partial = bytearray()
            where = self.partial_where
        item = self.streamer.take(kind, text)
        if item is not NOTHING:
            messages.append(self._report(item, data, begin, shifted, where))
        return position, shifted_next

    def _advance(self, data: bytes, offset: int) -> None:
        """Have line and column be those of the byte at `offset`."""
        mark = self._mark
        newlines = data.count(b"\n", mark, offset)
        if newlines:
            self.line += newlines
            self.column = offset - data.rfind(b"\n", mark, offset)
        else:
            self.column += offset - mark
        self._mark = offset

    def _report(
        self, item: object, data: bytes, start: int, shifted: bool, where: tuple[int, int] | None = None
    ) -> object:
        """The message to give for what the streamer made of the token at `start` (or at `where`, in an older chunk)."""
        if not isinstance(item, Fault):
            return item
        text = item.text
        if self.positions and item.positioned:
            if where is None:
                self._advance(data, start)
                where = (self.line, self.column + shifted)
            text = b"%d:%d: %s" % (*where, text)
        return ParseError(decode_leniently(text), stray=item.stray)
