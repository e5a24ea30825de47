"""Events on their way to the clients: their spelling, and the limit on how often some may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.machine import Event
from qmpd.schedule.schedule import Time
from qmpd.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qmpd.schedule.schedule import Schedule

RATE_LIMITED: dict[str, str | None] = {
    "RTC_CHANGE": None,
    "WATCHDOG": None,
    "BALLOON_CHANGE": None,
    "QUORUM_REPORT_BAD": "node-name",
    "QUORUM_FAILURE": None,
    "VSERPORT_CHANGE": "id",
    "MEMORY_DEVICE_SIZE_CHANGE": "qom-path",
    "HV_BALLOON_STATUS_REPORT": None,
}
"""Events that a guest can bring about at will, each at most one a second (docs/interop/qmp-spec, "Rate-limited
events"); where a member of the data is named, one a second for each of its values."""

RATE = 1_000_000_000
"""Nanoseconds between two events of one kind, where they are limited."""


def encode_event(event: Event, float_format: str = "g17") -> bytes:
    """The event as one line, without its end.  Every QMP recording shows the order of the members."""
    name, data, timestamp = event
    seconds, microseconds = divmod(timestamp, 1_000_000)
    head = f'{{"timestamp": {{"seconds": {seconds}, "microseconds": {microseconds}}}, "event": "{name}"'.encode()
    if data is None:
        return head + b"}"
    return head + b', "data": ' + encode(data, float_format) + b"}"


def event_value(event: Event) -> dict[str, object]:
    """The event as the object that is sent."""
    seconds, microseconds = divmod(event.timestamp, 1_000_000)
    value: dict[str, object] = {
        "timestamp": {"seconds": seconds, "microseconds": microseconds},
        "event": event.name,
    }
    if event.data is not None:
        value["data"] = event.data
    return value


class RateLimiter:
    """Holds back the events of `RATE_LIMITED`: the first goes out at once, and of those that come within the
    next second the last goes out when it has passed, with the timestamp of its own moment."""

    __slots__ = ("_deliver", "_schedule", "_waiting")

    def __init__(self, schedule: Schedule, deliver: Callable[[Event], None]) -> None:
        self._schedule = schedule
        self._deliver = deliver
        # What waits until its time has passed, if anything does, by kind and key.
        self._waiting: dict[tuple[str, object], Event | None] = {}

    def offer(self, event: Event) -> None:
        """Deliver the event now, or keep it for later."""
        if event.name not in RATE_LIMITED:
            self._deliver(event)
            return
        member = RATE_LIMITED[event.name]
        key = (event.name, event.data.get(member) if member and event.data else None)
        if key in self._waiting:
            self._waiting[key] = event
        else:
            self._wait(key, RATE)
            self._deliver(event)

    def _wait(self, key: tuple[str, object], time: int, event: Event | None = None) -> None:
        self._waiting[key] = event
        self._schedule.set(self, key, time, Time.CLOCK)

    def timer_due(self, name: Hashable) -> None:
        """Deliver what has waited long enough (`qmpd.schedule.schedule.Owner`)."""
        key = cast("tuple[str, object]", name)
        event = self._waiting.pop(key)
        if event is not None:
            self._wait(key, RATE)
            self._deliver(event)

    def snapshot(self) -> list[list[object]]:
        """The state as plain data: kind, key, nanoseconds left, the event that waits."""
        left = self._schedule.left(self)
        return [
            [*key, left[key], None if event is None else list(event)] for key, event in self._waiting.items()
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Become the limiter that `snapshot` made this of."""
        for name, key, remaining, event in state:
            self._wait((name, key), remaining, None if event is None else Event(*event))
