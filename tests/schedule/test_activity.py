"""Activities: their tables, their steps on the clock, and what becomes of them in another process."""

from __future__ import annotations

import enum
import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmpd.machine import VirtualClock
from qmpd.schedule.activity import Activities, Activity, InvalidTransition, VerbRefused
from qmpd.schedule.schedule import Schedule

TICK = 1000


class Stage(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    DONE = "done"


class Copy(Activity[Stage]):
    """Copies so many pieces, one in each step; every third one has to be waited for."""

    TRANSITIONS: ClassVar = {
        Stage.RUNNING: frozenset({Stage.PAUSED, Stage.WAITING, Stage.DONE}),
        Stage.PAUSED: frozenset({Stage.RUNNING}),
        Stage.WAITING: frozenset({Stage.RUNNING, Stage.DONE}),
        Stage.DONE: frozenset(),
    }
    VERBS: ClassVar = {
        "pause": frozenset({Stage.RUNNING}),
        "resume": frozenset({Stage.PAUSED}),
        "fail": frozenset({Stage.RUNNING, Stage.WAITING}),
    }
    ENDS = frozenset({Stage.DONE})

    __slots__ = ("left", "told")

    def __init__(self, pieces: int) -> None:
        super().__init__(Stage.RUNNING)
        self.left = pieces
        self.told: list[str] = []

    def entered(self, old: Stage) -> None:
        self.told.append(f"{old} {self.state}")

    def step(self) -> int | None:
        if self.state is Stage.PAUSED:
            return None
        if self.state is Stage.WAITING:
            self.enter(Stage.RUNNING)
        self.left -= 1
        if self.left <= 0:
            self.enter(Stage.DONE)
            return None
        if self.left % 3 == 0:
            self.enter(Stage.WAITING)
            return None
        return TICK

    def fail(self, reason: str) -> None:
        self.require("fail")
        self.enter(Stage.DONE)

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "left": self.left}

    def restore(self, state: Any) -> None:
        super().restore(state)
        self.left = state["left"]


@pytest.mark.parametrize("old", Stage)
@pytest.mark.parametrize("new", Stage)
def test_only_the_tables_transitions_are_taken(old: Stage, new: Stage) -> None:
    copy = Copy(1)
    copy.state = old
    if new in Copy.TRANSITIONS[old]:
        copy.enter(new)
        assert (copy.state, copy.told) == (new, [f"{old} {new}"])
    else:
        with pytest.raises(InvalidTransition, match=f"'{old}' -> '{new}'"):
            copy.enter(new)
        assert (copy.state, copy.told) == (old, [])


@pytest.mark.parametrize("state", Stage)
def test_a_verb_has_its_states(state: Stage) -> None:
    copy = Copy(1)
    copy.state = state
    assert copy.allows("pause") is (state is Stage.RUNNING)
    if state is Stage.PAUSED:
        copy.require("resume")
    else:
        with pytest.raises(VerbRefused) as refused:
            copy.require("resume")
        assert (refused.value.verb, refused.value.state) == ("resume", state)


class Fault:
    """Holds every step, or has the next one fail."""

    def __init__(self) -> None:
        self.holds = self.fails = False

    def activity_steps(self, name: str, activity: Activity[Any]) -> bool:
        if self.holds:
            return False
        if self.fails and activity.allows("fail"):
            self.fails = False
            activity.fail("a fault")
        return True


operations = st.one_of(
    st.tuples(st.just("advance"), st.integers(0, 3 * TICK)),
    st.tuples(
        st.sampled_from(["wake", "step", "pause", "resume", "hand over", "forget", "hold", "release", "fail"]),
        st.just(0),
    ),
)


