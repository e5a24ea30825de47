"""Standard output and standard error, which may be closed, or read by nobody: that is no error of the program."""

from __future__ import annotations

import os
import select
import sys


def complete_streams() -> None:
    """Open the standard streams that the process was started without, on the null device.

    Otherwise the first socket or file would get the number of one, and what is printed would go there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def tell(text: str) -> None:
    """Write to standard output at once; where that cannot be, it and all that follows is lost.

    What nobody reads is not waited for, either.
    """
    if not _takes_more(1):
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError):
        discard(1)


def _takes_more(number: int) -> bool:
    """Whether a few lines can be written without waiting for somebody to read what is there already."""
    looking = select.poll()
    looking.register(number, select.POLLOUT)
    return any(events & (select.POLLOUT | select.POLLERR | select.POLLNVAL) for _, events in looking.poll(0))


def discard(number: int) -> None:
    """Let all go nowhere that is written to standard output (1) or standard error (2), and what is still to be."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def finish(status: int, program: str) -> int:
    """Write what is still to be written; the exit status, which is 1 instead of 0 where that fails.

    That nobody reads it any more is no failure. (Python would end with status 120.)
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(2)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(1)
    except (OSError, ValueError) as error:
        discard(1)
        sys.stderr.write(f"{program}: standard output: {getattr(error, 'strerror', None) or error}\n")
        return status or 1
    return status
