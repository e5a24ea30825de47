"""Rate-limited events, and the order in which children of an object are listed."""

from __future__ import annotations

import json

import pytest

from qmpd.common.table_order import object_order
from qmpd.machine import Event, VirtualClock
from qmpd.monitor.events import RATE, RateLimiter, encode_event, event_value


def event(name: str, **data: object) -> Event:
    return Event(name, data or None, 1_700_000_000_000_001)


def test_the_last_event_of_a_second_waits_for_its_end() -> None:
    clock, delivered = VirtualClock(), list[Event]()
    limiter = RateLimiter(clock, delivered.append)
    for action in ("reset", "pause", "debug"):
        limiter.offer(event("WATCHDOG", action=action))
    assert [each.data for each in delivered] == [{"action": "reset"}]
    clock.advance(RATE - 1)
    limiter.run()
    assert len(delivered) == 1
    clock.advance(1)
    limiter.run()
    assert [each.data for each in delivered] == [{"action": "reset"}, {"action": "debug"}]
    # The delayed one starts a second of its own; when nothing came in it, the next goes out at once.
    limiter.offer(event("WATCHDOG", action="none"))
    assert len(delivered) == 2
    clock.advance(RATE)
    limiter.run()
    clock.advance(RATE)
    limiter.run()
    assert limiter.next_deadline() is None
    limiter.offer(event("WATCHDOG", action="pause"))
    assert [each.data for each in delivered][2:] == [{"action": "none"}, {"action": "pause"}]


def test_limits_hold_for_each_device_and_not_for_other_events() -> None:
    delivered: list[Event] = []
    limiter = RateLimiter(VirtualClock(), delivered.append)
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
