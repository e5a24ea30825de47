"""A transcript as it is read from a file: one JSON object a line, in the order in which things happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = (
    "started",
    "connected",
    "disconnected",
    "received",
    "sent",
    "run-state",
    "event",
    "guest",
    "control",
    "fault",
    "override",
    "lost",
    "ended",
)
"""The kinds of entries that are drawn (`qmpd.control.recorder.EntryKind`)."""

_OF_A_CLIENT = frozenset({"connected", "disconnected", "received", "sent"})


class TranscriptError(ValueError):
    """A line is no entry of a transcript; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its number, its time (nanoseconds on the machine's monotonic clock), its kind, and all its members."""

    number: int
    time: int
    kind: str
    members: dict[str, Any]

    @property
    def client(self) -> int | None:
        """The client that it is about; None where it is about none."""
        return _client(self.members)

    @property
    def wall_microseconds(self) -> int | None:
        """Its time of day on the machine's clock, in microseconds since the epoch."""
        match self.members.get("timestamp"):
            case {"seconds": int(seconds), "microseconds": int(microseconds)}:
                return seconds * 1_000_000 + microseconds
        return None

    @property
    def message(self) -> dict[str, Any]:
        """The message that was sent or received; empty where it was none."""
        message = self.members.get("message")
        return message if isinstance(message, dict) else {}


def entry(members: dict[str, Any]) -> Entry:
    """An entry of its JSON members.

    :raise TranscriptError: a member that every entry (of its kind) has is missing or of another type.
    """
    match members:
        case {"number": int(number), "time": int(time), "kind": str(kind)}:
            if kind in _OF_A_CLIENT and _client(members) is None:
                raise TranscriptError(f"an entry of kind '{kind}' has a client")
            return Entry(number, time, kind, members)
    raise TranscriptError("an entry has a number, a time and a kind")


def _client(members: dict[str, Any]) -> int | None:
    client = members.get("client")
    return client if isinstance(client, int) else None


def read(lines: Iterable[str]) -> list[Entry]:
    """The entries of these lines.  A last line without its end is left out: whoever wrote it was stopped there.

    :raise TranscriptError: a line is no entry.
    """
    entries = []
    for index, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            members = json.loads(line)
            if not isinstance(members, dict):
                raise TranscriptError("it is no JSON object")
            entries.append(entry(members))
        except ValueError as error:
            if not line.endswith("\n"):
                break
            reason = "it is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise TranscriptError(f"line {index}: {reason}") from None
    return entries
