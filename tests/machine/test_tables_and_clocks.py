"""The table of transitions, the clocks, the timers, what a machine costs, and that it imports no more than it says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmpd.guest.making import make_machine
from qmpd.machine import (
    Event,
    GuestSettings,
    Machine,
    MachineSettings,
    RunState,
    ScaledClock,
    ShutdownCause,
    SystemClock,
    VirtualClock,
    WakeupReason,
    snapshot,
    transitions,
)
from qmpd.machine.requests import Requests
from qmpd.qapi import load_release
from qmpd.schedule.schedule import Schedule, Time
from tests.machine.conftest import SECOND, Build


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_every_state_can_be_left_and_no_state_follows_itself(release: str) -> None:
    table = transitions(load_release(release).behaviour)
    assert set(table) == set(RunState)
    for state, followers in table.items():
        assert state not in followers
        assert followers or state is RunState.PRECONFIG


@pytest.mark.parametrize(
    ("release", "before", "after", "allowed"),
    [
        ("5.2", "preconfig", "prelaunch", True),
        ("7.2", "preconfig", "prelaunch", False),
        ("7.2", "suspended", "paused", False),
        ("10.0", "suspended", "paused", True),
        ("7.2", "suspended", "shutdown", False),
        ("11.1", "suspended", "shutdown", True),
        ("11.1", "suspended", "guest-panicked", False),
        ("7.2", "shutdown", "running", False),
        ("7.2", "guest-panicked", "running", True),
        ("7.2", "internal-error", "running", False),
    ],
)
def test_transitions_by_release(release: str, before: str, after: str, allowed: bool) -> None:
    table = transitions(load_release(release).behaviour)
    assert (RunState(after) in table[RunState(before)]) is allowed


def test_run_states_and_causes_are_those_of_the_newest_schema() -> None:
    """Up to the two states that came and went with `preconfig`."""
    release = load_release("11.1")
    enumerations = {
        entry["name"]: entry
        for entry in json.loads(release.introspection_reply)
        if entry["meta-type"] == "enum"
    }
    values = {frozenset(entry["values"]) for entry in enumerations.values()}
    assert frozenset(set(RunState) - {"preconfig"}) in values
    assert frozenset(ShutdownCause) in values


def test_system_clock_is_the_computers() -> None:
    clock = SystemClock()
    assert abs(clock.wall_microseconds() - time.time_ns() // 1000) < 1_000_000
    assert clock.monotonic_nanoseconds() <= time.monotonic_ns()


def test_virtual_clock_moves_only_by_hand() -> None:
    clock = VirtualClock(wall=5, monotonic=7)
    clock.advance(2_000)
    assert (clock.wall_microseconds(), clock.monotonic_nanoseconds()) == (7, 2_007)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_scaled_clock_is_faster_and_does_not_jump() -> None:
    clock = ScaledClock(1000.0, wall=0, monotonic=0)
    time.sleep(0.01)
    before = clock.monotonic_nanoseconds()
    assert before >= 10 * SECOND
    clock.factor = 0.001
    assert before <= clock.monotonic_nanoseconds() < before + 60 * SECOND
    assert abs(clock.wall_microseconds() - clock.monotonic_nanoseconds() // 1000) < 100_000
    with pytest.raises(ValueError, match="positive"):
        clock.factor = 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("advance"), st.just(""), st.integers(0, 60)),
        st.tuples(st.sampled_from(["stop", "run"]), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_timers_count_only_while_time_runs(steps: list[tuple[str, str, int]]) -> None:
    """Against a model that counts the nanoseconds one by one."""
    clock = VirtualClock()
    schedule = Schedule(clock)
    owner = Due()
    left: dict[str, int] = {}
    runs = False
    for operation, name, number in steps:
        if operation == "set":
            schedule.set(owner, name, number)
            left.pop(name, None)
            left[name] = number
        elif operation == "cancel":
            schedule.cancel(owner, name)
            left.pop(name, None)
        elif operation == "advance":
            clock.advance(number)
            if runs:
                left = {key: value - number for key, value in left.items()}
        elif operation == "stop":
            schedule.stop()
            runs = False
        else:
            schedule.go_on()
            runs = True
        assert schedule.remaining(owner) == {key: max(0, value) for key, value in left.items()}
        due = schedule.next_deadline()
        assert due == (clock.monotonic_nanoseconds() + min(left.values()) if runs and left else None)
        schedule.run()
        for taken in owner.names:
            assert left[taken] == min(left.values()) <= 0
            assert runs
            del left[taken]
        owner.names.clear()
        assert not runs or all(value > 0 for value in left.values())


class Due:
    """Has timers, and keeps the names of those that were due."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def timer_due(self, name: Hashable) -> None:
        self.names.append(str(name))


