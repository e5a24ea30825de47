"""What users ask of a job: the verbs of `job-*` and `block-job-*`, and when each is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.jobs.states import ENDED, TRANSITIONS, VERBS, JobStatus
from qmpd.common.refusals import Refusal
from qmpd.schedule.activity import Activity

if TYPE_CHECKING:
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Failed
    from qmpd.block.jobs.transaction import JobTransaction


class Asked(Activity[JobStatus]):
    """Part of a job (`qmpd.block.jobs.job.Job`)."""

    CALLED: ClassVar[str] = "job status"
    TRANSITIONS: ClassVar = TRANSITIONS
    VERBS: ClassVar = VERBS
    ENDS: ClassVar = frozenset({JobStatus.NULL})
    __slots__ = ("user_paused",)

    identifier: str
    jobs: Home
    user_paused: bool
    pause_count: int
    cancelled: bool
    transaction: JobTransaction
    done: int
    error: Failed | None
    deferred: bool

    @property
    def total(self) -> int:
        """How much it has to do in all, as far as is known."""
        raise NotImplementedError

    def ask(self, verb: str) -> None:
        """Refuse what it may not be asked for now.

        :raise Refusal: it may not.
        """
        raise NotImplementedError

    def pause(self) -> None:
        """Somebody needs it to be quiet."""
        raise NotImplementedError

    def resume(self) -> None:
        """Nobody needs that any more."""
        raise NotImplementedError

    def resumed_by_user(self) -> None:
        """The user has resumed it."""
        raise NotImplementedError

    def complete(self) -> None:
        """End with success now that it is ready."""
        raise NotImplementedError

    def cancel(self, *, force: bool) -> None:
        """Cancel it, or dismiss it where it is over."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """Nobody needs it any more."""
        raise NotImplementedError

    def user_pause(self) -> None:
        """The user pauses it (`job-pause`).

        :raise Refusal: it cannot be, or is.
        """
        self.ask("pause")
        if self.user_paused:
            raise Refusal("job-paused")
        self.user_paused = True
        self.pause()

    def user_resume(self) -> None:
        """The user resumes it (`job-resume`).

        :raise Refusal: it cannot be, or the user has not paused it.
        """
        if not self.user_paused or self.pause_count <= 0:
            raise Refusal("job-not-paused")
        self.ask("resume")
        self.resumed_by_user()
        self.user_paused = False
        self.resume()

    def user_complete(self) -> None:
        """The user completes it (`job-complete`).

        :raise Refusal: it cannot be.
        """
        self.ask("complete")
        if self.cancelled:
            raise Refusal("job-not-completed", id=self.identifier)
        self.complete()

    def user_cancel(self, *, force: bool) -> None:
        """The user cancels it (`job-cancel`).

        :raise Refusal: it cannot be.
        """
        self.ask("cancel")
        self.cancel(force=force)

    def user_finalize(self) -> None:
        """The user lets its effect become visible (`job-finalize`).

        :raise Refusal: it has not come that far.
        """
        self.ask("finalize")
        self.transaction.finalize()

    def user_dismiss(self) -> None:
        """The user does not need its result any more (`job-dismiss`).

        :raise Refusal: it has none yet.
        """
        self.ask("dismiss")
        self.dismiss()

    def error_words(self) -> str | None:
        """What is told of its failure, once its work has ended; None where there was none."""
        is_told = self.deferred or self.state in ENDED
        return self.error.words(self.jobs.words) if self.error is not None and is_told else None

    def query(self) -> dict[str, Any]:
        """What `query-jobs` tells of it (QAPI `JobInfo`)."""
        found: dict[str, Any] = {
            "id": self.identifier, "type": self.KIND, "status": str(self.state), "current-progress": self.done,
            "total-progress": self.total,
        }  # fmt: skip
        return found | ({} if self.error is None else {"error": self.error_words()})
