"""The kinds of long work that a process which takes a machine over goes on with (`qmpd.schedule.activity.Carried`)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qmpd.hardware.removal import Unplug
from qmpd.migration.dirty_rate import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.block.jobs.job import Job
    from qmpd.schedule.activity import Activity
    from qmpd.system.system import System

    Make = Callable[[System, str, Mapping[str, Any]], Activity[Any]]


def _unplug(system: System, name: str, state: Mapping[str, Any]) -> Unplug:
    return Unplug(system.devices.removal, name, state["path"])


def _measurement(system: System, name: str, state: Mapping[str, Any]) -> Measurement:
    return Measurement(system.dirty_rate.end)


def _job(system: System, name: str, state: Mapping[str, Any]) -> Job:
    from qmpd.block.jobs import carrying

    return carrying.make(system.jobs, state)


def _snapshot_job(system: System, name: str, state: Mapping[str, Any]) -> Job:
    from qmpd.system.snapshot_jobs import CLASSES

    job: Job = object.__new__(CLASSES[state["class"]])
    job.jobs = system.jobs
    return job


_JOBS: dict[str, Make] = {
    **dict.fromkeys(("mirror", "commit", "backup", "stream", "create", "amend"), _job),
    **dict.fromkeys(("snapshot-save", "snapshot-load", "snapshot-delete"), _snapshot_job),
}
KINDS: dict[str, Make] = {Unplug.KIND: _unplug, Measurement.KIND: _measurement, **_JOBS}
"""What makes a new activity of a kind, of its machine, its name and its state."""


def make_activity(system: System, kind: str, name: str, state: Mapping[str, Any]) -> Activity[Any]:
    """A new activity of this kind; the machine's parts are there by then.

    :raise ValueError: this program knows no such kind.
    """
    make = KINDS.get(kind)
    if make is None:
        raise ValueError(f"there is no long work of the kind {kind}")
    return make(system, name, state)


def has_jobs(system: System) -> bool:
    """Whether the machine has jobs that are at work, or over and not dismissed."""
    return any(activity.KIND in _JOBS for _, activity in system.activities)


@contextmanager
def jobs_at_rest(system: System) -> Iterator[str | None]:
    """Have jobs begin with nothing meanwhile, so that they can be carried; gives why they cannot be, or None."""
    if not has_jobs(system):
        # Those that were there may have left something behind.
        blockers = None if system.built is None else system.built.backends.block.blockers
        yield None if blockers is None else blockers.hindrance()
        return
    jobs = system.jobs
    jobs.rest()
    try:
        yield jobs.hindrance()
    finally:
        jobs.go_on()