several = st.tuples(st.sampled_from(Time), st.integers(0, 1), st.integers(0, 3), st.integers(0, 50))


@given(st.lists(several, max_size=12))
def test_all_timers_are_in_one_order(timers: list[tuple[Time, int, int, int]]) -> None:
    """The clock's first, then by their moments, then as they were set; those of some owners alone on demand."""
    clock = VirtualClock()
    schedule = Schedule(clock)
    schedule.go_on()
    owners = Due(), Due()
    model: dict[tuple[Time, int, int], int] = {}
    said: list[str] = []
    schedule.soon(lambda: said.append("soon"))
    assert schedule.next_deadline() == 0
    for base, number, name, delay in timers:
        schedule.set(owners[number], (str(base), name), delay, base)
        model.pop((base, number, name), None)
        model[base, number, name] = delay
    assert schedule.next_deadline(owners[:1]) == min((at for key, at in model.items() if key[1] == 0), default=None)
    clock.advance(25)
    schedule.run(owners[:1])
    assert said == []
    due = {key for key, at in model.items() if at <= 25}
    assert len(owners[0].names) == sum(key[1] == 0 for key in due)
    assert owners[1].names == []
    schedule.run()
    assert said == ["soon"]
    for number, owner in enumerate(owners):
        own = [key for key in model if key in due and key[1] == number]
        expected = sorted(own, key=lambda key: (key[0] is Time.MACHINE, model[key]))
        assert owner.names == [str((str(base), name)) for base, _, name in expected]


requests = st.fixed_dictionaries(
    {},
    optional={
        "shutdown": st.sampled_from(ShutdownCause),
        "reset": st.sampled_from(ShutdownCause),
        "wakeup": st.sampled_from(WakeupReason),
        "vmstop": st.sampled_from(RunState),
        "powerdown": st.just(True),
        "reset_time": st.integers(0),
        "signal": st.tuples(st.integers(1, 64), st.integers(0), st.sampled_from([None, "kill", "<a name>"])),
    },
)


@given(requests)
def test_requests_survive_as_plain_data(members: dict[str, object]) -> None:
    original = Requests()
    for name, value in members.items():
        setattr(original, name, value)
    copy = Requests.restore(original.snapshot())
    for name in Requests.__slots__:
        assert getattr(copy, name) == getattr(original, name)
        assert type(getattr(copy, name)) is type(getattr(original, name))


def test_a_machine_taken_over_goes_on_where_it_was(bench: Build) -> None:
    """Between a reset and the firmware's own, with a request pending: nothing is lost or doubled."""
    vm = bench(guest=GuestSettings(boot_time=SECOND))
    vm.advance(2 * SECOND)
    vm.machine.system_reset()
    vm.turns()
    vm.advance(SECOND // 50)
    vm.machine.system_powerdown()
    vm.take()
    state = snapshot.take(vm.machine)
    old = vm.machine
    vm.clock.advance(10 * SECOND)
    vm.machine, vm._guest = make_machine(old.settings, old.behaviour, vm.clock, vm.emitted, vm.woken)
    snapshot.put(vm.machine, state)
    vm.turns()
    vm.advance(SECOND // 50)
    assert vm.take() == ["POWERDOWN", "RESET"]
    assert vm.guest.settings.boot_time == SECOND


def test_what_a_machine_costs() -> None:
    """Under 3 KB and 100 microseconds, a `pc` with its guest included."""
    settings, behaviour, clock = MachineSettings(), load_release("7.2").behaviour, SystemClock()

    def emit(event: Event) -> None:
        pass

    def wake() -> None:
        pass

    def build() -> Machine:
        machine = Machine(settings, behaviour, clock, emit, wake)
        machine.start()
        return machine

    kept = [build()]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept += [build() for _ in range(100)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 100 < 3 * 1024
    best = min(_timed(build) for _ in range(50))
    assert best < 100_000


def _timed(build: object) -> int:
    start = time.perf_counter_ns()
    build()  # type: ignore[operator]
    return time.perf_counter_ns() - start


def test_the_core_imports_no_input_output_and_no_json() -> None:
    code = "import sys, qmpd.machine; print(*{'trio', 'json', 'orjson', 'socket', 'asyncio'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
