"""SIGTERM, SIGINT and SIGHUP end the machine, and the log says who sent them, as QEMU's does.

QEMU's signal handler leaves a request whatever the process is doing, so a signal goes before commands that were written
earlier and wait. Python's own handlers are not told who sent a signal; here the signals are blocked, and the main loop
asks for them at the start of each of its passes. A file descriptor tells when one has come while it waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Signal = tuple[int, int]
"""A signal's number, and the id of the process that sent it: 0 for the system itself, as with Ctrl-C."""

# The size of the C library's `sigset_t`, in bytes.
_SET_SIZE = 128


def block() -> None:
    """Hold the signals back in every thread started from now on; call it before there is a second thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        # One that is ignored would not wait, either. Like QEMU, a server does not heed what nohup and the like ignore.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class Inbox:
    """The signals that have come, until somebody takes them."""

    __slots__ = ("_descriptor", "_received")

    def __init__(self) -> None:
        """Begin.

        :raise OSError: the system has no descriptor left.
        """
        self._received: deque[Signal] = deque()
        self._descriptor = _open_descriptor()

    async def watch(self, notify: Callable[[], None]) -> None:
        """Wait for signals until `close`, and call `notify` when there are some to take."""
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                if self._collect():
                    notify()

    def _collect(self) -> bool:
        """Look for signals; whether there are some to take."""
        # The system hands out those that wait together in this order: the lowest number first.
        while (information := signal.sigtimedwait(SIGNALS, 0)) is not None:
            self._received.append((information.si_signo, information.si_pid))
        return bool(self._received)

    def take(self) -> list[Signal]:
        """All that have come and were not taken yet, in the order in which QEMU's handler would have run for them.

        Of signals that come while the process is stopped the one with the lowest number is handled last, and stays.
        """
        if not self._collect():
            return []
        taken = [*reversed(self._received)]
        self._received.clear()
        return taken

    def close(self) -> None:
        """Stop watching; what has come by now can still be taken."""
        self._collect()
        trio.lowlevel.notify_closing(self._descriptor)
        os.close(self._descriptor)


def _open_descriptor() -> int:
    """A descriptor that is readable while a signal waits (Linux's signalfd)."""
    import ctypes

    bits = sum(1 << (number - 1) for number in SIGNALS)
    library = ctypes.CDLL(None, use_errno=True)
    descriptor: int = library.signalfd(-1, bits.to_bytes(_SET_SIZE, "little"), os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def forget() -> None:
    """Drop the signals that wait to be taken by this process."""
    while signal.sigtimedwait(SIGNALS, 0) is not None:
        pass


def name_of(pid: int) -> str | None:
    """The name that a process was called by (its `argv[0]`); None where there is no such process any more.

    Empty where it has ended and waits for its parent, or is the system's own. This is what QEMU shows
    (`qemu_get_pid_name`).
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read().partition(b"\0")[0])
    except OSError:
        return None
