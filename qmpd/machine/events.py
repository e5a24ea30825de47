"""Events as the core emits them; the monitor gives them their spelling."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One event: its QAPI name, its data (None where it has none) and when it happened.

    `timestamp` is in microseconds since the epoch, as `Clock.wall_microseconds` gives it.
    """

    name: str
    data: dict[str, object] | None
    timestamp: int
