"""The life of a job.  (QEMU's job.c; the theory and the tables are in `states`.)
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.executor import Outcome
from qmpd.block.images.errors import ImageError
from qmpd.block.images.errors import text as error_text
from qmpd.block.jobs.asked import Asked
from qmpd.block.jobs.states import ENDED, JobStatus
from qmpd.block.jobs.steps import Failed, JobFailure, Sleep, Work, failed
from qmpd.block.jobs.transaction import JobTransaction
from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Options, Steps
    from qmpd.block.nodes import BlockNode


class Job(Asked):
    """One job.  `done` and `left` are its progress, in what its kind counts in; `error` is why it has failed."""

    GOES_ON: ClassVar[bool] = False
    """Whether another process can go on with it: `run` may be called again, and goes on from its attributes."""
    __slots__ = (
        "_asleep", "_body", "_idle", "_outcome", "_owed", "_put_off", "auto_dismiss", "auto_finalize", "busy",
        "cancelled", "deferred", "done", "error", "force_cancelled", "identifier", "jobs", "left", "pause_count",
        "paused", "transaction",
    )  # fmt: skip

    def __init__(self, jobs: Home, options: Options) -> None:
        """It is created.

        :raise Refusal: there cannot be a job of this name.
        """
        super().__init__(JobStatus.UNDEFINED)
        self.jobs = jobs
        if not is_identifier(options.identifier):
            raise Refusal("job-id", id=options.identifier)
        if jobs.find(options.identifier) is not None:
            raise Refusal("job-id-taken", id=options.identifier)
        self.identifier = options.identifier
        self.auto_finalize = options.auto_finalize
        self.auto_dismiss = options.auto_dismiss
        self.transaction = options.transaction or JobTransaction()
        self.done = self.left = 0
        self.error: Failed | None = None
        # A job that was not started yet counts as paused, until it is.
        self.pause_count, self.paused = 1, True
        self.busy = False
        self.user_paused = False
        self.cancelled = False
        self.force_cancelled = False
        # Its work has ended; the rest comes in the main loop.
        self.deferred = False
        self._body: Steps | None = None
        # Whether it sleeps until a moment of the clock.
        self._asleep = self._idle = False
        # What came of a piece of work that it was not told of yet; whether it still waits for that.
        self._outcome: Outcome | None = None
        self._owed = False
        # A piece of work that it does not begin with yet.
        self._put_off: Work | None = None
        self.transaction.add(self)
        jobs.add(self)
        self.tell_created()

    def tell_created(self) -> None:
        """It is created."""
        self.enter(JobStatus.CREATED)

    @property
    def name(self) -> str:
        """What it is called among the machine's activities."""
        return f"job {self.identifier}"

    def entered(self, old: JobStatus) -> None:
        """Tell of its new state."""
        if self.state is not old:
            self.jobs.emit("JOB_STATUS_CHANGE", {"status": str(self.state), "id": self.identifier})

    def allows(self, verb: str) -> bool:
        """Whether it may be asked for this now."""
        if verb == "complete" and self.state is JobStatus.STANDBY:
            return self.jobs.behaviour.job_completes_in_standby
        return super().allows(verb)

    def ask(self, verb: str) -> None:
        """Refuse what it may not be asked for now.

        :raise Refusal: it may not.
        """
        if not self.allows(verb):
            raise Refusal("job-verb", id=self.identifier, state=str(self.state), verb=verb)

    @property
    def is_started(self) -> bool:
        """Whether its work has begun."""
        return self._body is not None

    @property
    def has_failed(self) -> bool:
        """Whether its work has failed, or was cancelled."""
        return self.error is not None

    @property
    def has_ended(self) -> bool:
        """Whether its work is over."""
        return self.state in ENDED

    @property
    def is_cancelled(self) -> bool:
        """Whether it is to end at once."""
        return self.cancelled and self.force_cancelled

    @property
    def can_be_held(self) -> bool:
        """Whether faults may keep its steps back: one that is cancelled ends."""
        return not self.is_cancelled

    @property
    def is_ready(self) -> bool:
        """Whether it could be completed."""
        return self.state in (JobStatus.READY, JobStatus.STANDBY)

    def run(self) -> Steps:
        """Its work."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make its effect visible.

        :raise JobFailure, Refusal, OSError, ImageError: it cannot be; the job fails.
        """

    def commit(self) -> None:
        """It has succeeded."""

    def abort(self) -> None:
        """It has failed."""

    def clean(self) -> None:
        """It is over: let go of what it held."""

    def gone(self) -> None:
        """It was dismissed."""

    def complete(self) -> None:
        """End with success now that it is ready.

        :raise Refusal: it ends by itself.
        """
        raise Refusal("job-not-completed", id=self.identifier)

    def cancels(self, *, force: bool) -> bool:
        """It is cancelled: whether that is to be done by force, as it is with most."""
        return True

    def before_pause(self) -> Steps:
        """It is about to be paused: wait for what is under way."""
        yield from ()

    def resumed_by_user(self) -> None:
        """The user has resumed it."""

    def tell_pending(self) -> None:
        """It waits to be finalized."""

    def tell_end(self) -> None:
        """It has ended."""

    def blocks(self, node: BlockNode) -> bool:
        """Whether nobody else may change this node while the job is there."""
        return False

    def quiet_nodes(self) -> list[BlockNode]:
        """The nodes that are quiet only if the job is."""
        return []

    @property
    def total(self) -> int:
        """How much it has to do in all, as far as is known."""
        return self.done + self.left

    def advance(self, size: int) -> None:
        """So much more is done."""
        self.done += size
        self.left -= size

    def sleep(self, delay: int) -> Steps:
        """Sleep for so many nanoseconds, or until it is woken; then pause where it is to."""
        if self.is_cancelled:
            return
        if not self.pause_count:
            yield Sleep(delay)
        yield from self.pause_point()

    def idle(self) -> Steps:
        """Sleep until it is woken, or `rouse` has it look again."""
        if self.is_cancelled:
            return
        if not self.pause_count:
            yield Sleep(None, idle=True)
        yield from self.pause_point()

    def rouse(self, *, if_idle: bool = False) -> None:
        """There is something to do for it where it sleeps (`if_idle`: without end): it goes on in the next pass."""
        if self._asleep and not self.busy and (self._idle or not if_idle):
            self.jobs.activities.due(self.name, 0)

    def pause_point(self) -> Steps:
        """Pause here, where it is to."""
        if not self.pause_count or self.is_cancelled:
            return
        yield from self.before_pause()
        if self.pause_count and not self.is_cancelled:
            back = self.state
            self.enter(JobStatus.STANDBY if back is JobStatus.READY else JobStatus.PAUSED)
            self.paused = True
            yield Sleep(None)
            self.paused = False
            self.enter(back)

    def start(self) -> None:
        """Begin its work."""
        self._body = self._life()
        self.pause_count -= 1
        self.paused = False
        self.enter(JobStatus.RUNNING)
        self.jobs.activities.begin(self.name, self, None)
        self._go_on()

    def _life(self) -> Steps:
        yield from self.pause_point()
        yield from self.run()

    def give_up(self) -> None:
        """It is not started after all."""
        self.dismiss()
        self.clean()

    def _go_on(self, value: Any = None) -> None:
        """Let its work go on until it waits for something."""
        assert self._body is not None
        self.busy = True
        try:
            wait = self._body.send(value)
        except StopIteration:
            self._work_ended()
            return
        except (JobFailure, Refusal, OSError, ImageError) as error:
            # What was under way when it failed is not kept with it.
            error.__traceback__ = error.__context__ = None
            self.error = failed(error) if self.error is None else self.error
            self._work_ended()
            return
        if isinstance(wait, Work):
            self._put_off = wait
            if not self.jobs.rests:
                self.begin_work()
            return
        self.busy = False
        self._idle = wait.idle
        self._asleep = wait.idle or wait.delay is not None
        if wait.delay is not None:
            self.jobs.activities.due(self.name, wait.delay)

    def begin_work(self) -> None:
        """Begin with the piece of work that was put off, if there is one."""
        work, self._put_off = self._put_off, None
        if work is None:
            return
        self._owed = True
        number = 0 if work.counts is None else self.jobs.take_fault(self)
        if number:
            self._worked(Outcome(error=OSError(number, error_text(number))), work)
        else:
            self.jobs.do(work.do, lambda outcome: self._worked(outcome, work))

    def _worked(self, outcome: Outcome, work: Work) -> None:
        """A piece of work is done; the job goes on in the main loop's next pass."""
        self._outcome = outcome
        moved = 0 if work.counts is None or outcome.error is not None else work.counts(outcome.value)
        self.jobs.activities.due(self.name, max(work.delay, self.jobs.time_of(moved)))
        if work.early is not None:
            work.early(outcome)

    def step(self) -> int | None:
        """Go on, now that what it has waited for has come."""
        self.jobs.apart(self._step)
        return None

    def _step(self) -> None:
        if self._owed:
            self.take_outcome()
        elif self._put_off is not None:
            self.begin_work()
        elif self._asleep:
            self._asleep = False
            self._go_on()

    def take_outcome(self) -> bool:
        """Go on with what came of its work, where that is known; whether it was."""
        if self._outcome is None:
            return False
        outcome, self._outcome, self._owed = self._outcome, None, False
        self.jobs.activities.cancel(self.name)
        self._go_on(outcome)
        return True

    def wake(self, *, asleep: bool | None = None) -> None:
        """Have it go on where it sleeps or is paused; `asleep`: only if it (does not) sleep until a moment."""
        if not self.is_started or self.deferred or self.busy:
            return
        if asleep is not None and asleep is not self._asleep:
            return
        self.jobs.activities.cancel(self.name)
        # One that is held goes on when it is let go.
        self._asleep = not self.jobs.activities.may_step(self.name)
        if not self._asleep:
            self._go_on()

    def _work_ended(self) -> None:
        self.deferred = True
        self.jobs.next_turn(self._leave)

    def _leave(self) -> None:
        """The main loop hears that its work has ended."""
        if not self.has_ended:
            self.busy = False
            self.transaction.completed(self)

    def fail(self, reason: str) -> None:
        """Its work fails, for this reason."""
        self.require("fail")
        if self._body is not None and not self.deferred:
            self._body.close()
            self._outcome, self._owed, self._put_off, self._asleep, self.busy = None, False, None, False, True
            self.error = Failed(errno.EIO, reason)
            self._work_ended()

    @property
    def puts_off(self) -> bool:
        """Whether it has a piece of work to begin with, and does not yet."""
        return self._put_off is not None

    def note_done(self) -> None:
        """Note what has come of its work by now; the next piece comes when it would have."""
        left = self.jobs.activities.left(self.name) or 0
        if self.take_outcome() and self._put_off is not None:
            self.jobs.activities.due(self.name, left)

    def come(self, *, goes_on: bool) -> None:
        """It is in another process now; `goes_on`: it has something to do when its next step is due."""
        self._outcome, self._owed, self._put_off, self.busy = None, False, None, False
        self._asleep |= goes_on
        self._idle = getattr(self, "_idle", self._asleep)

    def hindrance(self) -> str | None:
        """Its place in its work is plain data only for those kinds that say so, while it waits, or once it is over."""
        if self.deferred:
            return None
        waits = self._put_off is not None or not self.busy
        return None if self.GOES_ON and waits else f"the job '{self.identifier}' is there"

    def snapshot(self) -> dict[str, Any]:
        """What a process needs to go on with it (`qmpd.block.jobs.carrying`)."""
        return {**super().snapshot(), **self.jobs.take(self)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with it: from where it waits."""
        super().restore(state)
        self.jobs.put(self, state)
        self._body = self._rest_of_life()
        if not self.deferred:
            next(self._body)

    def _rest_of_life(self) -> Steps:
        """What is left of its work, where another process has begun with it."""
        yield Sleep(None)
        if self.paused:
            self.paused = False
            self.enter(JobStatus.READY if self.state is JobStatus.STANDBY else JobStatus.RUNNING)
        yield from self.run()

    def taken_over(self, links: Mapping[str, Any]) -> None:
        """It has come from another process: be again what others know it as (`links` gives what `links` gave)."""

    def links(self) -> dict[str, Any]:
        """What of it is not its own attribute, as plain data."""
        return {}

    def pause(self) -> None:
        """Somebody needs it to be quiet."""
        self.pause_count += 1
        if self.jobs.behaviour.job_pause_wakes:
            if not self.paused:
                self.wake()
        elif self.state is JobStatus.READY:
            self.rouse()

    def resume(self) -> None:
        """Nobody needs that any more."""
        self.pause_count -= 1
        if not self.pause_count:
            self.wake(asleep=False)

    def cancel(self, *, force: bool) -> None:
        """Cancel it, or dismiss it where it is over."""
        if self.state is JobStatus.CONCLUDED:
            self.dismiss()
            return
        self.cancel_later(force=force)
        if not self.is_started:
            self.transaction.completed(self)
        elif self.deferred:
            if self.is_cancelled:
                self.transaction.abort(self)
        else:
            self.wake()
            self.jobs.activities.let_go(self.name)

    def cancel_later(self, *, force: bool) -> None:
        """It is cancelled; whoever calls this sees to it that it notices."""
        force = self.cancels(force=force)
        if self.user_paused:
            self.resumed_by_user()
            self.user_paused = False
            self.pause_count -= 1
        if force or not self.deferred:
            self.cancelled = True
            self.force_cancelled |= force

    def finish_now(self) -> None:
        """Have it come to its end at once."""
        self.wake()
        while not self.has_ended:
            self.jobs.settle()
            if not self.take_outcome() and not self.jobs.run_turn():
                if self.busy or not self.is_started:
                    break
                self.wake()
        if not self.has_ended:
            # What it reads or writes does not come to an end: nobody waits for that.
            self.deferred, self._outcome, self._owed = True, None, False
            self.update_result()

    def update_result(self) -> None:
        """Note what becomes of it, now that its work is over."""
        if self.error is None and self.is_cancelled:
            self.error = JobFailure(errno.ECANCELED).noted()
        if self.error is not None:
            self.enter(JobStatus.ABORTING)

    def prepare_end(self) -> bool:
        """Make its effect visible; whether that has succeeded."""
        if self.error is None:
            try:
                self.prepare()
            except (JobFailure, Refusal, OSError, ImageError) as error:
                self.error = failed(error)
            self.update_result()
        return self.error is None

    def conclude(self) -> None:
        """It is over: with success, or without (`job_finalize_single`)."""
        self.update_result()
        if self.error is None:
            self.commit()
        else:
            self.abort()
        self.clean()
        if self.is_started:
            self.tell_end()
        self.transaction.remove(self)
        self.enter(JobStatus.CONCLUDED)
        if self.auto_dismiss or not self.is_started:
            self.dismiss()

    def dismiss(self) -> None:
        """Nobody needs it any more."""
        self.transaction.remove(self)
        self.deferred = True
        self.enter(JobStatus.NULL)
        self.jobs.remove(self)
        self.gone()
