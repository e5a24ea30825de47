"""Rate-limited events, and the order in which children of an object are listed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.common.table_order import object_order
from qmpd.machine import Event, VirtualClock
from qmpd.monitor.events import RATE, RateLimiter, encode_event, event_value
from qmpd.schedule.schedule import Schedule


def event(name: str, **data: object) -> Event:
    return Event(name, data or None, 1_700_000_000_000_001)


def test_the_last_event_of_a_second_waits_for_its_end() -> None:
    clock, delivered = VirtualClock(), list[Event]()
    schedule = Schedule(clock)
    limiter = RateLimiter(schedule, delivered.append)
    for action in ("reset", "pause", "debug"):
        limiter.offer(event("WATCHDOG", action=action))
    assert [each.data for each in delivered] == [{"action": "reset"}]
    clock.advance(RATE - 1)
    schedule.run()
    assert len(delivered) == 1
    clock.advance(1)
    schedule.run()
    assert [each.data for each in delivered] == [{"action": "reset"}, {"action": "debug"}]
    # The delayed one starts a second of its own; when nothing came in it, the next goes out at once.
    limiter.offer(event("WATCHDOG", action="none"))
    assert len(delivered) == 2
    clock.advance(RATE)
    schedule.run()
    clock.advance(RATE)
    schedule.run()
    assert schedule.next_deadline() is None
    limiter.offer(event("WATCHDOG", action="pause"))
    assert [each.data for each in delivered][2:] == [{"action": "none"}, {"action": "pause"}]


def test_limits_hold_for_each_device_and_not_for_other_events() -> None:
    delivered: list[Event] = []
    limiter = RateLimiter(Schedule(VirtualClock()), delivered.append)
    for identity in ("a", "b", "a"):
        limiter.offer(event("VSERPORT_CHANGE", id=identity, open=True))
    for _ in range(3):
        limiter.offer(event("STOP"))
    assert [(each.name, (each.data or {}).get("id")) for each in delivered] == [
        ("VSERPORT_CHANGE", "a"),
        ("VSERPORT_CHANGE", "b"),
        ("STOP", None),
        ("STOP", None),
        ("STOP", None),
    ]


OFFERS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, RATE // 3, RATE - 1, RATE, RATE + 1, 3 * RATE]),
        st.sampled_from([("WATCHDOG", None), ("VSERPORT_CHANGE", "a"), ("VSERPORT_CHANGE", "b"), ("STOP", None)]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(OFFERS)
def test_each_event_goes_out_in_its_time_with_its_own_moment(
    offers: list[tuple[int, tuple[str, str | None], bool]],
) -> None:
    """Of each kind at most one a second, the last of those that waited; also where another process goes on with it.

    The model: the events of one kind, looked at by themselves. Times are in nanoseconds, timestamps in microseconds.
    """
    clock = VirtualClock()
    delivered: list[tuple[int, Event]] = []

    def deliver(each: Event) -> None:
        delivered.append((clock.monotonic_nanoseconds(), each))

    def run_until(moment: int) -> None:
        while (deadline := schedule.next_deadline()) is not None and deadline <= moment:
            clock.advance(deadline - clock.monotonic_nanoseconds())
            schedule.run()
            assert schedule.next_deadline() != deadline
        clock.advance(moment - clock.monotonic_nanoseconds())

    schedule = Schedule(clock)
    limiter = RateLimiter(schedule, deliver)
    offered: dict[tuple[str, str | None], list[tuple[int, Event]]] = {}
    now = 0
    for pause, (name, identity), taken_over in offers:
        now += pause
        run_until(now)
        if taken_over:
            state = json.loads(json.dumps(limiter.snapshot()))
            schedule = Schedule(clock)
            limiter = RateLimiter(schedule, deliver)
            limiter.restore(state)
        each = Event(name, None if identity is None else {"id": identity}, clock.wall_microseconds())
        offered.setdefault((name, identity), []).append((now, each))
        limiter.offer(each)
    run_until(now + 2 * RATE)
    for kind, mine in offered.items():
        told = [(moment, each) for moment, each in delivered if (each.name, (each.data or {}).get("id")) == kind]
        assert told == (mine if kind[0] == "STOP" else _limited(mine))


def _limited(offers: list[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """When which events of one kind go out."""
    told: list[tuple[int, Event]] = []
    waiting: Event | None = None
    until = 0
    for moment, each in [*offers, (offers[-1][0] + 2 * RATE, None)]:
        while waiting is not None and until <= moment:
            told.append((until, waiting))
            until += RATE
            waiting = None
        if each is None:
            break
        if moment >= until:
            told.append((moment, each))
            until = moment + RATE
        else:
            waiting = each
    return told


@pytest.mark.parametrize("data", [{}, {"action": "pause"}, {"guest": True, "reason": "guest-reset"}])
def test_both_spellings_of_an_event_say_the_same(data: dict[str, object]) -> None:
    each = event("WATCHDOG", **data)
    assert json.loads(encode_event(each)) == event_value(each)
    assert encode_event(each).startswith(
        b'{"timestamp": {"seconds": 1700000000, "microseconds": 1}, "event": "WATCHDOG"'
    )


@pytest.mark.parametrize(("form", "text"), [("g17", b"0.10000000000000001"), ("f", b"0.1")])
def test_numbers_in_events_are_printed_as_the_release_prints_them(form: str, text: bytes) -> None:
    assert encode_event(event("WATCHDOG", value=0.1), form).endswith(b'"data": {"value": %b}}' % text)


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (1, "0 aaa"),
        (2, "0 bbb aaa"),
        (3, "0 bbb aaa ccc"),
        (6, "fff 0 bbb aaa ddd eee ccc"),
        (8, "eee aaa fff 0 bbb ggg ccc hhh ddd"),
    ],
)
def test_children_come_in_the_order_of_qemus_table(count: int, listed: str) -> None:
    """What `query-chardev` of QEMU 5.2 to 11.1 listed, back to front, for that many `-chardev null`."""
    names = ["compat_monitor0", *(letter * 3 for letter in "abcdefgh"[:count])]
    assert " ".join(object_order(names)).replace("compat_monitor", "") == listed
