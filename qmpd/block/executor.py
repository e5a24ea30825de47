"""Who reads and writes: a port, behind which the server has its threads."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.block.images.errors import ImageError
from qmpd.block.pausing import Came

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.pausing import Paused


class Outcome(NamedTuple):
    """What came of a piece of work: its value, or why it has failed."""

    value: Any = None
    error: OSError | ImageError | None = None


class Executor(Protocol):
    """Does one piece of work after another, in the order in which they came, away from the main loop."""

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do this, and tell in the main loop what came of it; `work` is to raise OSError and ImageError alone."""

    def wait(self, until: Callable[[], bool]) -> None:
        """Called by a piece of work: let others go on until `until` is true."""

    def soon(self, action: Callable[[], None]) -> None:
        """Called by a piece of work: have something done in the main loop."""

    def stir(self) -> None:
        """Something has changed that a piece of work may wait for."""

    def settle(self, patience: float = 2.0) -> bool:
        """Wait until no work is under way but such as waits itself, at most for so many seconds.

        What came of it is told before this returns; it gives whether all is done.  Who can be put aside
        (`qmpd.block.pausing`) waits for as long as it takes, unless it is a moment that is asked for.
        """

    def away(self, work: Callable[[], Any], whose: Paused, patience: float) -> Came | None:
        """Do a piece of work of somebody who can be put aside, and wait for it so many seconds.

        None where that has not sufficed: `whose.go_on` is called with it in the main loop.
        """

    def free(self, whose: Paused) -> None:
        """Others' work may be done again."""


class AtOnce:
    """Does everything when it is asked for: for a machine that nobody serves."""

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do it."""
        then(outcome_of(work))

    def wait(self, until: Callable[[], bool]) -> None:
        """Nobody else is there who could make it true."""

    def soon(self, action: Callable[[], None]) -> None:
        """This is the main loop."""
        action()

    def stir(self) -> None:
        """Nobody waits."""

    def settle(self, patience: float = 2.0) -> bool:
        """Nothing is under way."""
        return True

    def away(self, work: Callable[[], Any], whose: Paused, patience: float) -> Came | None:
        """Do it."""
        return came_of(work)

    def free(self, whose: Paused) -> None:
        """Nobody has waited."""


def outcome_of(work: Callable[[], Any]) -> Outcome:
    """Do a piece of work; what came of it."""
    try:
        return Outcome(work())
    except (OSError, ImageError) as error:
        return Outcome(error=error)
    except Exception as defect:
        # The machine, and all others that this process serves, outlive it.
        sys.excepthook(type(defect), defect, defect.__traceback__)
        text = f"qmpd failed at reading or writing a disk, which is a defect of qmpd: {type(defect).__name__}: {defect}"
        return Outcome(error=OSError(errno.EIO, text))


def came_of(work: Callable[[], Any]) -> Came:
    """Do a piece of work; what came of it, whatever it raises."""
    try:
        return Came(work())
    except BaseException as error:
        return Came(error=error)
