"""SIGTERM, SIGINT and SIGHUP end the machine, and the log says who sent them, as QEMU's does.

Python's own handlers are not told who sent a signal, so the signals are blocked and a thread waits for them.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def block() -> None:
    """Hold the signals back in every thread started from now on; call it before there is a second thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def watch(received: Callable[[int, int, str], None]) -> None:
    """Call `received(number, pid, name)` for each signal, from a thread of its own, until the process ends.

    `name` is the path of the sender's program, or `<unknown process>`.
    """

    def wait() -> None:
        while True:
            information = signal.sigwaitinfo(SIGNALS)
            received(information.si_signo, information.si_pid, program_of(information.si_pid))

    threading.Thread(target=wait, name="signals", daemon=True).start()


def program_of(pid: int) -> str:
    """The path of a process's program; `<unknown process>` where the system does not tell."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return "<unknown process>"
