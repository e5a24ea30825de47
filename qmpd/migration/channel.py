"""The ways that a migration takes, as its two sides see them: what the server has sockets, pipes and files for.

All of it is called in the main loop.  What is sent is taken at once and goes out as the other side reads; nobody waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Receiver(Protocol):
    """Who is told what becomes of a channel."""

    def received(self, data: bytes) -> None:
        """Something has come from the other side."""

    def sent(self) -> None:
        """All that was to be sent has gone out."""

    def lost(self, error: OSError | None) -> None:
        """Nothing more comes, or goes: the other side has closed it (None), or something is wrong with it."""


def cannot_write(called: str, reason: str = "Broken pipe") -> str:
    """What is told of a channel that is lost; `called` is what QEMU calls one of its kind."""
    return f"Unable to write to {called}: {reason}"


class Channel(Protocol):
    """One way to the other side.

    `called`: what errors call it (`socket`, `command`, `file`).  `answers`: the other side can answer.  `unsent`: the
    bytes that have not gone out yet.
    """

    @property
    def called(self) -> str:
        """What errors call it."""

    @property
    def answers(self) -> bool:
        """Whether the other side can say something, too."""

    @property
    def unsent(self) -> int:
        """The bytes that have not gone out yet."""

    @property
    def was_read(self) -> bool:
        """Whether anybody has read of what was sent; true where that cannot be told."""

    def start(self, receiver: Receiver) -> None:
        """Tell this one from now on; what has come by then is told first."""

    def send(self, data: bytes) -> None:
        """Send this behind all else."""

    def finish(self, then: Callable[[], None]) -> None:
        """Close it once all has gone out; `then` is called when whoever is behind it has all of it."""

    def close(self) -> None:
        """Close it now, whatever has not gone out."""


class Way(NamedTuple):
    """What a machine that migrates goes to, or comes from: an address (QAPI's `MigrationAddress`), and what goes along.

    `monitor` is whose open files an address may name.  `credentials` gives an object's properties for TLS, or None,
    as they are when a channel is there; `hostname` is whom a certificate must name, empty for the address's host.
    """

    address: Mapping[str, Any]
    monitor: str = ""
    credentials: Callable[[], Mapping[str, Any] | None] = lambda: None
    hostname: str = ""


class Waiting(Protocol):
    """Where somebody is waited for.  `addresses`: QAPI's SocketAddress of each, empty where it has none."""

    @property
    def addresses(self) -> list[Mapping[str, Any]]:
        """The addresses at which it can be reached."""

    def close(self) -> None:
        """Wait no longer."""


class Ways(Protocol):
    """Who makes channels: whoever serves the machine.  Where there is none, nobody is reached."""

    def reach(self, way: Way, then: Callable[[Channel | str], None]) -> Callable[[], None]:
        """Make a channel; `then` is given it, or why there is none, in the main loop, later.

        What this gives is called by one who does not want it any more.

        :raise Refusal: it shows at once that there is none.
        """

    def wait(self, way: Way, then: Callable[[Channel], None]) -> Waiting:
        """Wait for channels; `then` is given each in the main loop.

        :raise Refusal: nobody can be waited for there.
        """
