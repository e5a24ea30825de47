"""What the work of jobs consists of: what it waits for, and how it fails."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.block.content import text_of
from qmpd.block.images.errors import ImageError
from qmpd.block.images.errors import text as error_text
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qmpd.block.executor import Outcome
    from qmpd.block.jobs.transaction import JobTransaction

    Steps = Generator["Sleep | Work", Any, None]


class Sleep(NamedTuple):
    """Wait for so many nanoseconds, or to be woken (None).

    `idle`: it is woken as one that sleeps until a moment, though it has none.
    """

    delay: int | None
    idle: bool = False


class Work(NamedTuple):
    """Have something done by the executor; the job is sent its `Outcome`, after `delay` nanoseconds at least.

    `early` hears of it as soon as it is known.  `counts` gives how many bytes of the disk it has moved, by its value:
    such work can be made to fail, and takes its time where the disks have a pace.
    """

    do: Callable[[], Any]
    delay: int = 0
    early: Callable[[Outcome], None] | None = None
    counts: Callable[[Any], int] | None = None


class JobFailure(Exception):  # noqa: N818 - it is the job that fails, not the program
    """A job has failed: with this error's number, and what is told of it."""

    def __init__(self, number: int, message: str | None = None) -> None:
        super().__init__(message or error_text(number))
        self.number = number
        self.message = message or error_text(number)

    def noted(self) -> Failed:
        """The same, as what is noted of the job."""
        return Failed(self.number, self.message)


class Failed(NamedTuple):
    """Why a job has failed; a refusal is told in its own words."""

    number: int
    why: str | Refusal

    def words(self, spell: Callable[[Refusal], str]) -> str:
        """What is told of it; `spell` has the words of the release."""
        return spell(self.why) if isinstance(self.why, Refusal) else self.why


@dataclass(slots=True)
class Options:
    """What every job can be told.  Without a `transaction` it is alone."""

    identifier: str
    auto_finalize: bool = True
    auto_dismiss: bool = True
    transaction: JobTransaction | None = None

def failed(error: JobFailure | Refusal | OSError | ImageError) -> Failed:
    """What is noted of a job that has failed so."""
    if isinstance(error, JobFailure):
        return Failed(error.number, error.message)
    if isinstance(error, Refusal):
        return Failed(errno.EINVAL, error)
    if isinstance(error, ImageError):
        return Failed(error.number, error.message)
    return Failed(error.errno or errno.EIO, text_of(error))
