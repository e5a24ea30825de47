"""Writing where writing may take its time: a slow disk, a pipe that nobody reads, a terminal that was stopped.

The main loop hands over what is to be written and goes on; a thread writes it.  What waits is bounded: beyond the bound
nothing more is taken, which whoever hands it over has to tell.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH = 1 << 16
"""Bytes that are written at once, unless a single piece is larger."""


class Writer:
    """Writes pieces in their order, in a thread that begins with the first one.

    `error` is what has ended it: after that nothing is written any more.
    """

    __slots__ = (
        "_changed", "_closing", "_descriptor", "_most", "_open", "_owned", "_pieces", "_thread", "error", "waiting",
    )  # fmt: skip

    def __init__(
        self, descriptor: int | None, most: int, opening: Callable[[], int] | None = None, *, owned: bool = True
    ) -> None:
        """`most` bytes may wait, or a single piece.

        Without a descriptor `opening` gives it, in the thread.  It is closed in the end where it is `owned`.
        """
        self._owned = owned
        self._descriptor = descriptor
        self._open = opening
        self._most = most
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        # Bytes that are not written yet, those that are being written included.
        self.waiting = 0
        self.error: OSError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def relieved(self) -> bool:
        """Whether half of the room is free: then it is worth while to go on after something was left out."""
        return 2 * self.waiting <= self._most

    @property
    def descriptor(self) -> int | None:
        """The open file's number; None as long as it cannot be opened."""
        return self._descriptor

    def write(self, piece: bytes) -> bool:
        """Have `piece` written; False where it is not, because too much waits, or it cannot be."""
        with self._changed:
            if self.error is not None or self._closing:
                return False
            if self.waiting and self.waiting + len(piece) > self._most:
                return False
            if self._thread is None:
                # A daemon: one that is stuck in writing must not keep the process.
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()
            idle = not self.waiting
            self._pieces.append(piece)
            self.waiting += len(piece)
            if idle:
                self._changed.notify_all()
        return True

    def settle(self, patience: float) -> bool:
        """Wait until all is written, for `patience` seconds; whether it is, without an error."""
        end = time.monotonic() + patience
        with self._changed:
            while self.waiting and self.error is None:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return not self.waiting and self.error is None

    def close(self, patience: float) -> bool:
        """Take nothing more, and wait as `settle` does; the descriptor is closed when it is not used any more."""
        settled = self.settle(patience)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self._let_go()
        elif settled or self.error is not None:
            thread.join(patience)
        return settled

    def _run(self) -> None:
        try:
            if self._descriptor is None and self._open is not None:
                self._descriptor = self._open()
            while (batch := self._next()) is not None:
                left = memoryview(batch)
                while left:
                    left = left[_write(self._descriptor, left) :]  # type: ignore[arg-type]
                with self._changed:
                    self.waiting -= len(batch)
                    if not self.waiting:
                        self._changed.notify_all()
        except OSError as error:
            with self._changed:
                self.error = error
                self._pieces.clear()
                self._changed.notify_all()
        finally:
            self._let_go()

    def _next(self) -> bytes | None:
        """What is to be written next; None where there will be nothing more."""
        with self._changed:
            while not self._pieces:
                if self._closing:
                    return None
                self._changed.wait()
            taken = [self._pieces.popleft()]
            size = len(taken[0])
            while self._pieces and size + len(self._pieces[0]) <= _BATCH:
                taken.append(self._pieces.popleft())
                size += len(taken[-1])
        return b"".join(taken)

    def _let_go(self) -> None:
        with self._changed:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and self._owned:
            os.close(descriptor)


def _write(descriptor: int, data: memoryview) -> int:
    """Write some bytes; how many.  It waits, even where the descriptor does not."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            looking = select.poll()
            looking.register(descriptor, select.POLLOUT)
            looking.poll()
