"""The transcript of a machine: what every client sent and was sent, and what happened meanwhile.

Entries are kept as they come, cheaply, and made readable when somebody asks.  The oldest are forgotten when
there are too many, or too much in them.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from qmpd.control.spelling import read, spell
from qmpd.control.values import MISSING, wire_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qmpd.machine import Clock

LIMIT = 100_000
"""Entries that are kept."""

SIZE_LIMIT = 64 << 20
"""Bytes of messages and other values that are kept; an entry takes some 400 beside them."""


class EntryKind(enum.StrEnum):
    """What an entry of the transcript tells of.

    `started`: the machine, with its `release` and `name`.  `connected` and `disconnected`: a client, its `monitor`.
    `received` and `sent`: a `message` from or to a client, or `text` that is none (with the parse `error` where it
    came from one).  `run-state`: a change, `from` one state `to` another.  `event`: one that was emitted, with its
    `data`, whoever hears of it.  `guest`: a step of the guest's course.  `control`: a `command` of the puppeteer's,
    with its `arguments`.  `fault`: one that took effect, and on which `command`, or on the long
    work of which `name`.  `override`: a reply that was made
    up.  `lost`: `count` entries up to this one, in a file that did not take them in time.  `ended`: the machine, with
    its exit `status`.
    """

    STARTED = "started"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    RECEIVED = "received"
    SENT = "sent"
    RUN_STATE = "run-state"
    EVENT = "event"
    GUEST = "guest"
    CONTROL = "control"
    FAULT = "fault"
    OVERRIDE = "override"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A time of day on the machine's clock, as in QMP's events."""

    seconds: int
    microseconds: int


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One entry; which members there are depends on its kind.

    `number` counts from 1 since the last reset, `time` is in nanoseconds on the machine's monotonic clock.
    Clients are numbered from 1 in the order in which they came.
    """

    number: int
    time: int
    timestamp: Timestamp
    kind: EntryKind
    client: int | None = None
    monitor: str | None = None
    message: Any = MISSING
    text: str | None = None
    error: str | None = None
    event: str | None = None
    data: Any = MISSING
    from_: str | None = None
    to: str | None = None
    step: str | None = None
    command: str | None = None
    arguments: Any = MISSING
    fault: str | None = None
    id: int | None = None
    status: int | None = None
    release: str | None = None
    name: str | None = None
    count: int | None = None


class Spelled(bytes):
    """A value as JSON text: that is all the memory that it takes, whatever it consists of."""

    __slots__ = ()


# Members that can be any value.
_VALUES = ("message", "data", "arguments")

KeptEntry = tuple[int, int, int, EntryKind, dict[str, Any]]
"""An entry as it is kept: its number, the monotonic time, the time of day, and what depends on its kind."""

_WIRE_NAMES = {field.name: wire_name(field.name) for field in fields(TranscriptEntry)}


class KeptEntries:
    """The latest entries, as many as there is room for."""

    __slots__ = ("_entries", "_size")

    def __init__(self) -> None:
        self._entries: deque[KeptEntry] = deque()
        self._size = 0

    @property
    def size(self) -> int:
        """The bytes of their messages."""
        return self._size

    def append(self, kept: KeptEntry) -> None:
        """Keep one more; the oldest are forgotten where there are too many, or too much in them."""
        self._entries.append(kept)
        self._size += _size(kept)
        while self._size > SIZE_LIMIT or len(self._entries) > LIMIT:
            self._size -= _size(self._entries.popleft())

    def extend(self, entries: Iterable[KeptEntry]) -> None:
        """Keep these, too."""
        for kept in entries:
            self.append(kept)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[KeptEntry]:
        return iter(self._entries)

    def __reversed__(self) -> Iterator[KeptEntry]:
        return reversed(self._entries)


class Recorder:
    """Writes entries down.  `follow` adds somebody who is given each one as JSON values, at once.

    `resets` counts how often it has begun anew.
    """

    __slots__ = ("_clock", "_entries", "_followers", "_number", "resets")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries = KeptEntries()
        self._followers: list[Callable[[dict[str, Any]], None]] = []
        self._number = 0
        self.resets = 0

    @property
    def kept(self) -> tuple[int, int]:
        """How many entries are kept, and the bytes of the messages in them."""
        return len(self._entries), self._entries.size

    def record(self, kind: EntryKind, **members: Any) -> None:
        """Write down that something happens now; the members are those of `TranscriptEntry`.

        What was sent comes as `raw`, the bytes, and is read when somebody asks.
        """
        self._number += 1
        clock = self._clock
        moment = (self._number, clock.monotonic_nanoseconds(), clock.wall_microseconds(), kind)
        self._entries.append((*moment, _spelled(members)))
        if self._followers:
            entry = wire_entry((*moment, members))
            for follower in self._followers:
                follower(entry)

    def follow(self, follower: Callable[[dict[str, Any]], None], from_start: bool = False) -> None:
        """Give each entry from now on to `follower`, after all those that are kept where it wants them."""
        if from_start:
            for kept in self._entries:
                follower(wire_entry(kept))
        if follower not in self._followers:
            self._followers.append(follower)

    def unfollow(self, follower: Callable[[dict[str, Any]], None]) -> None:
        """Give `follower` no more."""
        if follower in self._followers:
            self._followers.remove(follower)

    def reset(self) -> None:
        """Forget everything and count from 1 again."""
        self._entries = KeptEntries()
        self._number = 0
        self.resets += 1

    @property
    def number(self) -> int:
        """The number of the last entry."""
        return self._number

    def restore(self, number: int, entries: KeptEntries) -> None:
        """Have these entries, and go on behind `number`; nobody who follows is told."""
        self._entries = entries
        self._number = number

    def entries(self, since: int = 0) -> list[KeptEntry]:
        """The entries that are kept, from the one after number `since` on."""
        if since == 0:
            return list(self._entries)
        newer: list[KeptEntry] = []
        for entry in reversed(self._entries):
            if entry[0] <= since:
                break
            newer.append(entry)
        newer.reverse()
        return newer


def _size(kept: KeptEntry) -> int:
    return sum(len(value) for value in kept[4].values() if isinstance(value, bytes | str))


def _spelled(members: dict[str, Any]) -> dict[str, Any]:
    """The same, with values of any kind as text."""
    for name in _VALUES:
        value = members.get(name, MISSING)
        if value is not MISSING:
            members = {**members, name: Spelled(spell(value).encode())}
    return members


def members_of(kept: KeptEntry) -> dict[str, Any]:
    """The members that depend on the kind, with values and what was sent read."""
    members = {
        name: read(value) if type(value) is Spelled else value for name, value in kept[4].items() if name != "raw"
    }
    raw = kept[4].get("raw")
    if raw is None:
        return members
    try:
        if not raw.endswith(b"\r\n"):
            raise ValueError
        members["message"] = read(raw)
    except ValueError:
        members["text"] = raw.decode("latin-1")
    return members


def timestamp_of(kept: KeptEntry) -> tuple[int, int]:
    """When it happened: seconds and microseconds of the time of day."""
    return divmod(kept[2], 1_000_000)


def wire_entry(kept: KeptEntry) -> dict[str, Any]:
    """An entry as JSON values."""
    seconds, microseconds = timestamp_of(kept)
    entry: dict[str, Any] = {
        "number": kept[0],
        "time": kept[1],
        "timestamp": {"seconds": seconds, "microseconds": microseconds},
        "kind": str(kept[3]),
    }
    for name, value in members_of(kept).items():
        if value is not MISSING and (value is not None or name in ("message", "data", "arguments")):
            entry[_WIRE_NAMES[name]] = value
    return entry
