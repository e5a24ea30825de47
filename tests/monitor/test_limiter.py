"""The limit on how often events come, compared with a second writing of the rule: any events, at any times, looked at
too late, and handed over to another process in between."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qmpd.machine import Event, VirtualClock
from qmpd.monitor.events import RATE_LIMITED, RateLimiter
from qmpd.schedule.schedule import Schedule

SECOND = 1_000_000_000

NAMES = ["STOP", "WATCHDOG", "RTC_CHANGE", "BALLOON_CHANGE", "VSERPORT_CHANGE", "QUORUM_REPORT_BAD",
         "MEMORY_DEVICE_SIZE_CHANGE"]  # fmt: skip
APART = {"VSERPORT_CHANGE": "id", "QUORUM_REPORT_BAD": "node-name", "MEMORY_DEVICE_SIZE_CHANGE": "qom-path"}
"""What tells events of one name apart: each device, node or path has a limit of its own."""

Told = tuple[str, object, int]


@dataclass
class Rule:
    """QEMU keeps a timer for each event that it holds back, in the order in which they fire (`monitor.c`)."""

    now: int = 0
    told: list[Told] = field(default_factory=list)
    # Which event, when its timer fires, and what waits for that.
    timers: list[tuple[object, int, Told | None]] = field(default_factory=list)

    def offer(self, which: object, told: Told) -> None:
        for position, (each, fires, _) in enumerate(self.timers):
            if each == which:
                self.timers[position] = (each, fires, told)
                return
        self.told.append(told)
        self.timers.append((which, self.now + SECOND, None))

    def look(self) -> None:
        due = sorted((each for each in self.timers if each[1] <= self.now), key=lambda each: each[1])
        for which, fires, waits in due:
            self.timers.remove((which, fires, waits))
            if waits is not None:
                self.told.append(waits)
                self.timers.append((which, self.now + SECOND, None))

    def next(self) -> int | None:
        return min((fires for _, fires, _ in self.timers), default=None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(NAMES), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("pass"), st.sampled_from([1, SECOND // 3, SECOND - 1, SECOND, 2 * SECOND]), st.booleans()),
        st.tuples(st.just("hand over"), st.integers(0, SECOND), st.none()),
    ),
    max_size=25,
)


# Both wait, and the one that came first has begun its second second.
LATE = [("offer", "WATCHDOG", "a"), ("offer", "WATCHDOG", "b"), ("pass", SECOND // 3, True),
        ("offer", "RTC_CHANGE", "a"), ("offer", "RTC_CHANGE", "b"), ("pass", SECOND - 1, True),
        ("offer", "WATCHDOG", "a"), ("pass", 2 * SECOND, True)]  # fmt: skip


@given(STEPS)
@example(LATE)
@settings(max_examples=400, deadline=None)
def test_any_events_at_any_times(steps: list[tuple[str, object, object]]) -> None:
    clock, told, rule = VirtualClock(), list[Event](), Rule()
    schedule = Schedule(clock)
    limiter = RateLimiter(schedule, told.append)
    started = 0
    for number, (what, first, second) in enumerate(steps):
        if what == "offer":
            member = APART.get(str(first), "id")
            data: dict[str, object] | None = None if second is None else {member: second, "number": number}
            limiter.offer(Event(str(first), data, number))
            which = (first, second if first in APART else None)
            entry = (str(first), data, number)
            if first == "STOP":
                rule.told.append(entry)
            else:
                rule.offer(which, entry)
        elif what == "pass":
            assert isinstance(first, int)
            clock.advance(first)
            rule.now += first
            if second:
                schedule.run()
                rule.look()
        else:
            # The other process's clock begins anywhere; time goes on meanwhile.
            assert isinstance(first, int)
            state = limiter.snapshot()
            started = rule.now - first
            clock = VirtualClock(monotonic=first)
            schedule = Schedule(clock)
            limiter = RateLimiter(schedule, told.append)
            limiter.restore(state)
        assert [tuple(each) for each in told] == rule.told
        coming = rule.next()
        assert schedule.next_deadline() == (None if coming is None else coming - started)


@pytest.mark.parametrize("name", sorted(RATE_LIMITED))
def test_each_of_them_comes_once_a_second_with_its_own_time(name: str) -> None:
    clock, told = VirtualClock(), list[Event]()
    schedule = Schedule(clock)
    limiter = RateLimiter(schedule, told.append)
    for number in range(3):
        limiter.offer(Event(name, {"id": "a"}, number))
        clock.advance(SECOND // 10)
    clock.advance(SECOND)
    schedule.run()
    assert told == [Event(name, {"id": "a"}, 0), Event(name, {"id": "a"}, 2)]
