"""Letting a machine's time pass: at a pace, by so much, or until nothing is left to happen."""

from __future__ import annotations

from dataclasses import dataclass

from qmpd.control.clock import ClockKind, PuppetClock
from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.performance import Steps, in_steps
from qmpd.control.times import Time, nanoseconds, seconds

LIMIT = "24h"
STEPS = 10_000
TURN = 1_000
"""Timers that are passed at once: then the machine's clients, and other machines of the fleet, have their turn."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """The machine's clock: its kind and pace, its monotonic time in seconds, and the seconds to the next timer."""

    kind: ClockKind
    factor: float
    time: float
    next_timer: float | None = None


@dataclass(frozen=True, slots=True)
class ActivityState:
    """A piece of long work: its name, its kind, its state, the seconds to its next step, and whether a fault holds it.

    Without `next_step` it waits for something outside, or for the guest.
    """

    name: str
    kind: str
    state: str
    held: bool
    next_step: float | None = None


@dataclass(frozen=True, slots=True)
class QuietState:
    """What `clock-run-until-quiet` found: whether no timer is left, and how many seconds and timers it took."""

    quiet: bool
    advanced: float
    timers: int


class ClockControl(Group):
    """The machine's clock.  Every timer of the machine goes by it, and every timestamp."""

    __slots__ = ()

    @property
    def _clock(self) -> PuppetClock:
        clock = self._stage.host.clock
        if not isinstance(clock, PuppetClock):
            raise ControlError("the machine was not started with a clock that can be changed")
        return clock

    @command("clock-set")
    def set(self, kind: ClockKind | str, factor: float | None = None) -> None:
        """Let time pass at the computer's pace, `factor` times as fast, or not at all (`virtual`)."""
        if (kind is ClockKind.SCALED) != (factor is not None):
            raise ControlError("'factor' belongs to a scaled clock, which has to have one")
        try:
            self._clock.set(ClockKind(kind), 1.0 if factor is None else factor)
        except ValueError as error:
            raise ControlError(str(error)) from None

    @command("clock-advance")
    def advance(self, time: Time) -> None:
        """Let `time` pass at once: whatever falls due on the way happens in its order, at its moment."""
        return in_steps(self._advance(self._clock.monotonic_nanoseconds() + _nanoseconds(time)))

    def _advance(self, end: int) -> Steps[None]:
        yield from self._pass(end, None)
        clock = self._clock
        if not self._stage.ended:
            clock.advance(max(0, end - clock.monotonic_nanoseconds()))

    @command("clock-run-until-quiet")
    def run_until_quiet(self, limit: Time = LIMIT, timers: int = STEPS) -> QuietState:
        """Go from timer to timer until none is left, but no further than `limit`, and past no more than `timers`."""
        return in_steps(self._run_until_quiet(_nanoseconds(limit), timers))

    def _run_until_quiet(self, limit: int, timers: int) -> Steps[QuietState]:
        clock, stage = self._clock, self._stage
        start = clock.monotonic_nanoseconds()
        passed = yield from self._pass(start + limit, timers)
        return QuietState(
            quiet=stage.ended or stage.next_deadline() is None,
            advanced=seconds(clock.monotonic_nanoseconds() - start),
            timers=passed,
        )

    def _pass(self, end: int, most: int | None) -> Steps[int]:
        """Go from timer to timer, up to `end` and past `most` of them; how many were passed."""
        clock, stage = self._clock, self._stage
        stage.settle()
        passed = 0
        while not stage.ended and (most is None or passed < most):
            deadline = stage.next_deadline()
            if deadline is None or deadline > end:
                break
            clock.advance(max(0, deadline - clock.monotonic_nanoseconds()))
            stage.settle()
            passed += 1
            if passed % TURN == 0:
                yield
        return passed

    @command("query-activities")
    def activities(self) -> list[ActivityState]:
        """List the long work that is under way: replies that come later, devices that leave, a live update."""
        found = self._stage.machine.activities.describe()
        return [ActivityState(*each[:4], None if each.left is None else seconds(each.left)) for each in found]

    @command("query-clock")
    def query(self) -> ClockState:
        """Tell the clock's kind, its time, and when the next timer is due."""
        clock, deadline = self._clock, self._stage.next_deadline()
        now = clock.monotonic_nanoseconds()
        return ClockState(
            kind=clock.kind,
            factor=clock.factor,
            time=seconds(now),
            next_timer=None if deadline is None else seconds(max(0, deadline - now)),
        )


def _nanoseconds(time: Time) -> int:
    try:
        return nanoseconds(time)
    except ValueError as error:
        raise ControlError(str(error)) from None
