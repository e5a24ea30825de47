"""What is to be drawn, before anything has a place: rows, lanes, and what spans several rows.

Time goes downwards and each entry has a row, so that the order in which things happened is the order in which
they stand, however close they were.  What is one thing has one row: an event and those who heard it at once, a
connection and its greeting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qmpd.timeline.wording import command_of, spell_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.timeline.transcript import Entry

LANES = 8
"""Clients that have a lane of their own each; further ones take the lane of a client that is gone."""


@dataclass(slots=True)
class Mark:
    """Something in a lane of a row.  `style` names its looks (`qmpd.timeline.style.MARKS`)."""

    lane: int
    style: str
    text: str
    entries: list[Entry]


@dataclass(slots=True)
class Row:
    """What stands at one height.  `linked`: a line joins its marks."""

    time: int
    marks: list[Mark] = field(default_factory=list)
    linked: bool = False


@dataclass(slots=True)
class Lane:
    """A column: its title, and a second line below it."""

    title: str
    subtitle: str = ""


@dataclass(slots=True)
class Life:
    """A client's connection, from its first row to its last; None: it had begun before, or goes on."""

    lane: int
    first: int | None
    last: int | None = None


@dataclass(slots=True)
class Work:
    """A command that waits for its reply, from one row to another; `last` is None where no reply came."""

    lane: int
    depth: int
    first: int
    last: int | None = None
    broken: bool = False


@dataclass(slots=True)
class State:
    """A run state, which begins above row `row`."""

    name: str
    row: int
    entry: Entry | None = None


@dataclass(slots=True)
class _Client:
    lane: int
    life: Life
    partial: str = ""
    waiting: list[tuple[Any, str, Work]] = field(default_factory=list)


