"""`snapshot-save`, `snapshot-load` and `snapshot-delete` of QAPI module `migration`: snapshots of the whole machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system import snapshot_jobs
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.snapshot_jobs import SnapshotJob
    from qmpd.system.system import System

    Make = Callable[[System, Arguments, Callable[[], None]], SnapshotJob]


def _started(system: System, make: Make, arguments: Arguments) -> Deferred:
    """The reply comes once the job has done its work, before it ends."""
    later = Deferred(lambda: EMPTY)
    make(system, arguments, later.ready).start()
    return later


@command("snapshot-save")
def snapshot_save(system: System, session: Client, arguments: Arguments) -> object:
    return _started(system, snapshot_jobs.save, arguments)


@command("snapshot-load")
def snapshot_load(system: System, session: Client, arguments: Arguments) -> object:
    return _started(system, snapshot_jobs.load, arguments)


@command("snapshot-delete")
def snapshot_delete(system: System, session: Client, arguments: Arguments) -> object:
    return _started(system, snapshot_jobs.delete, arguments)
