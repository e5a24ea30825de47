"""The limit of a job's speed: so many bytes in each slice of time.  (QEMU's include/qemu/ratelimit.h.)"""

from __future__ import annotations

_SLICE = 100_000_000
_SECOND = 1_000_000_000


class RateLimit:
    """Times are in nanoseconds, sizes in bytes.  What passes first is never delayed, however much it is."""

    __slots__ = ("_dispatched", "_end", "_quota", "_start")

    def __init__(self) -> None:
        self._quota = 0
        self._start = self._end = self._dispatched = 0

    def set_speed(self, speed: int) -> None:
        """Let `speed` bytes pass in a second; any number where it is 0."""
        self._quota = max(speed * _SLICE // _SECOND, 1) if speed else 0

    def delay(self, now: int, size: int = 0) -> int:
        """`size` bytes pass at `now`; for how long nothing may follow them."""
        if not self._quota:
            return 0
        # Who has slept until the end of a slice wakes a little later.
        if self._end <= now:
            self._start, self._end, self._dispatched = now, now + _SLICE, 0
        self._dispatched += size
        if self._dispatched < self._quota:
            return 0
        self._end = self._start + int(self._dispatched / self._quota * _SLICE)
        return self._end - now
