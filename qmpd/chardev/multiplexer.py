"""One character device that several share: who has the focus, and the keys that change it.

What comes from outside goes to the one that has the focus; what any of them says goes out.  After the escape character
(C-a unless `-echr` says otherwise) a key is a command.  (QEMU's chardev/char-mux.c.)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MUX = "mux"
"""The kind of a device that is shared, and what query-chardev calls it."""

MOST = 4
"""Users that a device may have."""

FAREWELL = b"QEMU: Terminated\n\r"
ESCAPE = 1
_HELP = (
    b"%k h    print this help\n\r"
    b"%k x    exit emulator\n\r"
    b"%k s    save disk data back to file (if -snapshot)\n\r"
    b"%k t    toggle console timestamps\n\r"
    b"%k b    send break (magic sysrq)\n\r"
    b"%k c    switch between console and monitor\n\r"
    b"%k %k  sends %k\n\r"
)
_LETTERS = 26
_MILLISECONDS = 1_000_000


class Key(enum.Enum):
    """What keys after the escape character ask for."""

    SWITCH = "c"
    END = "x"
    COMMIT = "s"
    BREAK = "b"
    HELP = "h?"


_KEYS = {key: each for each in Key for key in each.value}


class Multiplexer:
    """The state of a device that `users` share; the last one to come has the focus at first.

    `now` is a time in nanoseconds, which the time stamps count on.
    """

    __slots__ = ("_at_line_start", "_escape", "_escaped", "_now", "_stamps", "_stamps_since", "focus", "users")

    def __init__(self, users: int, escape: int, now: Callable[[], int]) -> None:
        self.users = users
        self.focus = max(users - 1, 0)
        self._escape = escape
        self._now = now
        # Whether the escape character has come, and what it escapes has not.
        self._escaped = False
        self._stamps = False
        self._stamps_since: int | None = None
        self._at_line_start = False

    def read(self, data: bytes) -> Iterator[bytes | Key]:
        """Go through what comes from outside: what is for the one with the focus, and the keys.

        What is asked for is to be done before the next is taken.
        """
        plain = bytearray()
        for byte in data:
            if not self._escaped:
                if byte == self._escape:
                    self._escaped = True
                else:
                    plain.append(byte)
                continue
            self._escaped = False
            if byte == self._escape:
                plain.append(byte)
                continue
            if plain:
                yield bytes(plain)
                plain.clear()
            key = chr(byte)
            if key == "t":
                self._stamps, self._stamps_since, self._at_line_start = not self._stamps, None, False
            elif key in _KEYS:
                yield _KEYS[key]
        if plain:
            yield bytes(plain)

    def help(self) -> bytes:
        """What the key for help prints."""
        if 0 < self._escape < _LETTERS:
            return b"\n\r" + _HELP.replace(b"%k", b"C-%c" % (self._escape - 1 + ord("a")))
        return b"\n\rEscape-Char set to Ascii: 0x%02x\n\r\n\r" % self._escape + _HELP.replace(b"%k", b"Escape-Char")

    def switch(self) -> int:
        """Give the focus to the next one; gives who that is."""
        self.focus = (self.focus + 1) % max(self.users, 1)
        return self.focus

    def write(self, data: bytes) -> bytes:
        """What goes out where one of them says this: each line has the time in front of it, where that is asked for."""
        if not self._stamps:
            return data
        result = bytearray()
        for byte in data:
            if self._at_line_start:
                result += self._stamp()
            result.append(byte)
            self._at_line_start = byte == ord("\n")
        return bytes(result)

    def _stamp(self) -> bytes:
        now = self._now() // _MILLISECONDS
        if self._stamps_since is None:
            self._stamps_since = now
        seconds, milliseconds = divmod(now - self._stamps_since, 1000)
        minutes, seconds = divmod(seconds, 60)
        return b"[%02d:%02d:%02d.%03d] " % (minutes // 60, minutes % 60, seconds, milliseconds)