class Model:
    """What the tested activity is to do: it has one moment at which its next step is due."""

    def __init__(self, left: int, due: int) -> None:
        self.left, self.state = left, Stage.RUNNING
        self.due: int | None = due
        self.holds = self.held = self.fails = False
        self.there = True

    def step(self, moment: int) -> None:
        self.due = None
        if self.holds:
            self.held = True
            return
        self.held = False
        if self.fails and self.state is not Stage.PAUSED:
            self.fails, self.state, self.there = False, Stage.DONE, False
        elif self.state is not Stage.PAUSED:
            self.left -= 1
            self.state = Stage.DONE if self.left <= 0 else Stage.WAITING if self.left % 3 == 0 else Stage.RUNNING
            self.due = moment + TICK if self.state is Stage.RUNNING else None
            self.there = self.state is not Stage.DONE


@given(st.integers(1, 12), st.integers(0, 2 * TICK), st.lists(operations, max_size=30))
def test_steps_come_in_their_time_and_go_on_elsewhere(pieces: int, delay: int, steps: list[tuple[str, int]]) -> None:
    clock = VirtualClock()
    schedule = Schedule(clock)
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    activities, points = Activities(schedule, wake), Fault()
    activities.points = points
    copy = Copy(pieces)
    activities.begin("copy", copy, delay)
    model = Model(pieces, clock.monotonic_nanoseconds() + delay)
    for operation, number in steps:
        now = clock.monotonic_nanoseconds()
        if operation == "advance":
            end = now + number
            while model.due is not None and model.due <= end:
                model.step(model.due)
            while (deadline := schedule.next_deadline()) is not None and deadline <= end:
                clock.advance(deadline - clock.monotonic_nanoseconds())
                schedule.run()
            clock.advance(end - clock.monotonic_nanoseconds())
        elif operation == "wake":
            before = woken
            activities.wake("copy")
            assert woken == before + model.there
            if model.there:
                model.due = now
        elif operation == "step":
            activities.step_now("copy")
            if model.there:
                model.step(now)
        elif operation == "pause" and copy.allows("pause"):
            copy.enter(Stage.PAUSED)
            model.state = Stage.PAUSED
        elif operation == "resume" and copy.allows("resume"):
            copy.enter(Stage.RUNNING)
            model.state = Stage.RUNNING
        elif operation == "hold":
            points.holds = model.holds = True
        elif operation == "release":
            points.holds = model.holds = False
            activities.release()
            if model.held:
                model.held, model.due = False, now
        elif operation == "fail":
            points.fails = model.fails = True
        elif operation == "hand over":
            plain = json.loads(json.dumps(activities.snapshot()))
            schedule = Schedule(clock)
            activities, found = Activities(schedule, wake), Copy(0)
            activities.points = points
            activities.restore(plain, lambda kind, name, state, found=found: found)  # type: ignore[misc]
            copy = found if plain else copy
        elif operation == "forget":
            activities.forget("copy")
            model.due, model.held, model.there = None, False, False
        assert (copy.left, copy.state) == (model.left, model.state)
        assert schedule.next_deadline() == model.due
        described = [(each.name, each.state, each.held) for each in activities.describe()]
        assert described == ([("copy", model.state, model.held)] if model.there else [])


def test_a_name_is_free_again_when_the_work_is_over() -> None:
    activities = Activities(Schedule(VirtualClock()), lambda: None)
    first = Copy(1)
    activities.begin("copy", first)
    with pytest.raises(ValueError, match="there is an activity 'copy'"):
        activities.begin("copy", Copy(1))
    first.enter(Stage.DONE)
    second = Copy(1)
    activities.begin("copy", second)
    assert activities.find("copy") is second
    assert activities.new_name("copy") != activities.new_name("copy")


def test_what_hinders_a_hand_over_is_said() -> None:
    class Stubborn(Copy):
        __slots__ = ()

        def hindrance(self) -> str | None:
            return "it has a file open" if self.state is Stage.RUNNING else None

    activities, stubborn = Activities(Schedule(VirtualClock()), lambda: None), Stubborn(1)
    activities.begin("easy", Copy(1), None)
    activities.begin("copy", stubborn, None)
    assert activities.hindrance() == "it has a file open"
    stubborn.enter(Stage.PAUSED)
    assert activities.hindrance() is None
