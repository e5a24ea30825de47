"""Packets of GDB's remote serial protocol: bytes to packets and back, without any input or output.

A packet is `$CONTENT#SUM`, the sum of the content's bytes modulo 256 in two hexadecimal digits.  In the content `}`
stands before a byte that is xored with 0x20, and `*` before one that says how often the last byte is repeated
(`x - 29` times more).  The receiver acknowledges each with `+`, or asks for it again with `-` ("Debugging with GDB",
appendix "GDB Remote Serial Protocol", section "Overview").

How damaged packets are read is QEMU's way: digits of a sum that are none are dropped and the content goes on, a
content that is too long ends the packet, and a repetition that says no number is dropped.
"""

from __future__ import annotations

import enum
import re

ACKNOWLEDGED, REFUSED = b"+", b"-"
INTERRUPT = 0x03
"""What a debugger sends, outside of a packet, to stop a machine that runs."""

_PLAIN = re.compile(rb"[^#}*]*")
_START, _END, _ESCAPE, _REPEAT = ord("$"), ord("#"), ord("}"), ord("*")
_ESCAPED = frozenset(b"#$*}")
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_FIRST_COUNT, _LAST_COUNT = ord(" "), ord("~")
_COUNT_OFFSET = _FIRST_COUNT - 3


class _Reading(enum.Enum):
    """What comes next."""

    NOTHING = enum.auto()
    CONTENT = enum.auto()
    ESCAPED = enum.auto()
    COUNT = enum.auto()
    FIRST_DIGIT = enum.auto()
    SECOND_DIGIT = enum.auto()


class Damaged:
    """A packet whose sum is wrong."""


DAMAGED = Damaged()


class PacketReader:
    """Puts packets together."""

    __slots__ = ("_content", "_digit", "_limit", "_reading", "_sum")

    def __init__(self, size: int) -> None:
        """`size`: the most bytes that a packet's content may have, and one more."""
        self._limit = size - 1
        self._content = bytearray()
        self._reading = _Reading.NOTHING
        self._sum = 0
        self._digit = 0

    def feed(self, data: bytes, at: int = 0) -> tuple[bytes | Damaged | None, int]:
        """Take bytes, from `at` on, until a packet ends; gives its content, and how far it came.

        Where none ends the content is None, and all was taken.
        """
        while at < len(data):
            if self._reading is _Reading.CONTENT:
                at = self._take_plain(data, at)
                if at == len(data):
                    break
            found = self._take(data[at])
            at += 1
            if found is not None:
                return found, at
        return None, at

    def _take_plain(self, data: bytes, at: int) -> int:
        """Take what stands for itself; gives how far it came."""
        match = _PLAIN.match(data, at)
        assert match is not None
        part = match[0]
        if len(self._content) + len(part) > self._limit:
            # The byte that is too much is dropped, and what follows it is no packet.
            self._reading = _Reading.NOTHING
            return at + self._limit - len(self._content) + 1
        self._content += part
        self._sum += sum(part)
        return match.end()

    def _take(self, byte: int) -> bytes | Damaged | None:
        reading = self._reading
        if reading is _Reading.CONTENT:
            self._take_mark(byte)
        elif reading is _Reading.NOTHING:
            if byte == _START:
                self._content.clear()
                self._sum = 0
                self._reading = _Reading.CONTENT
        elif reading is _Reading.ESCAPED:
            self._take_escaped(byte)
        elif reading is _Reading.COUNT:
            self._take_count(byte)
        elif byte not in _DIGITS:
            self._reading = _Reading.CONTENT
        elif reading is _Reading.FIRST_DIGIT:
            self._digit = byte
            self._reading = _Reading.SECOND_DIGIT
        else:
            return self._finish(byte)
        return None

    def _finish(self, byte: int) -> bytes | Damaged:
        self._reading = _Reading.NOTHING
        if int(bytes((self._digit, byte)), 16) != self._sum & 0xFF:
            return DAMAGED
        # QEMU looks at it as at a string.
        return bytes(self._content.partition(b"\0")[0])

    def _take_mark(self, byte: int) -> None:
        """Take a byte that says what follows."""
        if byte == _END:
            self._reading = _Reading.FIRST_DIGIT
        elif byte in (_ESCAPE, _REPEAT):
            self._reading = _Reading.ESCAPED if byte == _ESCAPE else _Reading.COUNT
            self._sum += byte

    def _take_escaped(self, byte: int) -> None:
        if byte == _END:
            self._reading = _Reading.FIRST_DIGIT
        elif len(self._content) >= self._limit:
            self._reading = _Reading.NOTHING
        else:
            self._content.append(byte ^ 0x20)
            self._sum += byte
            self._reading = _Reading.CONTENT

    def _take_count(self, byte: int) -> None:
        self._reading = _Reading.CONTENT
        if not _FIRST_COUNT <= byte <= _LAST_COUNT or byte in (_END, _START):
            return
        count = byte - _COUNT_OFFSET
        if len(self._content) + count >= self._limit:
            self._reading = _Reading.NOTHING
        elif self._content:
            self._content += self._content[-1:] * count
            self._sum += byte


def packet(content: bytes) -> bytes:
    """The packet with this content."""
    return b"$%b#%02x" % (content, sum(content) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary data as a packet's content has it."""
    if not _ESCAPED.intersection(data):
        return data
    return b"".join(b"}%c" % (byte ^ 0x20) if byte in _ESCAPED else bytes((byte,)) for byte in data)
