"""Machines to test on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmpd.guest.course import Guest
from qmpd.guest.making import make_machine
from qmpd.machine import MachineSettings, VirtualClock, main_loop
from qmpd.machine.behaviour import CoreBehaviour
from qmpd.qapi import load_release

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class Bench:
    """A machine with its clock and the events it has emitted: run as a server runs it."""

    def __init__(self, settings: MachineSettings, behaviour: CoreBehaviour) -> None:
        self.clock = VirtualClock()
        self.events: list[str] = []
        self.data: list[Any] = []
        self.times: list[int] = []
        self.reports: list[str] = []
        self.wakes = 0
        self.exit_status: int | None = None
        self.machine, self._guest = make_machine(
            settings, behaviour, self.clock, self.emitted, self.woken, self.reports.append
        )
        self.machine.start()
        self.turns()

    @property
    def guest(self) -> Guest:
        """The machine's guest, where it has one."""
        assert self._guest is not None
        return self._guest

    def emitted(self, event: tuple[str, dict[str, object] | None, int]) -> None:
        name, data, _ = event
        self.events.append(name)
        self.data.append(data)
        self.times.append(self.clock.monotonic_nanoseconds())

    def woken(self) -> None:
        self.wakes += 1

    def turns(self) -> None:
        """Take turns while there is something to do."""
        while self.machine.pending and self.exit_status is None:
            self.exit_status = main_loop.turn(self.machine)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass, step by step."""
        end = self.clock.monotonic_nanoseconds() + nanoseconds
        while self.exit_status is None:
            deadline = self.machine.next_deadline()
            if deadline is None or deadline > end:
                break
            self.clock.advance(max(0, deadline - self.clock.monotonic_nanoseconds()))
            self.machine.run_timers()
            self.turns()
        self.clock.advance(max(0, end - self.clock.monotonic_nanoseconds()))

    def take(self) -> list[str]:
        """The names of the events since the last call."""
        events = self.events
        self.events, self.data, self.times = [], [], []
        return events


Build = Callable[..., Bench]
"""Builds a bench: `bench("7.2", machine_type="none", ...)`, with the settings' names."""


@pytest.fixture
def bench() -> Build:
    """A builder of benches."""

    def build(release: str = "7.2", **settings: object) -> Bench:
        return Bench(MachineSettings(**settings), load_release(release).behaviour)  # type: ignore[arg-type]

    return build
