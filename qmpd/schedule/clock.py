"""Clocks: where a machine takes its time from."""

from __future__ import annotations

import time
from typing import Protocol

SLOWEST, FASTEST = 0.000001, 1_000_000
"""The bounds of a scaled clock's factor: a second in eleven days, and the other way round."""


class Clock(Protocol):
    """What the core asks of a clock."""

    def wall_microseconds(self) -> int:
        """The time of day for an event's timestamp, in microseconds since the epoch."""

    def monotonic_nanoseconds(self) -> int:
        """A time that never goes back, in nanoseconds since some moment; timers are counted on it."""

    def real_seconds(self, nanoseconds: int) -> float | None:
        """How long the computer takes until `nanoseconds` more have passed here; None: it has to be advanced."""


class SystemClock:
    """The time of the computer that qmpd runs on."""

    __slots__ = ()

    def wall_microseconds(self) -> int:
        """The time of day, in microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic_nanoseconds(self) -> int:
        """`time.monotonic_ns`."""
        return time.monotonic_ns()

    def real_seconds(self, nanoseconds: int) -> float | None:
        """The same, in seconds."""
        return nanoseconds / 1e9


class ScaledClock:
    """The computer's time, `factor` times as fast: 60.0 lets a minute pass in each second, 0.5 half a second.

    `wall` (microseconds since the epoch) and `monotonic` (nanoseconds) are what it shows at first; both
    default to the computer's.  The factor may be changed at any time; what it shows does not jump then.

    :raise ValueError: the factor is beyond its bounds.
    """

    __slots__ = ("_factor", "_monotonic", "_since", "_wall")

    def __init__(self, factor: float, wall: int | None = None, monotonic: int | None = None) -> None:
        self._factor = _pace(factor)
        self._since = time.monotonic_ns()
        self._wall = time.time_ns() if wall is None else wall * 1000
        self._monotonic = self._since if monotonic is None else monotonic

    @property
    def factor(self) -> float:
        """Seconds of this clock in one of the computer's."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        factor = _pace(factor)
        passed = self._passed()
        self._since = time.monotonic_ns()
        self._wall += passed
        self._monotonic += passed
        self._factor = factor

    def advance(self, nanoseconds: int) -> None:
        """Let `nanoseconds` of this clock pass at once.

        :raise ValueError: the number is negative.
        """
        if nanoseconds < 0:
            raise ValueError("a clock does not go back")
        self._monotonic += nanoseconds
        self._wall += nanoseconds

    def _passed(self) -> int:
        return int((time.monotonic_ns() - self._since) * self._factor)

    def wall_microseconds(self) -> int:
        """The scaled time of day, in microseconds since the epoch."""
        return (self._wall + self._passed()) // 1000

    def monotonic_nanoseconds(self) -> int:
        """The scaled monotonic time, in nanoseconds."""
        return self._monotonic + self._passed()

    def real_seconds(self, nanoseconds: int) -> float | None:
        """The same in seconds, divided by the factor."""
        return nanoseconds / 1e9 / self._factor


class VirtualClock:
    """A clock that stands still until it is advanced.

    It starts at `wall` (microseconds since the epoch; a whole second, so that two runs have the same
    timestamps) and at `monotonic` nanoseconds.
    """

    __slots__ = ("_monotonic", "_wall")

    def __init__(self, wall: int = 1_700_000_000_000_000, monotonic: int = 0) -> None:
        self._wall = wall * 1000
        self._monotonic = monotonic

    def advance(self, nanoseconds: int) -> None:
        """Let `nanoseconds` pass.

        :raise ValueError: the number is negative.
        """
        if nanoseconds < 0:
            raise ValueError("a clock does not go back")
        self._monotonic += nanoseconds
        self._wall += nanoseconds

    def wall_microseconds(self) -> int:
        """The virtual time of day, in microseconds since the epoch."""
        return self._wall // 1000

    def monotonic_nanoseconds(self) -> int:
        """The virtual monotonic time, in nanoseconds."""
        return self._monotonic

    def real_seconds(self, nanoseconds: int) -> float | None:
        """None: this clock waits for `advance`."""
        return None


class SteppedClock:
    """The clock of a machine under `-accel qtest`: the time of day is the computer's, its own time is stepped."""

    __slots__ = ("_monotonic",)

    def __init__(self) -> None:
        self._monotonic = 0

    def advance(self, nanoseconds: int) -> None:
        """Let `nanoseconds` of the machine's own time pass."""
        self._monotonic += nanoseconds

    def wall_microseconds(self) -> int:
        """The time of day, in microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic_nanoseconds(self) -> int:
        """The machine's own time, in nanoseconds."""
        return self._monotonic

    def real_nanoseconds(self) -> int:
        """`time.monotonic_ns`: the computer's time goes on."""
        return time.monotonic_ns()

    def real_seconds(self, nanoseconds: int) -> float | None:
        """None, unless no time has to pass."""
        return 0.0 if nanoseconds <= 0 else None


def _pace(factor: float) -> float:
    if not SLOWEST <= factor <= FASTEST:
        raise ValueError(f"a clock's factor is a positive number, from {SLOWEST:f} to {FASTEST}")
    return float(factor)
