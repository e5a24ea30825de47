"""The table of transitions, the clocks, the timers, what a machine costs, and that it imports no more than it says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    transitions,
)
from qmpd.machine.requests import Requests
from qmpd.qapi import load_release
from qmpd.schedule.timers import Timers
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
    timers = Timers(clock)
    left: dict[str, int] = {}
    runs = False
    for operation, name, number in steps:
        if operation == "set":
            timers.set(name, number)
            left.pop(name, None)
            left[name] = number
        elif operation == "cancel":
            timers.cancel(name)
            left.pop(name, None)
        elif operation == "advance":
            clock.advance(number)
            if runs:
                left = {key: value - number for key, value in left.items()}
        elif operation == "stop":
            timers.stop()
            runs = False
        else:
            timers.run()
            runs = True
        assert timers.remaining() == {key: max(0, value) for key, value in left.items()}
        due = timers.next_deadline()
        assert due == (clock.monotonic_nanoseconds() + min(left.values()) if runs and left else None)
        while (taken := timers.take_due()) is not None:
            assert left[taken] == min(left.values()) <= 0
            assert runs
            del left[taken]
        assert not runs or all(value > 0 for value in left.values())


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
    state = vm.machine.snapshot()
    old = vm.machine
    vm.clock.advance(10 * SECOND)
    vm.machine = Machine.restore(state, old.settings, old.behaviour, vm.clock, vm.emitted, vm.woken)
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
