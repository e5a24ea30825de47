"""Faults of jobs: what has their work fail at a certain progress (`qmpd.block.jobs.jobs.Faults`)."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, NamedTuple

from qmpd.control.errors import ControlError
from qmpd.control.fault_list import FaultKind
from qmpd.control.sizes import Size, size

if TYPE_CHECKING:
    from qmpd.block.jobs.job import Job
    from qmpd.control.fault_list import Fault, FaultList
    from qmpd.control.stage import Stage

_PERCENT = re.compile(r"(\d{1,3})%\Z", re.ASCII)


class Progress(NamedTuple):
    """How far a job is: so many bytes, or so much of a hundred of what it has to do in all."""

    value: int
    is_percent: bool

    @classmethod
    def parse(cls, given: Size) -> Progress:
        """The progress that is written as `50%`, or as a size.

        :raise ControlError: it is neither.
        """
        match = _PERCENT.match(str(given))
        if match is not None:
            if int(match[1]) > 100:
                raise ControlError("'at' is not more than 100%")
            return cls(int(match[1]), True)
        try:
            return cls(size(given), False)
        except ValueError as error:
            raise ControlError(f"'at' is a percentage, like 50%, or a size: {error}") from None

    def of(self, total: int) -> int:
        """The same in bytes."""
        return -(-total * self.value // 100) if self.is_percent else self.value


def named(identifier: str) -> str:
    """What the job of this name is called among long work."""
    return f"job {identifier}"


def attach(stage: Stage) -> None:
    """Have the jobs of a machine meet its faults from now on."""
    stage.host.system.have_job_faults(JobFaults(stage.fault_list))


class JobFaults:
    """The faults of a machine that its jobs meet."""

    __slots__ = ("_list",)

    def __init__(self, faults: FaultList) -> None:
        self._list = faults

    def _of(self, job: Job) -> list[Fault]:
        return [
            each
            for each in self._list
            if each.kind is FaultKind.JOB and each.count != 0 and each.activity in (None, job.KIND, job.name)
        ]

    def take(self, job: Job) -> int:
        """The number of the error that a job's work is to meet now; 0 without one."""
        for fault in self._of(job):
            if job.done >= Progress(*fault.at).of(job.total):
                self._list.meets(fault, job.name)
                return int(getattr(errno, fault.error))
        return 0

    def left(self, job: Job) -> int | None:
        """How many bytes a job may move until a fault may come; None where none will."""
        ahead = [Progress(*fault.at).of(job.total) - job.done for fault in self._of(job)]
        return min((each for each in ahead if each > 0), default=None)
