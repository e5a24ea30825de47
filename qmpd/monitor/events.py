"""Events on their way to the clients: their spelling, and the limit on how often some may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.machine import Event
from qmpd.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.machine import Clock

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

    __slots__ = ("_clock", "_deliver", "_waiting")

    def __init__(self, clock: Clock, deliver: Callable[[Event], None]) -> None:
        self._clock = clock
        self._deliver = deliver
        self._waiting: dict[tuple[str, object], tuple[int, Event | None]] = {}

    def offer(self, event: Event) -> None:
        """Deliver the event now, or keep it for later."""
        if event.name not in RATE_LIMITED:
            self._deliver(event)
            return
        member = RATE_LIMITED[event.name]
        key = (event.name, event.data.get(member) if member and event.data else None)
        if key in self._waiting:
            self._waiting[key] = (self._waiting[key][0], event)
        else:
            self._waiting[key] = (self._clock.monotonic_nanoseconds() + RATE, None)
            self._deliver(event)

    def next_deadline(self) -> int | None:
        """When `run` has something to do next, in monotonic nanoseconds; None: never."""
        if not self._waiting:
            return None
        return min(deadline for deadline, _ in self._waiting.values())

    def run(self) -> None:
        """Deliver what has waited long enough, in the order in which its time is over (as QEMU's timers fire)."""
        if not self._waiting:
            return
        now = self._clock.monotonic_nanoseconds()
        for key, (deadline, event) in sorted(self._waiting.items(), key=lambda waiting: waiting[1][0]):
            if deadline > now:
                break
            # What begins a second now comes behind all that have begun one.
            del self._waiting[key]
            if event is not None:
                self._waiting[key] = (now + RATE, None)
                self._deliver(event)

    def snapshot(self) -> list[list[object]]:
        """The state as plain data: kind, key, nanoseconds left, the event that waits."""
        now = self._clock.monotonic_nanoseconds()
        return [
            [name, key, deadline - now, None if event is None else list(event)]
            for (name, key), (deadline, event) in self._waiting.items()
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Become the limiter that `snapshot` made this of."""
        now = self._clock.monotonic_nanoseconds()
        self._waiting = {
            (name, key): (now + remaining, None if event is None else Event(*event))
            for name, key, remaining, event in state
        }
