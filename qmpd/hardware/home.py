"""What the parts of a machine see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.schedule.activity import Activities
from qmpd.schedule.clock import SystemClock
from qmpd.schedule.schedule import Schedule

if TYPE_CHECKING:
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.schedule.clock import Clock


class Listener(Protocol):
    """The guest, as far as parts ask it for something (`qmpd.guest.course.Guest`)."""

    @property
    def listens(self) -> bool:
        """Whether an operating system runs."""

    @property
    def uses_acpi(self) -> bool:
        """Whether what runs is an operating system that knows ACPI."""

    def unplug_asked(self, path: str) -> None:
        """It is asked to let go of the device at this path."""

    def balloon_asked(self) -> None:
        """It is asked to do with another amount of memory."""

    def standby_added(self, path: str) -> None:
        """There is a card at this path, which stands in for another one (`failover=on`)."""

    def statistics_asked(self, delay: int) -> None:
        """Its balloon asks for statistics so many nanoseconds from now."""


class Home(Protocol):
    """The machine that has the parts (`qmpd.machine.machine.Machine`)."""

    @property
    def settings(self) -> MachineSettings:
        """What it was started with."""

    @property
    def clock(self) -> Clock:
        """Its clock."""

    @property
    def schedule(self) -> Schedule:
        """Its timers, and its own time."""

    @property
    def has_run(self) -> bool:
        """Whether its vCPUs have ever run."""

    @property
    def guest(self) -> Listener | None:
        """Its guest; None without one."""

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event."""

    def report(self, line: str) -> None:
        """Say something on standard error."""

    @property
    def activities(self) -> Activities:
        """Its long work."""


class Workbench:
    """Where parts are put together before there is a machine: nobody hears of it, and its activities wait.

    `settings` are what is known of the machine by now.
    """

    def __init__(self, settings: MachineSettings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.schedule = Schedule(self.clock)
        self.has_run = False
        self.guest: Listener | None = None
        self.activities = Activities(self.schedule, _wake_nobody)

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event, which nobody hears."""

    def report(self, line: str) -> None:
        """Say something, which nobody hears."""

    def clear(self, home: Home) -> None:
        """Leave what waits to the machine."""
        for _ in self.activities:
            home.activities.adopt(self.activities)
            break


def _wake_nobody() -> None:
    """There is no main loop yet."""
