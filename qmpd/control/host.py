"""What the puppeteer asks of the server that runs the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qmpd.machine import Clock
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.system.system import System


class Host(Protocol):
    """A served machine (`qmpd.server.puppet_host.PuppetHost`)."""

    @property
    def clock(self) -> Clock:
        """The machine's clock."""

    @property
    def system(self) -> System:
        """The machine."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The machine's monitors."""

    @property
    def away(self) -> bool:
        """Whether the main loop runs no timers for now: it has not begun, or waits for something else."""

    def wake(self) -> None:
        """Tell the main loop that there is work."""

    def wake_later(self) -> None:
        """Tell it when others have had their turn."""

    def catch_up(self) -> None:
        """Take in whatever clients have sent, and clients that have connected, by now."""

    def close_ended(self) -> None:
        """Forget the clients that have closed their end and have been answered."""

    def step(self) -> bool:
        """Let the main loop go round once, without waiting; whether it is to go round again at once."""

    def flush(self) -> None:
        """Hand out what is owed to the clients."""

    def refuse_connections(self, refuse: bool) -> None:
        """Stop listening, or listen again; the control socket is not meant."""

    def exhaust_descriptors(self, exhausted: bool) -> None:
        """Accept nobody, as if there were no file descriptor left, or accept again."""

    def kill(self, signal: int) -> None:
        """End as a process that this signal kills."""
