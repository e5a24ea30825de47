"""Limits of how much is read and written: leaky buckets, as in QEMU's util/throttle.c."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECOND = 1_000_000_000
_KINDS = ("bps", "iops")


class Bucket:
    """One limit: `average` units a second, up to `peak` for `length` seconds where a peak is given."""

    __slots__ = ("average", "burst_level", "length", "level", "peak")

    def __init__(self, average: float, peak: float, length: float) -> None:
        self.average = average
        self.peak = peak
        self.length = length
        self.level = 0.0
        self.burst_level = 0.0

    def leak(self, nanoseconds: int) -> None:
        """So much time has passed."""
        self.level = max(self.level - self.average * nanoseconds / _SECOND, 0.0)
        if self.length > 1:
            self.burst_level = max(self.burst_level - self.peak * nanoseconds / _SECOND, 0.0)

    def wait(self) -> int:
        """For how many nanoseconds nothing may pass."""
        if not self.average:
            return 0
        size = self.peak * self.length if self.peak else self.average / 10
        extra = self.level - size
        if extra > 0:
            return int(extra * _SECOND / self.average)
        if self.length > 1:
            extra = self.burst_level - self.peak / 10
            if extra > 0:
                return int(extra * _SECOND / self.peak)
        return 0

    def fill(self, units: float) -> None:
        """So much passes."""
        self.level += units
        if self.length > 1:
            self.burst_level += units


class Gate:
    """The limits of one group, and the requests that wait at them, each kind in its order."""

    __slots__ = ("_buckets", "_last", "_limits", "_size", "waiting")

    def __init__(self, limits: Mapping[str, Any]) -> None:
        """`limits` are named as those of a throttle group, without `x-`: `bps-total`, `iops-read-max`, ..."""
        self._buckets = {
            (kind, way): Bucket(
                float(limits.get(f"{kind}-{way}") or 0),
                float(limits.get(f"{kind}-{way}-max") or 0),
                float(limits.get(f"{kind}-{way}-max-length") or 1),
            )
            for kind in _KINDS
            for way in ("total", "read", "write")
        }
        self._size = float(limits.get("iops-size") or 0)
        self._limits = dict(limits)
        self._last: int | None = None
        self.waiting: dict[str, deque[tuple[int, Callable[[], None]]]] = {"read": deque(), "write": deque()}

    def is_for(self, limits: Mapping[str, Any]) -> bool:
        """Whether these are its limits."""
        return self._limits == dict(limits)

    def wait(self, way: str, now: int) -> int:
        """For how many nanoseconds nothing may pass this way."""
        passed = 0 if self._last is None else max(0, now - self._last)
        self._last = now
        for bucket in self._buckets.values():
            bucket.leak(passed)
        return max(self._buckets[kind, which].wait() for kind in _KINDS for which in ("total", way))

    def enter(self, way: str, size: int) -> None:
        """A request of so many bytes passes."""
        operations = size / self._size if self._size and size > self._size else 1.0
        for which in ("total", way):
            self._buckets["bps", which].fill(size)
            self._buckets["iops", which].fill(operations)
