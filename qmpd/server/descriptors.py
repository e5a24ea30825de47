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
    from typing import Self

    Ancillary = Iterable[tuple[int, int, bytes]]

_MOST = 16
"""Files that one message may bring, as in QEMU (TCP_MAX_FDS)."""
_ROOM = socket.CMSG_SPACE(_MOST * array.array("i").itemsize)
# Plain integers: what is done with the flags themselves takes longer than reading.
_CLOSE = int(socket.MSG_CMSG_CLOEXEC)
_LOOK = int(socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
_END = b"}"
"""No command ends before the first of these."""


_COMMAND = b'{"exec'
"""How commands begin."""


class FilesAhead(BlockingIOError):  # noqa: N818 - it says what is there
    """Files wait to be read, and what came before (`before`, and all that was read earlier) is to be executed first."""

    def __init__(self, before: bytes = b"") -> None:
        super().__init__(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.before = before


class DescriptorSocket(socket.socket):
    """A Unix socket that keeps the files that came with the latest bytes which brought any.

    `is_idle` says whether all that was read is executed, `received` are the files.
    """

    received: tuple[int, ...] = ()
    # The bytes and files that have come, and are to be read once what came before is executed.
    _rest: tuple[bytes, array.array[int]] | None = None
    # How often it is still looked whether files come; for ever once some have come.
    _looks: float = 1000
    is_idle: Callable[[], bool] | None = None

    @classmethod
    def adopt(cls, client: socket.socket) -> Self:
        """The same connection, of this kind."""
        adopted = cls(client.family, client.type, client.proto, client.detach())
        try:
            adopted.setblocking(False)
        except BaseException:
            adopted.close()
            raise
        return adopted

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive bytes, and the files that belong to them; with flags, which can only be to look at them, bytes alone.

        :raise FilesAhead: files come with them, or after them, and it is too early for that.
        """
        if flags:
            return super().recv(size, flags)
        if not self._looks:
            data, ancillary, _, _ = self.recvmsg(size, _ROOM, _CLOSE)
            return self._divided(data, _files(ancillary)) if ancillary else data
        if self._rest is not None:
            return self._take_rest()
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
        data, ancillary, _, _ = self.recvmsg(ahead.find(_END) + 1 or len(ahead), _ROOM, _CLOSE)
        self._keep(_files(ancillary))
        return data

    def _divided(self, data: bytes, files: array.array[int]) -> bytes:
        """Bytes among which the first files have come, as far as they go before these."""
        self._looks = math.inf
        place = max(0, data.rfind(_COMMAND))
        self._rest = data[place:], files
        if place:
            raise FilesAhead(data[:place])
        return self._take_rest()

    def _take_rest(self) -> bytes:
        assert self._rest is not None
        data, files = self._rest
        self._rest = None
        self._keep(files)
        return data

    def _keep(self, files: array.array[int]) -> None:
        """Keep the files that have come, and close those that came before."""
        self._looks = math.inf
        if files:
            self._drop()
            self.received = tuple(files)

    @property
    def rest(self) -> tuple[bytes, tuple[int, ...]]:
        """What has come and is to be read yet, and all files that nobody has taken, the latest ones where some wait."""
        return (b"", self.received) if self._rest is None else (self._rest[0], tuple(self._rest[1]))

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
        if self._rest is not None:
            self._take_rest()
        self._drop()
        super().close()


def _files(ancillary: Ancillary) -> array.array[int]:
    """The numbers of the files in what came beside bytes."""
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return found
