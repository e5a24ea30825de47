"""How much of its memory the guest writes to: what `calc-dirty-rate` measures and `query-dirty-rate` tells.

A measurement takes the time that it is given, on the clock's time, and one is made at a time.  The guest writes as
fast as `-guest dirty-rate=` says while it runs, from one end of its memory to the other and then again.  (QEMU's
migration/dirtyrate.c.)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from qmpd.common.refusals import Refusal
from qmpd.schedule.activity import Activity
from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.schedule.activity import Activities
    from qmpd.schedule.clock import Clock
    from qmpd.schedule.schedule import Schedule

NAME = "dirty rate"
"""What a measurement is called among the machine's activities."""
SAMPLING, RING, BITMAP = "page-sampling", "dirty-ring", "dirty-bitmap"
SECOND, MILLISECOND = "second", "millisecond"
USUAL_SAMPLES = 512
_SAMPLES = range(128, 16385)
_TIMES = {SECOND: range(1, 61), MILLISECOND: range(50, 60001)}
_MILLISECONDS = {SECOND: 1000, MILLISECOND: 1}
_NANOSECONDS = 1_000_000
_MEBIBYTE = 1 << 20
_NO_MEMORY = -1


class Rules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def dirty_rate_sampling(self) -> str:
        """The ways to measure that take a number of samples."""

    @property
    def dirty_rate_start(self) -> str:
        """In which time the start is told: `uptime` of the host, or `time-of-day`."""


class Writing(NamedTuple):
    """How the guest writes: `rate` bytes a second to the same `memory` bytes."""

    rate: int
    memory: int

    def written(self, nanoseconds: int) -> int:
        """How many bytes differ after it has run for so long."""
        return min(self.rate * nanoseconds // 1_000_000_000, self.memory)


class Wanted(NamedTuple):
    """A measurement as it was asked for: for how many `milliseconds`, in which way, with how many samples a GiB."""

    milliseconds: int
    mode: str = SAMPLING
    samples: int = USUAL_SAMPLES


class Status(enum.StrEnum):
    """How far the measurement is (QAPI `DirtyRateStatus`)."""

    UNSTARTED = "unstarted"
    MEASURING = "measuring"
    MEASURED = "measured"


class Measurement(Activity[Status]):
    """One measurement under way; `end` is told."""

    KIND = "dirty-rate"
    TRANSITIONS: ClassVar = {Status.MEASURING: frozenset({Status.MEASURED}), Status.MEASURED: frozenset()}
    ENDS = frozenset({Status.MEASURED})

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[], None]) -> None:
        super().__init__(Status.MEASURING)
        self._end = end

    def step(self) -> int | None:
        """The time is over."""
        self.enter(Status.MEASURED)
        self._end()
        return None


class DirtyRate:
    """The measurements of one machine; `writing` says how its guest writes."""

    __slots__ = ("_activities", "_clock", "_from", "_rate", "_schedule", "_start", "_status", "_wanted", "_writing")

    def __init__(
        self, activities: Activities, schedule: Schedule, clock: Clock, writing: Callable[[], Writing]
    ) -> None:
        self._activities = activities
        self._schedule = schedule
        self._clock = clock
        self._writing = writing
        self._status = Status.UNSTARTED
        self._wanted = Wanted(0, SAMPLING, 0)
        # Seconds at which the last one began, and the machine's own time then, in nanoseconds.
        self._start = self._from = 0
        self._rate: int | None = None

    def begin(self, arguments: Mapping[str, Any], rules: Rules) -> None:
        """Measure, as the arguments of calc-dirty-rate say.

        :raise Refusal: one is being made, or it cannot be made so.
        """
        if self._status is Status.MEASURING:
            raise Refusal("dirty-rate-measuring")
        self._wanted = _wanted(arguments, rules)
        self._status, self._rate = Status.MEASURING, None
        self._from = self._schedule.now()
        moment = (
            self._clock.monotonic_nanoseconds() // 1000
            if rules.dirty_rate_start == "uptime"
            else self._clock.wall_microseconds()
        )
        self._start = moment // 1_000_000
        # Where there is no memory, no page is found to look at.
        here = self._writing().memory or self._wanted.mode != SAMPLING
        self._activities.begin(
            NAME, Measurement(self.end), self._wanted.milliseconds * _NANOSECONDS if here else 0
        )

    def end(self) -> None:
        """The time is over: see what the guest has written meanwhile."""
        self._status = Status.MEASURED
        writing, wanted = self._writing(), self._wanted
        if wanted.mode == BITMAP:
            self._wanted = wanted._replace(samples=0)
        if not writing.memory and wanted.mode == SAMPLING:
            self._rate = _NO_MEMORY
            return
        written = writing.written(self._schedule.now(Time.MACHINE) - self._from)
        self._rate = written * 1000 // wanted.milliseconds // _MEBIBYTE

    def query(self, unit: str = SECOND) -> dict[str, Any]:
        """What query-dirty-rate tells; releases have some of the members only."""
        found: dict[str, Any] = {} if self._rate is None else {"dirty-rate": self._rate}
        return {
            **found, "status": str(self._status), "start-time": self._start,
            "calc-time": self._wanted.milliseconds // _MILLISECONDS[unit], "calc-time-unit": unit,
            "sample-pages": self._wanted.samples, "mode": self._wanted.mode,
        }  # fmt: skip

    # For another process

    def snapshot(self) -> list[Any]:
        """It as plain data; one that is under way is an activity beside that."""
        return [str(self._status), list(self._wanted), self._start, self._from, self._rate]

    def restore(self, state: list[Any]) -> None:
        """Be what `snapshot` made this of."""
        status, wanted, self._start, self._from, self._rate = state
        self._status, self._wanted = Status(status), Wanted(*wanted)


def _wanted(arguments: Mapping[str, Any], rules: Rules) -> Wanted:
    unit = arguments.get("calc-time-unit", SECOND)
    if arguments["calc-time"] not in _TIMES[unit]:
        raise Refusal("dirty-rate-time")
    mode, samples = arguments.get("mode", SAMPLING), arguments.get("sample-pages")
    if samples is not None and mode not in rules.dirty_rate_sampling.split(","):
        raise Refusal("dirty-rate-mode")
    if samples is not None and samples not in _SAMPLES:
        raise Refusal("dirty-rate-pages")
    if mode == RING:
        raise Refusal("dirty-rate-ring")
    return Wanted(arguments["calc-time"] * _MILLISECONDS[unit], mode, USUAL_SAMPLES if samples is None else samples)
