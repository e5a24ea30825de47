"""An NBD server that stops answering when a test says so."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC, _OPTION, _ANSWER = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
_GO, _ACKNOWLEDGED, _INFORMATION, _UNKNOWN = 7, 1, 3, 0x80000001
_READ, _WRITE, _LEAVE = 0, 1, 2
_FLAGS = 1 | 1 << 2 | 1 << 5 | 1 << 6  # is there, takes flushes, discards and zeros


class StalledServer:
    """Exports `data`; once `stall` was called it answers nothing until `answer` is called.

    `waits` is set when somebody is not answered.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = bytearray(data)
        self.waits = threading.Event()
        self._may = threading.Event()
        self._may.set()
        self._clients: list[socket.socket] = []
        self._served = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self.waits.clear()
        self._may.clear()

    def answer(self) -> None:
        self._may.set()

    def lose(self) -> None:
        """Lose all connections."""
        for each in self._clients:
            each.shutdown(socket.SHUT_RDWR)

    def wait_until_alone(self) -> None:
        """Wait until nobody is connected.

        :raise AssertionError: somebody stays.
        """
        wait_until(lambda: not self._served)

    def close(self) -> None:
        self.answer()
        for each in (self._socket, *self._clients):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            self._served += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _pass(self) -> None:
        if not self._may.is_set():
            self.waits.set()
            self._may.wait(30)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as come:
                self._pass()
                client.sendall(_MAGIC + _OPTION + struct.pack(">H", 3))
                come.read(4)
                while self._take_option(client, come.read(16), come):
                    continue
                while self._take_request(client, come.read(28), come):
                    continue
        except (OSError, struct.error, ValueError):
            return
        finally:
            self._served -= 1

    def _take_option(self, client: socket.socket, head: bytes, come: object) -> bool:
        _, option, length = struct.unpack(">QII", head)
        come.read(length)  # type: ignore[attr-defined]
        self._pass()

        def say(kind: int, data: bytes = b"") -> None:
            client.sendall(struct.pack(">QIII", _ANSWER, option, kind, len(data)) + data)

        if option != _GO:
            say(_UNKNOWN)
            return True
        say(_INFORMATION, struct.pack(">HQH", 0, len(self.data), _FLAGS))
        say(_ACKNOWLEDGED)
        return False

    def _take_request(self, client: socket.socket, head: bytes, come: object) -> bool:
        _, _, kind, handle, offset, length = struct.unpack(">IHHQQI", head)
        data = come.read(length) if kind == _WRITE else b""  # type: ignore[attr-defined]
        if kind == _LEAVE:
            return False
        self._pass()
        if kind == _WRITE:
            self.data[offset : offset + length] = data
        answer = bytes(self.data[offset : offset + length]) if kind == _READ else b""
        client.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + answer)
        return True
