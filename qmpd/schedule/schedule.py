"""All timers of one machine, in one place and in order.

There are two times.  The clock's goes on as long as the clock does; on it count the monitors' limits of events, faults
and activities.  The machine's own (QEMU's `QEMU_CLOCK_VIRTUAL`) starts at 0, stopped, and stands still while the
machine is stopped; on it counts what the guest does.

Under `-accel qtest` a program steps both.  The computer's time goes on there all the same, which is the clock's
everywhere else (QEMU's `QEMU_CLOCK_REALTIME`); on it count jobs and other long work.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from qmpd.schedule.clock import SteppedClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from qmpd.schedule.clock import Clock


class Time(enum.Enum):
    """On what a timer counts."""

    CLOCK = "clock"
    MACHINE = "machine"
    REAL = "real"


_TWO, _THREE = (Time.CLOCK, Time.MACHINE), (Time.REAL, Time.CLOCK, Time.MACHINE)


class Owner(Protocol):
    """Who has timers."""

    def timer_due(self, name: Hashable) -> None:
        """The timer of this name is due; it is forgotten by now."""


class Schedule:
    """The timers of one machine; times are in nanoseconds.

    A timer is known by its owner and its name: setting it again moves it.  Of timers that are due those on the clock's
    time come first, as QEMU comes to those of the real clock first; then by their moments; then in the order in which
    they were set.
    """

    __slots__ = ("_clock", "_offset", "_on_clock", "_on_machine", "_on_real", "_soon", "_stepped", "_stopped_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The same, where the computer's time is another one.
        self._stepped = clock if isinstance(clock, SteppedClock) else None
        # Deadlines by owner and name; almost all machines have none, and share nothing.
        self._on_clock: dict[tuple[Owner, Hashable], int] | None = None
        self._on_machine: dict[tuple[Owner, Hashable], int] | None = None
        self._on_real: dict[tuple[Owner, Hashable], int] | None = None
        self._soon: list[Callable[[], None]] | None = None
        # The clock's time at which the machine's was 0; of use only while that runs.
        self._offset = 0
        self._stopped_at: int | None = 0

    # The machine's own time

    def now(self, time: Time = Time.MACHINE) -> int:
        """The time that it is now, in nanoseconds."""
        if time is Time.REAL and self._stepped is not None:
            return self._stepped.real_nanoseconds()
        if time is not Time.MACHINE:
            return self._clock.monotonic_nanoseconds()
        if self._stopped_at is not None:
            return self._stopped_at
        return self._clock.monotonic_nanoseconds() - self._offset

    def stop(self) -> None:
        """Let the machine's time stand still."""
        self._stopped_at = self.now()

    def go_on(self) -> None:
        """Let the machine's time go on."""
        if self._stopped_at is not None:
            self._offset = self._clock.monotonic_nanoseconds() - self._stopped_at
            self._stopped_at = None

    def stand_at(self, time: int) -> None:
        """Let it be this time, which stands still."""
        self._stopped_at = time

    # Timers

    def set(self, owner: Owner, name: Hashable, delay: int, time: Time = Time.MACHINE) -> None:
        """Set a timer to `delay` nanoseconds from now."""
        self.set_at(owner, name, self.now(time) + delay, time)

    def set_at(self, owner: Owner, name: Hashable, moment: int, time: Time) -> None:
        """Set a timer to a moment of its time."""
        timers = self._timers(time)
        if timers is None:
            timers = {}
            if time is Time.MACHINE:
                self._on_machine = timers
            elif time is Time.REAL and self._stepped is not None:
                self._on_real = timers
            else:
                self._on_clock = timers
        timers.pop((owner, name), None)
        timers[owner, name] = moment

    def _timers(self, time: Time) -> dict[tuple[Owner, Hashable], int] | None:
        if time is Time.MACHINE:
            return self._on_machine
        return self._on_real if time is Time.REAL and self._stepped is not None else self._on_clock

    def cancel(self, owner: Owner, name: Hashable) -> None:
        """Forget a timer, if it is set."""
        for timers in (self._on_clock, self._on_machine, self._on_real):
            if timers is not None:
                timers.pop((owner, name), None)

    def clear(self, owner: Owner) -> None:
        """Forget all timers of this owner."""
        for timers in (self._on_clock, self._on_machine, self._on_real):
            if timers:
                for key in [key for key in timers if key[0] is owner]:
                    del timers[key]

    def remaining(self, owner: Owner) -> dict[Hashable, int]:
        """The nanoseconds that each timer of this owner still has (0: it is due), in the order they were set."""
        return {name: max(0, left) for name, left in self.left(owner).items()}

    def left(self, owner: Owner) -> dict[Hashable, int]:
        """The same, and negative for one that should have been run before."""
        found: dict[Hashable, int] = {}
        for time in self._times:
            timers = self._timers(time)
            if timers:
                now = self.now(time)
                found |= {key[1]: moment - now for key, moment in timers.items() if key[0] is owner}
        return found

    def soon(self, action: Callable[[], None]) -> None:
        """Do something as soon as timers are run, before all of them."""
        if self._soon is None:
            self._soon = []
        self._soon.append(action)

    @property
    def _times(self) -> tuple[Time, ...]:
        """The times of which each is another one."""
        return _TWO if self._stepped is None else _THREE

    # Running them

    def next_deadline(self, only: Collection[Owner] | None = None) -> int | None:
        """When the earliest timer is due, on the clock's time; None where none can be.

        `only`: of these owners.
        """
        if self._soon is not None and only is None:
            return 0
        found = None
        if self._on_clock:
            found = min((at for key, at in self._on_clock.items() if only is None or key[0] in only), default=None)
        if self._on_machine and self._stopped_at is None:
            own = min((at for key, at in self._on_machine.items() if only is None or key[0] in only), default=None)
            if own is not None:
                own += self._offset
                found = own if found is None else min(found, own)
        return found

    def next_real_deadline(self) -> int | None:
        """When the earliest timer is due that counts on the computer's time, where that is not the clock's; None
        without one.
        """
        return min(self._on_real.values()) if self._on_real else None

    def run(self, only: Collection[Owner] | None = None) -> None:
        """Run what is due by now; `only`: of these owners."""
        if self._soon is not None and only is None:
            due, self._soon = self._soon, None
            for action in due:
                action()
        for time in self._times:
            while (key := self._take_due(time, only)) is not None:
                owner, name = key
                owner.timer_due(name)

    def _take_due(self, time: Time, only: Collection[Owner] | None) -> tuple[Owner, Hashable] | None:
        """The earliest timer that is due, which is forgotten; None where none is."""
        timers = self._timers(time)
        if not timers or (time is Time.MACHINE and self._stopped_at is not None):
            return None
        candidates = timers if only is None else [key for key in timers if key[0] in only]
        key = min(candidates, key=timers.__getitem__, default=None)
        if key is None or timers[key] > self.now(time):
            return None
        del timers[key]
        return key
