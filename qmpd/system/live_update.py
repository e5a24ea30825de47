"""What the live update's commands ask of the server, which alone has the sockets and the child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qmpd.machine.live_update import LiveUpdate
    from qmpd.system.deferred import Deferred


class Updater(Protocol):
    """The live update of one served machine."""

    @property
    def update(self) -> LiveUpdate:
        """The stage, and why it failed."""

    @property
    def child(self) -> int | None:
        """The process id of the child; None where there is none."""

    def prepare(self, program: str | None, timeout: float) -> None:
        """Start a child, which has `timeout` seconds to become ready.

        :raise MachineError: an update is under way.
        """

    def cancel(self) -> None:
        """End the child.

        :raise MachineError: no update is under way.
        """

    def commit(self, timeout: float, deferred: Deferred) -> None:
        """Leave the machine to the child, which has `timeout` seconds to take over and then replies.

        That is done in the main loop, in its turn; where it fails `deferred` is refused, and this process goes on.
        """
