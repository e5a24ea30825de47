"""What the machine says to the client of a character device, as fast as the client reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket

    from qmpd.chardev.front_ends import FrontEnd

MOST = 1 << 20
"""Bytes that are owed to a client before no more is read from it."""


class Outlet:
    """The way out to one client of a front end."""

    __slots__ = ("_client", "_end", "_nursery", "_owed", "_sends")

    def __init__(self, client: socket.socket, end: FrontEnd, nursery: trio.Nursery) -> None:
        self._client = client
        self._end = end
        self._nursery = nursery
        self._owed = bytearray()
        self._sends = False
        end.attach(self.say)

    def say(self, data: bytes) -> None:
        """Send bytes, now or once the client reads."""
        self._owed += data
        if self._sends:
            return
        self._send()
        if self._owed:
            self._sends = True
            self._end.blocked = len(self._owed) >= MOST
            self._nursery.start_soon(self._go_on)

    def _send(self) -> None:
        try:
            del self._owed[: self._client.send(self._owed)]
        except BlockingIOError:
            return
        except OSError:
            self._owed.clear()  # it has turned away, which reading will find

    async def _go_on(self) -> None:
        try:
            while self._owed:
                await trio.lowlevel.wait_writable(self._client)
                self._send()
        except (OSError, trio.ClosedResourceError):
            self._owed.clear()
        self._sends = False
        self._end.unblock()
