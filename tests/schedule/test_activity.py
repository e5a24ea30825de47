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
    VERBS: ClassVar = {"pause": frozenset({Stage.RUNNING}), "resume": frozenset({Stage.PAUSED})}
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


operations = st.one_of(
    st.tuples(st.just("advance"), st.integers(0, 3 * TICK)),
    st.tuples(st.sampled_from(["wake", "pause", "resume", "hand over", "forget"]), st.just(0)),
)


@given(st.integers(1, 12), st.integers(0, 2 * TICK), st.lists(operations, max_size=30))
def test_steps_come_in_their_time_and_go_on_elsewhere(pieces: int, delay: int, steps: list[tuple[str, int]]) -> None:
    """Against a model that has one moment at which the next step is due."""
    clock = VirtualClock()
    schedule = Schedule(clock)
    activities = Activities(schedule)
    copy = Copy(pieces)
    activities.begin("copy", copy, delay)
    left, state, due = pieces, Stage.RUNNING, clock.monotonic_nanoseconds() + delay
    pending: int | None = due
    for operation, number in steps:
        now = clock.monotonic_nanoseconds()
        if operation == "advance":
            end = now + number
            while pending is not None and pending <= end:
                moment, pending = pending, None
                if state is Stage.PAUSED or state is Stage.DONE:
                    continue
                left -= 1
                state = Stage.DONE if left <= 0 else Stage.WAITING if left % 3 == 0 else Stage.RUNNING
                pending = moment + TICK if state is Stage.RUNNING else None
            while (deadline := schedule.next_deadline()) is not None and deadline <= end:
                clock.advance(deadline - clock.monotonic_nanoseconds())
                schedule.run()
            clock.advance(end - clock.monotonic_nanoseconds())
        elif operation == "wake":
            activities.wake("copy")
            if state is not Stage.DONE and activities.find("copy") is not None:
                pending = now
        elif operation == "pause" and copy.allows("pause"):
            copy.enter(Stage.PAUSED)
            state = Stage.PAUSED
        elif operation == "resume" and copy.allows("resume"):
            copy.enter(Stage.RUNNING)
            state = Stage.RUNNING
        elif operation == "hand over":
            plain = json.loads(json.dumps(activities.snapshot()))
            schedule = Schedule(clock)
            activities, found = Activities(schedule), Copy(0)
            activities.restore(plain, {"copy": found})
            copy = found if plain else copy
        elif operation == "forget":
            activities.forget("copy")
            pending = None
        assert (copy.left, copy.state) == (left, state)
        assert schedule.next_deadline() == pending
        assert [name for name, _ in activities] == (["copy"] if activities.find("copy") is copy else [])
