"""Who reads and writes: a port, behind which the server has its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.block.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Outcome(NamedTuple):
    """What came of a piece of work: its value, or why it has failed."""

    value: Any = None
    error: OSError | ImageError | None = None


class Executor(Protocol):
    """Does one piece of work after another, in the order in which they came, away from the main loop."""

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do this, and tell in the main loop what came of it; `work` may raise OSError and ImageError alone."""

    def wait(self, until: Callable[[], bool]) -> None:
        """Called by a piece of work: let others go on until `until` is true."""

    def stir(self) -> None:
        """Something has changed that a piece of work may wait for."""

    def settle(self, patience: float = 2.0) -> bool:
        """Wait until no work is under way but such as waits itself, at most for so many seconds.

        What came of it is told before this returns; it gives whether all is done.
        """


class AtOnce:
    """Does everything when it is asked for: for a machine that nobody serves."""

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do it."""
        then(outcome_of(work))

    def wait(self, until: Callable[[], bool]) -> None:
        """Nobody else is there who could make it true."""

    def stir(self) -> None:
        """Nobody waits."""

    def settle(self, patience: float = 2.0) -> bool:
        """Nothing is under way."""
        return True


def outcome_of(work: Callable[[], Any]) -> Outcome:
    """Do a piece of work; what came of it."""
    try:
        return Outcome(work())
    except (OSError, ImageError) as error:
        return Outcome(error=error)
