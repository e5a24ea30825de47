"""A client of the soak: a socket, and all that has come from it."""

from __future__ import annotations

import array
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = str | tuple[str, int]

PATIENCE = 30.0
"""Seconds after which something that has to come counts as lost."""

TCP_ROOM = 60_000
"""Bytes that a TCP client has at least for what it has not read."""

EVENT = b'{"timestamp"'
END = b"\r\n"


class Lost(Exception):  # noqa: N818 (of a message, not of this program)
    """What had to come did not."""


class Client:
    """A connection.  `inbox` is what came since it was last taken; `at_end` whether the server has closed.

    `sip` is the most that is read at once, and `pause` the seconds between two reads: a client that takes its time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.address: Address = ""
        self.inbox = bytearray()
        self.at_end = False
        self.negotiated = False
        self.out_of_band = False
        self.sip = 1 << 16
        self.pause = 0.0
        # How much of the inbox has been counted, and how many whole lines that are no events were in it.
        self._counted = 0
        self._replies = 0

    async def connect(self, address: Address, room: int = 0) -> None:
        """Connect to a Unix socket, or to a host's port; where so many wait to be let in that there is no place in the
        queue, wait for one.

        With `room` the client has about so many bytes for what it has not read: the server's sends are partial.

        :raise OSError: nobody listens.
        :raise Lost: nobody is let in.
        """
        self.address = address
        if not isinstance(address, str):
            self.socket.close()
            self.socket = socket.socket(socket.AF_INET)
            # With less the system itself takes its time over each packet.
            room = max(room, TCP_ROOM) if room else 0
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        deadline = trio.current_time() + PATIENCE
        while True:
            try:
                self.socket.connect(address)
                break
            except BlockingIOError:
                if trio.current_time() > deadline:
                    raise Lost(f"{self.name} is not let in") from None
                await trio.sleep(0.005)
        self.socket.setblocking(False)

    async def send(self, data: bytes) -> None:
        """Send everything; what the server does not want to read any more is dropped."""
        with suppress(OSError):
            while data:
                try:
                    data = data[self.socket.send(data) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.socket)

    async def send_files(self, data: bytes, files: Sequence[int]) -> None:
        """Send everything, and open files with the first byte (SCM_RIGHTS)."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        while True:
            try:
                sent = self.socket.sendmsg([data], rights)
                break
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)
        await self.send(data[sent:])

    async def receive(self) -> None:
        """Wait for more, or for the end."""
        if self.pause:
            await trio.sleep(self.pause)
        await trio.lowlevel.wait_readable(self.socket)
        try:
            data = self.socket.recv(self.sip)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.inbox += data
        self.at_end = not data

    @property
    def replies(self) -> int:
        """How many whole lines in the inbox are no events."""
        while (end := self.inbox.find(END, self._counted)) >= 0:
            self._replies += not self.inbox.startswith(EVENT, self._counted)
            self._counted = end + len(END)
        return self._replies

    async def until(self, what: bytes, count: int = 1) -> None:
        """Wait until `what` has come `count` times, or the server has closed.

        :raise Lost: neither happens.
        """
        with trio.move_on_after(PATIENCE) as scope:
            while not self.at_end and self.inbox.count(what) < count:
                await self.receive()
        if scope.cancelled_caught:
            raise Lost(f"{self.name} waits for {what!r}")

    async def until_replies(self, count: int) -> None:
        """Wait until so many lines that are no events are in the inbox, or the server has closed.

        :raise Lost: neither happens.
        """
        while not self.at_end and self.replies < count:
            with trio.move_on_after(PATIENCE) as scope:
                await self.receive()
            if scope.cancelled_caught:
                raise Lost(f"{self.name} waits for reply {self.replies + 1} of {count} after {self.inbox[-300:]!r}")

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
        self._counted = self._replies = 0
        return data

    def half_close(self) -> None:
        """Send nothing more."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Be gone."""
        self.at_end = True
        if self.socket.fileno() != -1:
            with suppress(RuntimeError):
                trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def reset(self) -> None:
        """Be gone at once, whatever was under way: over TCP that is a reset instead of an end."""
        if self.socket.fileno() != -1:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def same_file(left: int, right: str) -> bool:
    """Whether an open file of this process is the one at a path (of /proc, of another process's)."""
    try:
        ours, theirs = os.fstat(left), os.stat(right)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
