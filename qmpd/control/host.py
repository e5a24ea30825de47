"""What the puppeteer asks of the server that runs the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qmpd.machine import Clock
    from qmpd.monitor.dispatcher import Dispatcher


class Host(Protocol):
    """A served machine (`qmpd.server.virtual_machine.VirtualMachine`)."""

    @property
    def clock(self) -> Clock:
        """The machine's clock."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The machine's monitors."""

    def wake(self) -> None:
        """Tell the main loop that there is work."""

    def catch_up(self) -> None:
        """Take in whatever clients have sent, and clients that have connected, by now."""

    def step(self) -> bool:
        """Let the main loop go round once, without waiting; whether it is to go round again at once."""

    def flush(self) -> None:
        """Hand out what is owed to the clients."""
