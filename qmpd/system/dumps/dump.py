"""A dump under way, and what became of the last one.  (QEMU's dump/dump.c.)

The vCPUs stand still meanwhile (`save-vm`), and `stop`, `cont` and another dump are refused.  The file is written by
threads, a few pieces at a time; on the machine's clock it takes as long as its kind does, at least.
"""

from __future__ import annotations

import enum
import errno
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.executor import AtOnce
from qmpd.block.images.errors import ImageError
from qmpd.block.images.errors import text as error_text
from qmpd.common.refusals import Refusal
from qmpd.machine.run_state import RunState
from qmpd.schedule.activity import Activity
from qmpd.schedule.schedule import Time
from qmpd.system.dumps.memory import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor, Outcome
    from qmpd.machine import Machine
    from qmpd.schedule.activity import Activities
    from qmpd.system.dumps.plan import Output, Piece, Plan
    from qmpd.system.ports import Host

NAME = "dump"
"""What a machine's dump is called among its activities: there is one at a time."""
BUSY = "There is a dump in process, please wait."
_AT_ONCE = 64
_SECOND = 1_000_000_000


class DumpStatus(enum.StrEnum):
    """How far a dump is (QAPI `DumpStatus`)."""

    NONE = "none"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"


class Pace:
    """How long a dump takes on the machine's clock: some time, or longer where it is large."""

    def __init__(self, least: float, rate: int) -> None:
        """`least` in seconds, `rate` in bytes a second."""
        self._least = least
        self._rate = rate

    def time(self, size: int) -> int:
        """The nanoseconds for so many bytes."""
        return int(max(self._least, size / self._rate) * _SECOND)


ELF = Pace(0.6, 1 << 30)
KDUMP = Pace(0.02, 1 << 32)


class Dump(Activity[DumpStatus]):
    """One dump of `size` bytes of memory; `then` is told how it ended, an error's text or None.

    `total` bytes are told to be dumped, which with a wrong address is not what there is.
    """

    KIND = "dump"
    TRANSITIONS: ClassVar = {
        DumpStatus.ACTIVE: frozenset({DumpStatus.COMPLETED, DumpStatus.FAILED}),
        DumpStatus.COMPLETED: frozenset(),
        DumpStatus.FAILED: frozenset(),
    }
    VERBS: ClassVar = {"fail": frozenset({DumpStatus.ACTIVE})}
    ENDS = frozenset({DumpStatus.COMPLETED, DumpStatus.FAILED})

    __slots__ = (
        "_began", "_dumps", "_failure", "_machine", "_output", "_plan", "_resume", "_then", "_time", "_written",
        "size", "total",
    )  # fmt: skip

    def __init__(
        self, dumps: Dumps, plan: Plan, output: Output, total: int, pace: Pace, *, resume: bool,
        then: Callable[[str | None], None], size: int,
    ) -> None:  # fmt: skip
        super().__init__(DumpStatus.ACTIVE)
        self._dumps = dumps
        self._machine = dumps.machine
        self._plan = plan
        self._output = output
        self._resume = resume
        self._then = then
        self._time = pace.time(total)
        self._began = self._machine.schedule.now(Time.REAL)
        self._failure: str | None = None
        self._written = False
        self.total = total
        self.size = size

    @property
    def completed(self) -> int:
        """How much is done, as far as anybody can tell meanwhile."""
        if self.state is not DumpStatus.ACTIVE:
            return self.size if self.state is DumpStatus.COMPLETED else 0
        gone = self._machine.schedule.now(Time.REAL) - self._began
        share = min(self.total * gone // max(self._time, 1), self.total - 1)
        return max(0, share) // PAGE * PAGE

    def step(self) -> int | None:
        """Write on, or wait until it has taken its time."""
        if self._failure is not None:
            self._end(DumpStatus.FAILED)
            return None
        if not self._written:
            self._dumps.executor.do(self._write, self._wrote)
            return None
        left = self._began + self._time - self._machine.schedule.now(Time.REAL)
        if left > 0:
            return left
        self._end(DumpStatus.COMPLETED)
        return None

    def _write(self) -> bool:
        """Write the next pieces, in a thread; whether there are none left."""
        count = 0
        piece: Piece | None = None
        try:
            for piece in islice(self._plan.pieces, _AT_ONCE):
                self._output.write(piece.offset, piece.data)
                count += 1
            if count == _AT_ONCE:
                return False
            self._output.end(self._plan.size)
        except OSError as error:
            what = "memory" if piece is None else piece.what
            reason = error_text(error.errno or errno.EIO)
            raise OSError(error.errno, f"dump: failed to write {what}: {reason}") from None
        return True

    def _wrote(self, outcome: Outcome) -> None:
        error = outcome.error
        if error is not None:
            self._failure = error.message if isinstance(error, ImageError) else error.strerror or str(error)
        self._written = bool(outcome.value)
        self._dumps.activities.wake(NAME)

    def fail(self, reason: str) -> None:
        """It fails, for this reason."""
        self.require("fail")
        self._failure = reason
        self._end(DumpStatus.FAILED)

    def _end(self, status: DumpStatus) -> None:
        machine = self._machine
        if self.is_over:
            return
        self.enter(status)
        self._output.close()
        self._dumps.last = (status, self.total, self.completed)
        machine.busy_with = None
        data: dict[str, object] = {"result": self._dumps.query()}
        if self._failure is not None:
            data["error"] = self._failure
        machine.emit("DUMP_COMPLETED", data)
        if self._resume and machine.state is RunState.SAVE_VM:
            machine.vm_start()
        self._then(self._failure)

    def hindrance(self) -> str | None:
        """What it has written is not known elsewhere."""
        return "a dump is in process"


class Dumps:
    """The dumps of one machine: the one under way, and what became of the last."""

    def __init__(self, machine: Machine, activities: Activities, host: Host | None) -> None:
        self.machine = machine
        self.activities = activities
        self.last: tuple[DumpStatus, int, int] = (DumpStatus.NONE, 0, 0)
        # Whatever is written may be a pipe that nobody reads: the disks do not wait for that.
        self.executor: Executor = AtOnce() if host is None else host.more_threads()

    @property
    def current(self) -> Dump | None:
        """The one under way."""
        found = self.activities.find(NAME)
        return found if isinstance(found, Dump) else None

    def query(self) -> dict[str, Any]:
        """What `query-dump` tells (QAPI `DumpQueryResult`)."""
        current = self.current
        status, total, completed = self.last
        if current is not None and not current.is_over:
            status, total, completed = current.state, current.total, current.completed
        return {"status": str(status), "completed": completed, "total": total}

    def check_free(self) -> None:
        """Refuse to begin one while another is under way.

        :raise Refusal: it is.
        """
        if self.current is not None:
            raise Refusal("dump-under-way")

    def stop(self) -> bool:
        """Hold the vCPUs for a dump; whether they ran."""
        ran = self.machine.state is RunState.RUNNING
        self.machine.vm_stop(RunState.SAVE_VM)
        return ran

    def give_up(self, *, resume: bool) -> None:
        """One cannot be begun after all."""
        self.last = (DumpStatus.FAILED, 0, 0)
        if resume:
            self.machine.vm_start()

    def begin(
        self, plan: Plan, output: Output, total: int, pace: Pace, *, resume: bool, then: Callable[[str | None], None],
        size: int,
    ) -> None:  # fmt: skip
        """Begin one; `then` is told how it ended."""
        self.machine.busy_with = BUSY
        self.activities.begin(
            NAME, Dump(self, plan, output, total, pace, resume=resume, then=then, size=size), 0
        )
