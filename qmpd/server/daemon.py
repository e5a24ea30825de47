"""`-daemonize`: the program goes on in the background, and whoever called it waits until it can be talked to."""

from __future__ import annotations

import os
from typing import NoReturn


class Daemon:
    """The background side of a program that has forked; the other side waits for `ready` or for the end."""

    __slots__ = ("_tell",)

    def __init__(self) -> None:
        """Go to the background: this returns there only.  The caller's process ends with what becomes of it."""
        hear, self._tell = os.pipe()
        if os.fork() > 0:
            os.close(self._tell)
            _wait(hear)
        os.close(hear)
        os.setsid()
        # The process that leads the session could come by a terminal again; its child cannot.
        if os.fork() > 0:
            os._exit(0)
        os.umask(0o027)

    def ready(self, keep_errors: bool = False) -> None:
        """Let the caller go, and let go of its folder and its terminal."""
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1) if keep_errors else (0, 1, 2):
            os.dup2(null, number)
        os.close(null)
        os.write(self._tell, b"\0")
        os.close(self._tell)


def _wait(hear: int) -> NoReturn:
    """End as the background side does: well once it is ready, badly where it ends before."""
    while True:
        try:
            os._exit(0 if os.read(hear, 1) else 1)
        except InterruptedError:
            continue
