"""Connections to servers that disks are on (`qmpd.block.exports.client.Stream`)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

from qmpd.server.connecting import PATIENCE, connect_to
from qmpd.server.encryption import check_supported, client_context

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK = 1 << 20


class Connection:
    """A connected socket.  Threads wait for the server as long as it takes, the main one not for long."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def _be_patient(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self._socket.settimeout(PATIENCE if is_main else None)

    def send(self, data: bytes) -> None:
        """See `Stream`."""
        self._be_patient()
        self._socket.sendall(data)

    def receive(self, length: int) -> bytes:
        """See `Stream`."""
        self._be_patient()
        parts = []
        while length:
            part = self._socket.recv(min(length, _CHUNK))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def start_tls(self, credentials: Mapping[str, Any], hostname: str) -> None:
        """See `Stream`."""
        check_supported(credentials)
        self._be_patient()
        self._socket = client_context(credentials).wrap_socket(self._socket, server_hostname=hostname or None)

    def close(self, last: bytes = b"") -> None:
        """See `Stream`."""
        with contextlib.suppress(OSError, ValueError):
            if last and not isinstance(self._socket, ssl.SSLSocket):
                self._socket.send(last, socket.MSG_DONTWAIT)
            # Whoever waits in another thread is told.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def connect_server(address: Mapping[str, Any]) -> Connection:
    """Connect to a server (QAPI's SocketAddress; `fd` is a number).

    :raise Refusal: it cannot be reached.
    """
    return Connection(connect_to(address))
