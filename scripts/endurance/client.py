"""A client of the soak: a socket, and all that has come from it."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

PATIENCE = 30.0
"""Seconds after which something that has to come counts as lost."""


class Lost(Exception):  # noqa: N818 (of a message, not of this program)
    """What had to come did not."""


class Client:
    """A connection.  `inbox` is what came since it was last taken; `at_end` whether the server has closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.inbox = bytearray()
        self.at_end = False
        self.negotiated = False
        self.out_of_band = False

    def connect(self, path: str) -> None:
        """Connect; OSError where nobody listens."""
        self.socket.connect(path)

    async def send(self, data: bytes) -> None:
        """Send everything; what the server does not want to read any more is dropped."""
        with suppress(OSError):
            while data:
                try:
                    data = data[self.socket.send(data) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.socket)

    async def receive(self) -> None:
        """Wait for more, or for the end."""
        await trio.lowlevel.wait_readable(self.socket)
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.inbox += data
        self.at_end = not data

    async def until(self, what: bytes, count: int = 1) -> None:
        """Wait until `what` has come `count` times, or the server has closed.

        :raise Lost: neither happens.
        """
        with trio.move_on_after(PATIENCE) as scope:
            while not self.at_end and self.inbox.count(what) < count:
                await self.receive()
        if scope.cancelled_caught:
            raise Lost(f"{self.name} waits for {what!r}")

    async def until_end(self) -> None:
        """Wait until the server has closed.

        :raise Lost: it does not.
        """
        with trio.move_on_after(PATIENCE) as scope:
            while not self.at_end:
                await self.receive()
        if scope.cancelled_caught:
            raise Lost(f"{self.name} waits for the end")

    def take(self) -> str:
        """What has come."""
        data = self.inbox.decode("latin-1")
        self.inbox.clear()
        return data

    def half_close(self) -> None:
        """Send nothing more."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Be gone."""
        if self.socket.fileno() != -1:
            with suppress(RuntimeError):
                trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
