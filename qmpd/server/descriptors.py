"""A client's socket on which open files may come along with the bytes (SCM_RIGHTS)."""

from __future__ import annotations

import array
import os
import socket

_MOST = 16
"""Files that one message may bring, as in QEMU (TCP_MAX_FDS)."""
_ROOM = socket.CMSG_SPACE(_MOST * array.array("i").itemsize)


class DescriptorSocket(socket.socket):
    """A Unix socket that keeps the files that came with the latest bytes which brought any."""

    _received: tuple[int, ...] = ()

    @classmethod
    def adopt(cls, client: socket.socket) -> DescriptorSocket:
        """The same connection, of this kind."""
        adopted = cls(client.family, client.type, client.proto, client.detach())
        adopted.setblocking(False)
        return adopted

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive bytes, and the files that belong to them."""
        data, ancillary, _, _ = self.recvmsg(size, _ROOM, flags | socket.MSG_CMSG_CLOEXEC)
        if ancillary and not flags & socket.MSG_PEEK:
            received = array.array("i")
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received.frombytes(content[: len(content) - len(content) % received.itemsize])
            self._drop()
            self._received = tuple(received)
        return data

    def take_descriptor(self) -> int | None:
        """The first file that came with the latest bytes that brought any, the others being closed; None without one.

        Each is handed out once, and the caller closes it.
        """
        if not self._received:
            return None
        first, *others = self._received
        self._received = tuple(others)
        self._drop()
        return first

    def _drop(self) -> None:
        for number in self._received:
            os.close(number)
        self._received = ()

    def close(self) -> None:
        """Close the socket, and the files that nobody has taken."""
        self._drop()
        super().close()
