"""The puppeteer of one machine: everything that a test can make happen, as typed methods.

    puppeteer = Puppeteer(virtual_machine)
    puppeteer.guest.set(boot_time="2s", on_powerdown=GuestAction.NONE)
    puppeteer.guest.reboot()
    puppeteer.clock.advance(90)

The methods are the control socket's commands (`qmpd.control.declaration`), in groups.  They are to be called in
the thread that runs the machine, between two passes of its main loop; none of them waits.  What the clients have
sent by then is executed before, and what a method brings about (the main loop's turns, events, replies) has
happened when it returns.  That, and a virtual clock, is why the same steps give the same transcript.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.control.guest import GuestControl
from qmpd.control.time import ClockControl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.control.declaration import Declaration, Group
    from qmpd.control.host import Host

GROUPS: dict[str, type[Group]] = {
    "guest": GuestControl,
    "clock": ClockControl,
}
"""The groups of commands, by the attribute of `Puppeteer` that has them."""

EVENTS: dict[str, Any] = {}
"""The control socket's events, each with the type of its data."""

SETTLING = 100_000
"""Passes of the main loop after which a machine counts as one that never settles."""


class Puppeteer:
    """Plays one machine.  `guest` and `clock` are its groups of methods."""

    __slots__ = ("_performing", "clock", "guest", "host", "machine")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine = host.dispatcher.machine
        self.guest = GuestControl(self)
        self.clock = ClockControl(self)
        self._performing = False

    def perform(
        self, declaration: Declaration, group: Group, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Execute a command between what was sent before it and what it brings about."""
        function: Callable[..., Any] = declaration.function
        if self._performing:
            return function(group, *arguments, **options)
        self._performing = True
        try:
            self.catch_up()
            result = function(group, *arguments, **options)
            self.settle()
            return result
        finally:
            self._performing = False
            self.host.wake()

    @property
    def ended(self) -> bool:
        """Whether the machine has ended."""
        return self.host.dispatcher.exit_status is not None

    def catch_up(self) -> None:
        """Execute what clients have sent by now."""
        self.host.catch_up()
        self.settle()

    def settle(self) -> None:
        """Let the main loop go round until it would wait."""
        for _ in range(SETTLING):
            if self.ended or not self._step():
                break
        self.host.flush()

    def _step(self) -> bool:
        return self.host.step()

    def next_deadline(self) -> int | None:
        """When the next timer of any kind is due, on the clock's monotonic nanoseconds; None without one."""
        dispatcher = self.host.dispatcher
        deadlines = [dispatcher.machine.next_deadline(), dispatcher.limiter.next_deadline()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)
