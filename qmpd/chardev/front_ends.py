"""The machine's ends of character devices: what a device of the machine, and whoever plays its guest, hear and say.

What comes from outside waits here until it is taken; whoever serves the device reads no more than there is `room` for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 16
"""Bytes that wait to be taken."""


class FrontEnd:
    """The machine's end of one character device.

    `holds`: what comes waits for somebody to take it; `arrived` is told that there is something.  `unread`, where there
    is such, tells how many bytes fit while the guest does not read, None while it does: what comes then is lost where
    nobody holds it.  `blocked`: the client does not read.
    Whoever serves the device has `write` while it has a client, which is given what is said, and `resumed`, which is
    told that it is no longer full.
    """

    __slots__ = ("_pending", "arrived", "blocked", "early", "holds", "log", "resumed", "unread", "write")

    def __init__(self, unread: Callable[[], int | None] | None = None) -> None:
        self._pending = bytearray()
        self.holds = False
        self.blocked = False
        self.unread = unread
        self.arrived: Callable[[], None] | None = None
        self.write: Callable[[bytes], None] | None = None
        # What is said before the client is there, where one is to come for certain.
        self.early: bytearray | None = None
        # Takes what is said, whether or not there is a client.
        self.log: Callable[[bytes], None] | None = None
        self.resumed: Callable[[], None] | None = None

    @property
    def room(self) -> int:
        """How many bytes may be read from outside."""
        if self.blocked:
            return 0
        if self.holds:
            return max(MOST - len(self._pending), 0)
        most = None if self.unread is None else self.unread()
        if most is None:
            self._pending.clear()
            return MOST
        return max(most - len(self._pending), 0)

    @property
    def full(self) -> bool:
        """Whether no more is to be read from outside."""
        return self.room == 0

    def feed(self, data: bytes) -> None:
        """Bytes have come from outside."""
        if not self.holds and (self.unread is None or self.unread() is None):
            return
        self._pending += data
        if self.arrived is not None:
            self.arrived()

    def take(self) -> bytes:
        """Take what waits."""
        data, was_full = bytes(self._pending), self.full
        self._pending.clear()
        if was_full and self.resumed is not None:
            self.resumed()
        return data

    def unblock(self) -> None:
        """The client reads again."""
        if self.blocked:
            self.blocked = False
            if self.resumed is not None:
                self.resumed()

    def say(self, data: bytes) -> None:
        """Say something to the client; without one nobody hears it, but it is in the log."""
        if self.log is not None:
            self.log(data)
        if self.write is not None:
            self.write(data)
        elif self.early is not None:
            self.early += data[: MOST - len(self.early)]

    def attach(self, write: Callable[[bytes], None]) -> None:
        """There is a client, to whom `write` says something; what was said before it could come is said now."""
        self.write = write
        early, self.early = self.early, None
        if early:
            write(bytes(early))

    def left(self) -> None:
        """The client has left: what it said and nobody has taken is lost."""
        self.write = self.resumed = None
        self.blocked = False
        self._pending.clear()

    def snapshot(self) -> list[object]:
        """What waits, as plain data."""
        return [self.holds, self._pending.decode("latin-1")]

    def restore(self, state: list[object]) -> None:
        """Become what `snapshot` made this of."""
        holds, pending = state
        self.holds = bool(holds)
        self._pending[:] = str(pending).encode("latin-1")
