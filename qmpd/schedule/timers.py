"""Timers on a machine's own time, which stands still while the machine is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.schedule.clock import Clock


class Timers:
    """A few named timers, counted in nanoseconds of the machine's time (QEMU's `QEMU_CLOCK_VIRTUAL`).

    The time starts at 0, stopped.  A timer is known by its name: setting it again moves it.  Of timers that
    are due at the same moment the one set first comes first.
    """

    __slots__ = ("_clock", "_deadlines", "_offset", "_stopped_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[str, int] = {}
        # The clock's time at which the machine's was 0; of use only while that runs.
        self._offset = 0
        self._stopped_at: int | None = 0

    def now(self) -> int:
        """The machine's time, in nanoseconds."""
        if self._stopped_at is not None:
            return self._stopped_at
        return self._clock.monotonic_nanoseconds() - self._offset

    def stop(self) -> None:
        """Let the machine's time stand still."""
        self._stopped_at = self.now()

    def run(self) -> None:
        """Let the machine's time go on."""
        if self._stopped_at is not None:
            self._offset = self._clock.monotonic_nanoseconds() - self._stopped_at
            self._stopped_at = None

    def set(self, name: str, delay: int) -> None:
        """Set a timer to `delay` nanoseconds from now."""
        self._deadlines.pop(name, None)
        self._deadlines[name] = self.now() + delay

    def cancel(self, name: str) -> None:
        """Forget a timer, if it is set."""
        self._deadlines.pop(name, None)

    def clear(self) -> None:
        """Forget all timers."""
        self._deadlines.clear()

    def next_deadline(self) -> int | None:
        """When the earliest timer is due, on the clock's monotonic nanoseconds; None where none can be."""
        if self._stopped_at is not None or not self._deadlines:
            return None
        return min(self._deadlines.values()) + self._offset

    def take_due(self) -> str | None:
        """The name of the earliest timer that is due, which is forgotten; None where none is."""
        if self._stopped_at is not None or not self._deadlines:
            return None
        name = min(self._deadlines, key=self._deadlines.__getitem__)
        if self._deadlines[name] > self.now():
            return None
        del self._deadlines[name]
        return name

    def remaining(self) -> dict[str, int]:
        """The nanoseconds that each timer still has (0: it is due), in the order they were set."""
        now = self.now()
        return {name: max(0, deadline - now) for name, deadline in self._deadlines.items()}
