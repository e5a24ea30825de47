"""A way between two machines that can be cut, at a byte."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Way:
    """Whoever connects to the socket `entrance` is led to the one at `target`, until it is cut.

    `passed` are the bytes that went either way.  With `limit` it is cut after so many; what went before arrives.
    """

    def __init__(self, entrance: str, target: str, limit: int | None = None) -> None:
        """:raise OSError: there can be no such socket."""
        self.passed = 0
        self._target = target
        self._limit = limit
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._made: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(entrance)
        self._listener.listen()
        self._begin(self._serve)

    def _begin(self, task: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            self._made += [here, there]
            if there.connect_ex(self._target):
                here.shutdown(socket.SHUT_RDWR)
                continue
            with self._lock:
                self._open += [here, there]
            self._begin(self._pass_on, here, there)
            self._begin(self._pass_on, there, here)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                with self._lock:
                    left = len(data) if self._limit is None else max(0, self._limit - self.passed)
                    piece = data[:left]
                    self.passed += len(piece)
                    if piece:
                        other.sendall(piece)
                if len(piece) < len(data):
                    break
        if self._limit is not None and self.passed >= self._limit:
            self.cut()
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut what is connected."""
        with self._lock:
            cut, self._open = self._open, []
        for each in cut:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lead nobody any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for each in self._made:
            each.close()
