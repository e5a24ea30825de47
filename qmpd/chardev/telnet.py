"""Telnet as a socket that listens speaks it to its clients, and the variant for terminals of type 3270.

Only what a client says is changed: its commands are taken out.  What the machine says goes out as it is, the byte 255,
too.  (QEMU's chardev/char-socket.c; tests/emulator/test_dialects.py asks the real program.)
"""

from __future__ import annotations

_COMMAND = 0xFF
_BREAK = 243
_END_OF_RECORD, _BEGIN, _END = 239, 250, 240
_NO_OPERATION, _INTERRUPT = 241, 244
_KEPT = frozenset({_END_OF_RECORD, _BEGIN, _END})
_SHORT = frozenset({_NO_OPERATION, _INTERRUPT})

# WILL ECHO, WILL SUPPRESS-GO-AHEAD, WILL and DO BINARY.
_GREETING = bytes.fromhex("fffb01 fffb03 fffb00 fffd00")
# DO and WILL END-OF-RECORD, DO and WILL BINARY, DO TERMINAL-TYPE, and a request for the terminal's type.
_GREETING_3270 = bytes.fromhex("fffd19 fffb19 fffd00 fffb00 fffd18 fffa1801fff0")


class Telnet:
    """One device's end.  Where a client leaves within a command the next one's first bytes are the rest of it."""

    __slots__ = ("_is_3270", "_place")

    def __init__(self, *, is_3270: bool) -> None:
        self._is_3270 = is_3270
        # How many bytes of a command have come.
        self._place = 0

    @property
    def greeting(self) -> bytes:
        """What each client is told first."""
        return _GREETING_3270 if self._is_3270 else _GREETING

    def read(self, data: bytes) -> bytes:
        """What a client says, without its commands."""
        if not self._place and _COMMAND not in data:
            return data
        plain = bytearray()
        for byte in data:
            if self._place == 0 and byte != _COMMAND:
                plain.append(byte)
            elif self._place == 1:
                self._place = self._second(byte, plain)
            else:
                # It begins, or its third byte is its last.
                self._place = 1 if self._place == 0 else 0
        return bytes(plain)

    def _second(self, byte: int, plain: bytearray) -> int:
        """A command's second byte; gives how many have come, 0 where it is complete."""
        if byte == _COMMAND:
            plain.append(byte)
        elif self._is_3270 and byte in _KEPT:
            plain += bytes((_COMMAND, byte))
        elif byte != _BREAK and not (self._is_3270 and byte in _SHORT):
            return 2
        return 0
