"""SIGTERM, SIGINT and SIGHUP end the machine, and the log says who sent them, as QEMU's does.

Python's own handlers are not told who sent a signal, so the signals are blocked and a thread waits for them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


# Tells the thread to stop; a real-time signal, so it comes after those above.
_STOP = signal.SIGRTMIN

Signal = tuple[int, int, str]
"""A signal's number, the id of the process that sent it, and the path of that process's program."""


def block() -> None:
    """Hold the signals back in every thread started from now on; call it before there is a second thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, _STOP))


class Inbox:
    """The signals that have come, until somebody takes them; a thread of its own waits for them."""

    __slots__ = ("_notify", "_received", "_thread")

    def __init__(self, notify: Callable[[], None]) -> None:
        """Begin.  `notify` is called in the thread, after a signal was put in."""
        self._notify = notify
        self._received: deque[Signal] = deque()
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while True:
            information = signal.sigwaitinfo((*SIGNALS, _STOP))
            if information.si_signo == _STOP:
                return
            self._put(information)
            self._notify()

    def _put(self, information: signal.struct_siginfo) -> None:
        pid = information.si_pid
        self._received.append((information.si_signo, pid, program_of(pid)))

    def take(self) -> list[Signal]:
        """All that have come and were not taken yet."""
        taken = []
        while self._received:
            taken.append(self._received.popleft())
        return taken

    def close(self) -> None:
        """Stop waiting; what has come by now can still be taken."""
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, _STOP)
        self._thread.join()
        while (information := signal.sigtimedwait(SIGNALS, 0)) is not None:
            self._put(information)


def forget() -> None:
    """Drop the signals that wait to be taken by this process."""
    while signal.sigtimedwait(SIGNALS, 0) is not None:
        pass


def program_of(pid: int) -> str:
    """The path of a process's program; `<unknown process>` where the system does not tell."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return "<unknown process>"
