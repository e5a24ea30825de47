"""What a soak has done and seen."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

REMEMBERED = 60
"""Lines of the transcript that are shown where something is wrong."""


@dataclass
class Ledger:
    """Counts, and the transcript: its digest and its last lines.

    `memory` has pairs: the seconds since the start (or the steps, in virtual time) and the bytes in use;
    `kept` are those that transcripts keep, which are left out there.
    """

    machines: int = 0
    clients: int = 0
    steps: int = 0
    commands: int = 0
    replies: int = 0
    events: int = 0
    actions: int = 0
    lost_by_design: int = 0
    updates: int = 0
    longest_wait: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    plug_events: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    greetings: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    kept: int = 0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _digest: Any = field(default_factory=hashlib.sha256)

    def note(self, line: str) -> None:
        """Write a line of the transcript."""
        self.last.append(line)
        self._digest.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """What differs where two transcripts do."""
        found: str = self._digest.hexdigest()
        return found

    def summary(self) -> str:
        """The counts, in a few lines."""
        done = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        plugging = ", ".join(f"{count} {name}" for name, count in sorted(self.plug_events.items()) if count)
        return (
            f"{self.steps} steps with {self.machines} machines and {self.clients} clients:"
            f" {self.commands} commands, {self.replies} replies, {self.events} events"
            f"{f' (of hot plug: {plugging})' if plugging else ''}, {self.actions} guest actions\n"
            f"{done or 'nothing'}\n"
            f"{self.updates} processes replaced; the longest wait for a reply was {self.longest_wait:.3f} s\n"
            f"{self.lost_by_design} commands or replies lost by design (dropped, killed, ended machines);"
            f" {len(self.wrong)} times something was lost or wrong\n"
        )
