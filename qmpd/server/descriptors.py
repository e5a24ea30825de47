"""A client's socket on which open files may come along with the bytes (SCM_RIGHTS).

QEMU reads one byte at a time, and not before it has executed what it has read, so a command takes files that came with
its own bytes or with those before it, never with those behind.  Here bytes are read as many as there are, as long as no
files wait among them, which takes a look beforehand; where some do, one command is read and executed after another.
"""

from __future__ import annotations

import array
import errno
import math
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Ancillary = Iterable[tuple[int, int, bytes]]

_MOST = 16
"""Files that one message may bring, as in QEMU (TCP_MAX_FDS)."""
_ROOM = socket.CMSG_SPACE(_MOST * array.array("i").itemsize)
_LOOK = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
_END = b"}"
"""No command ends before the first of these."""


class FilesAhead(BlockingIOError):  # noqa: N818 - it says what is there
    """Files wait to be read, and what came before is not executed yet."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, os.strerror(errno.EAGAIN))


class DescriptorSocket(socket.socket):
    """A Unix socket that keeps the files that came with the latest bytes which brought any.

    `is_idle` says whether all that was read is executed, `received` are the files.
    """

    received: tuple[int, ...] = ()
    # How often it is still looked whether files come; for ever once some have come.
    _looks: float = 1000
    is_idle: Callable[[], bool] | None = None

    @classmethod
    def adopt(cls, client: socket.socket) -> DescriptorSocket:
        """The same connection, of this kind."""
        adopted = cls(client.family, client.type, client.proto, client.detach())
        adopted.setblocking(False)
        return adopted

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive bytes, and the files that belong to them.

        :raise FilesAhead: files come with them, or after them, and it is too early for that.
        """
        if flags & socket.MSG_PEEK:
            return super().recv(size, flags)
        if not self._looks:
            data, ancillary, _, _ = self.recvmsg(size, _ROOM, socket.MSG_CMSG_CLOEXEC)
            if ancillary:
                self._keep(ancillary)
            return data
        ahead, ancillary, _, _ = self.recvmsg(size, _ROOM, _LOOK)
        if not ancillary:
            self._looks -= 1
            # No more than was looked at.
            return super().recv(len(ahead) or size)
        # The system has opened them for the look.
        for number in _files(ancillary):
            os.close(number)
        if self.is_idle is not None and not self.is_idle():
            raise FilesAhead
        # A look does not tell before which byte they come.
        data, ancillary, _, _ = self.recvmsg(ahead.find(_END) + 1 or len(ahead), _ROOM, socket.MSG_CMSG_CLOEXEC)
        self._keep(ancillary)
        return data

    def _keep(self, ancillary: Ancillary) -> None:
        """Keep the files that have come, and close those that came before."""
        self._looks = math.inf
        found = _files(ancillary)
        if found:
            self._drop()
            self.received = tuple(found)

    def take_descriptor(self) -> int | None:
        """The first file that came with the latest bytes that brought any, the others being closed; None without one.

        Each is handed out once, and the caller closes it.
        """
        if not self.received:
            return None
        first, *others = self.received
        self.received = tuple(others)
        self._drop()
        return first

    def _drop(self) -> None:
        for number in self.received:
            os.close(number)
        self.received = ()

    def close(self) -> None:
        """Close the socket, and the files that nobody has taken."""
        self._drop()
        super().close()


def _files(ancillary: Ancillary) -> array.array[int]:
    """The numbers of the files in what came beside bytes."""
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return found
