"""Jobs that succeed or fail together.  (QEMU's job.c, `JobTxn`.)

A job is always in a transaction; most are alone in theirs.  The end of jobs is here, as it is the same for one as for
several: all wait for each other, then all are pending, are prepared, and conclude; where one fails all others are
cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.block.jobs.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable


class Member(Protocol):
    """A job, as its transaction sees it."""

    auto_finalize: bool

    @property
    def has_failed(self) -> bool:
        """Whether its work has failed, or was cancelled."""

    @property
    def has_ended(self) -> bool:
        """Whether its work is over."""

    def enter(self, state: JobStatus) -> None:
        """Go on to a state."""

    def update_result(self) -> None:
        """Note what becomes of it, now that its work is over."""

    def tell_pending(self) -> None:
        """Tell that it waits to be finalized."""

    def prepare_end(self) -> bool:
        """Make its effect visible; whether that has succeeded."""

    def conclude(self) -> None:
        """It is over."""

    def cancel_later(self, *, force: bool) -> None:
        """It is cancelled; whoever calls this sees to it that it notices."""

    def finish_now(self) -> None:
        """Have it come to its end at once."""


class JobTransaction:
    """Several jobs, the last that was added first; give one to each of them that is made (`Options.transaction`)."""

    __slots__ = ("_aborting", "jobs")

    def __init__(self) -> None:
        self.jobs: list[Member] = []
        self._aborting = False

    def add(self, job: Member) -> None:
        """A job is in it from now on."""
        self.jobs.insert(0, job)

    def remove(self, job: Member) -> None:
        """A job is over."""
        if job in self.jobs:
            self.jobs.remove(job)

    def _apply(self, do: Callable[[Member], bool]) -> bool:
        """Do something with each, until it fails with one; whether it failed with none."""
        return all(do(job) for job in list(self.jobs))

    def completed(self, job: Member) -> None:
        """A job's work has ended (`job_completed`)."""
        job.update_result()
        if job.has_failed:
            self.abort(job)
        else:
            self._succeeded(job)

    def _succeeded(self, job: Member) -> None:
        job.enter(JobStatus.WAITING)
        if not all(each.has_ended for each in self.jobs):
            return
        for each in list(self.jobs):
            each.enter(JobStatus.PENDING)
            if not each.auto_finalize:
                each.tell_pending()
        if all(each.auto_finalize for each in self.jobs):
            self.finalize()

    def finalize(self) -> None:
        """Make the effect of all visible (`job_do_finalize`)."""
        if not self.jobs:
            return
        first = self.jobs[0]
        if self._apply(lambda each: each.prepare_end()):
            for each in list(self.jobs):
                each.conclude()
        else:
            self.abort(first)

    def abort(self, job: Member) -> None:
        """One has failed: cancel all others, and conclude them (`job_completed_txn_abort`)."""
        if self._aborting:
            # Another one has failed, and sees to it.
            return
        self._aborting = True
        for other in list(self.jobs):
            if other is not job:
                other.cancel_later(force=True)
        while self.jobs:
            other = self.jobs[0]
            if not other.has_ended:
                other.finish_now()
            other.conclude()
