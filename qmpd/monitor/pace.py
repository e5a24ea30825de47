"""How long the requests take that are executed in one pass of the main loop.

The time is looked at often where they take long, and seldom where they do not.
"""

from __future__ import annotations

from time import perf_counter, thread_time

LONG = 0.005
"""Seconds after which others are to have their turn."""

QUICK = 0.0005
"""Seconds between two looks where requests are executed quickly."""

FEW, MOST = 4, 32
"""Requests before the first look, and between two of them at most."""


class Pace:
    """One pass; it begins with the first look."""

    __slots__ = ("_began", "_busy", "_last", "_many")

    def __init__(self) -> None:
        self._began = self._last = perf_counter()
        self._busy = 0.0
        self._many = 1

    def look(self) -> int:
        """After how many requests to look again; 0 where they have taken long enough."""
        now = perf_counter()
        if now - self._began > LONG:
            # Perhaps it is the computer that is busy: from here on the processor's time counts, lest that change
            # anything.
            if not self._busy:
                self._busy = thread_time()
            elif thread_time() - self._busy > LONG:
                return 0
        self._many = min(self._many * 2, MOST) if now - self._last < QUICK else 1
        self._last = now
        return self._many
