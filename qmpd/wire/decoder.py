"""The way in: bytes as they arrive, in any slicing, to messages.

An ordinary client's traffic is plain JSON, whole lines of it, and is read in one call (`plain`). From the first byte of
anything else a scanner reads, exactly, until it is done with what is not plain; an idle connection has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.wire.plain import PLAIN_SIZE, WHITESPACE, plain_message, plain_messages, take_plain

if TYPE_CHECKING:
    from qmpd.wire.scanner import Scanner

_LINE_FEED, _CLOSING_BRACE = b"\n}"


class Decoder:
    """Takes the bytes of one connection and gives the messages in them.

    `dialect` is "classic" (releases 5.2 to 10.0) or "positions" (11.1, whose errors begin with line and column).

    Memory: what the half-received message holds, and no more than 2^21 tokens of 64 MiB in sum, QEMU's limits.
    """

    __slots__ = ("_column", "_dialect", "_line", "_positions", "_scanner")

    def __init__(self, dialect: str = "classic") -> None:
        """:raise ValueError: there is no such dialect."""
        if dialect not in ("classic", "positions"):
            raise ValueError(f"unknown dialect {dialect!r}")
        self._dialect = dialect
        self._positions = dialect == "positions"
        self._scanner: Scanner | None = None
        # Of the next byte, counted from 1, in bytes, since the connection began (while there is no scanner, and where
        # the dialect has positions).
        self._line = 1
        self._column = 1

    @property
    def idle(self) -> bool:
        """Whether nothing is half received and nothing is being skipped."""
        return self._scanner is None

    def feed(self, data: bytes) -> list[object]:
        """Take the next bytes; give the messages that they complete, in order: JSON values and `ParseError`s.

        Every text is one that `encode` gives back as QEMU does. Cost is linear in the bytes fed, whatever came before.
        """
        plain = self.feed_plain(data)
        if plain is not None:
            return plain
        messages: list[object] = []
        position = 0
        scanner = self._scanner
        if scanner is None:
            from qmpd.wire.scanner import Scanner

            position = take_plain(data, 0, messages)
            scanner = Scanner(positions=self._positions, line=self._line, column=self._column)
        scanner.scan(data, position, messages)
        if scanner.idle:
            self._line = scanner.line
            self._column = scanner.column
            self._scanner = None
        else:
            self._scanner = scanner
        return messages

    def feed_plain(self, data: bytes) -> list[object] | None:
        """The same where the bytes are whole messages as clients spell them, which takes little time.

        Of any others nothing is taken, and the answer is None.
        """
        if self._scanner is not None:
            return None
        text = data.strip(WHITESPACE)
        if not (text and text[-1] == _CLOSING_BRACE and text.isascii() and len(text) < PLAIN_SIZE):
            return None
        plain: list[object] | None
        if _LINE_FEED not in text:
            try:
                plain = [plain_message(text)]
            except ValueError:
                # Perhaps these are several messages without a line break between them.
                text = text.replace(b"}{", b"}\n{")
                plain = plain_messages(text) if _LINE_FEED in text else None
        else:
            plain = plain_messages(text)
        if plain is not None and self._positions:
            self._advance(data)
        return plain

    def _advance(self, data: bytes) -> None:
        """Have line and column be those after `data`."""
        end = data.rfind(b"\n")
        if end < 0:
            self._column += len(data)
        else:
            self._line += data.count(b"\n")
            self._column = len(data) - end

    def snapshot(self) -> dict[str, object]:
        """All that the decoder knows, as a JSON object, for another process to go on with."""
        scanner = self._scanner
        if scanner is None:
            return {"dialect": self._dialect, "line": self._line, "column": self._column, "scanner": None}
        from qmpd.wire.snapshot import take_snapshot

        half = take_snapshot(scanner)
        return {"dialect": self._dialect, "line": scanner.line, "column": scanner.column, "scanner": half}

    @classmethod
    def restore(cls, snapshot: dict[str, Any]) -> Decoder:
        """A decoder that goes on where the one of the snapshot was.

        :raise KeyError: this is no snapshot of a decoder.
        """
        decoder = cls(snapshot["dialect"])
        decoder._line = snapshot["line"]
        decoder._column = snapshot["column"]
        if snapshot["scanner"] is not None:
            from qmpd.wire.snapshot import restore_snapshot

            decoder._scanner = restore_snapshot(
                snapshot["scanner"], positions=decoder._positions, line=decoder._line, column=decoder._column
            )
        return decoder