class Chart:
    """A transcript as rows and lanes.  Lane 0 is the machine's, 1 the puppeteer's, the others are the clients'."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.rows: list[Row] = []
        self.lanes = [Lane("machine", "events, guest"), Lane("puppeteer", "what was made to happen")]
        self.lives: list[Life] = []
        self.works: list[Work] = []
        self.states: list[State] = []
        self.entries = list(entries)
        self._clients: dict[int, _Client] = {}
        self._gone: list[_Client] = []
        for entry in self.entries:
            self._take(entry)

    @property
    def start(self) -> int:
        """The time of the first entry, in nanoseconds."""
        return self.entries[0].time if self.entries else 0

    @property
    def span(self) -> int:
        """The time from the first entry to the last, in nanoseconds."""
        return self.entries[-1].time - self.start if self.entries else 0

    @property
    def played(self) -> bool:
        """Whether the puppeteer did anything."""
        return any(mark.lane == 1 for row in self.rows for mark in row.marks)

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "run-state":
                self._enter(entry)
            case "connected":
                self._connect(entry)
            case "disconnected":
                self._disconnect(entry)
            case "received":
                self._receive(entry)
            case "sent":
                self._send(entry)
            case "control":
                self._add(entry, 1, "control")
            case "fault" | "override":
                self._add(entry, 1, entry.kind)
                if entry.client is not None:
                    self._mark(entry, self._client(entry).lane, "struck", "")
                    self.rows[-1].linked = True
            case _:
                self._add(entry, 0, entry.kind)

    def _add(self, entry: Entry, lane: int, style: str, text: str | None = None) -> None:
        self.rows.append(Row(entry.time))
        self._mark(entry, lane, style, spell_entry(entry) if text is None else text)

    def _mark(self, entry: Entry, lane: int, style: str, text: str) -> None:
        self.rows[-1].marks.append(Mark(lane, style, text, [entry]))

    # The machine

    def _enter(self, entry: Entry) -> None:
        if not self.states:
            self.states.append(State(str(entry.members.get("from")), 0))
        if self.states[-1].row == len(self.rows):
            # The state before would have no height.
            self.rows.append(Row(entry.time))
        self.states.append(State(str(entry.members.get("to")), len(self.rows), entry))

    # The clients

    def _client(self, entry: Entry) -> _Client:
        number = entry.client
        assert number is not None
        client = self._clients.get(number)
        if client is None:
            client = self._open(number, None)
        return client

    def _open(self, number: int, row: int | None) -> _Client:
        if len(self.lanes) >= LANES + 2 and self._gone:
            lane = self._gone.pop(0).lane
            self.lanes[lane].title += f", {number}"
        else:
            lane = len(self.lanes)
            self.lanes.append(Lane(f"client {number}"))
        client = _Client(lane, Life(lane, row))
        self.lives.append(client.life)
        self._clients[number] = client
        return client

    def _connect(self, entry: Entry) -> None:
        assert entry.client is not None
        client = self._open(entry.client, len(self.rows))
        lane = self.lanes[client.lane]
        monitor = entry.members.get("monitor")
        if monitor is not None and not lane.subtitle:
            lane.subtitle = str(monitor)
        shared = "," in lane.title
        self._add(entry, client.lane, "connected", f"client {entry.client} connected" if shared else "connected")

    def _disconnect(self, entry: Entry) -> None:
        client = self._client(entry)
        lost = [name for _, name, _ in client.waiting]
        text = "disconnected" + (f", no reply to {', '.join(lost)}" if lost else "")
        self._add(entry, client.lane, "disconnected", text)
        for _, _, work in client.waiting:
            work.last = len(self.rows) - 1
            work.broken = True
        client.life.last = len(self.rows) - 1
        self._gone.append(client)
        assert entry.client is not None
        del self._clients[entry.client]

    def _receive(self, entry: Entry) -> None:
        client = self._client(entry)
        message = entry.members.get("message")
        name = command_of(message)
        self._add(entry, client.lane, "received" if name is not None else "malformed")
        used = {work.depth for _, _, work in client.waiting}
        depth = next(depth for depth in range(len(used) + 1) if depth not in used)
        work = Work(client.lane, depth, len(self.rows) - 1)
        self.works.append(work)
        identity = message.get("id") if isinstance(message, dict) else None
        client.waiting.append((identity, name or "what was no command", work))

    def _send(self, entry: Entry) -> None:
        client = self._client(entry)
        message = entry.message
        client.partial = "" if message else client.partial + str(entry.members.get("text", ""))
        if "event" in message:
            if not self._hear(entry, client):
                self._add(entry, client.lane, "heard")
        elif "QMP" in message:
            last = self.rows[-1].marks[-1] if self.rows and self.rows[-1].marks else None
            if last is not None and last.lane == client.lane and last.style == "connected":
                last.text += f", {spell_entry(entry)}"
                last.entries.append(entry)
            else:
                self._add(entry, client.lane, "greeting")
        elif "return" in message or "error" in message:
            self._add(entry, client.lane, "error" if "error" in message else "sent")
            self._finish(client, message.get("id"))
        else:
            self._add(entry, client.lane, "malformed")
            reply = _whole(client.partial)
            if reply is not None:
                client.partial = ""
                self._finish(client, reply.get("id"))

    def _finish(self, client: _Client, identity: Any) -> None:
        """The last row is the reply to the oldest command with this id; it says so where that does not stand above."""
        for waiting in client.waiting:
            if waiting[0] == identity:
                _, name, work = waiting
                client.waiting.remove(waiting)
                work.last = len(self.rows) - 1
                if work.last > work.first + 1:
                    self.rows[-1].marks[-1].text += f" ({name})"
                break

    def _hear(self, entry: Entry, client: _Client) -> bool:
        """Put an event beside the one in the machine's lane, where nothing happened in between."""
        if not self.rows:
            return False
        row = self.rows[-1]
        first = row.marks[0] if row.marks else None
        if first is None or first.style != "event" or any(mark.lane == client.lane for mark in row.marks):
            return False
        emitted, heard = first.entries[0].members, entry.message
        if (emitted.get("event"), emitted.get("data")) != (heard["event"], heard.get("data")):
            return False
        self._mark(entry, client.lane, "heard", "")
        row.linked = True
        return True


def _whole(text: str) -> dict[str, Any] | None:
    """The reply that was sent in pieces, once all of them are there."""
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("return" in message or "error" in message) else None
