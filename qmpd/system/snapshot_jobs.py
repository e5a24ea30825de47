"""Jobs that take, load and delete snapshots of the whole machine.  (QEMU's migration/savevm.c, `snapshot-save`, ...)"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qmpd.block.images.errors import ImageError
from qmpd.block.jobs.job import Job
from qmpd.block.jobs.steps import Options, Sleep, Work
from qmpd.common.refusals import Refusal
from qmpd.system import whole_snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from qmpd.block.jobs.steps import Steps
    from qmpd.block.transactions import Steps as Pieces
    from qmpd.system.system import System


class SnapshotJob(Job):
    """One of them; `begun` is told once its work is done, which is when QEMU replies to the command."""

    __slots__ = ("_begun", "_pieces")

    def __init__(self, system: System, identifier: str, pieces: Pieces, begun: Callable[[], None]) -> None:
        """:raise Refusal: there cannot be a job of this name."""
        super().__init__(system.jobs, Options(identifier, auto_dismiss=False))
        self._pieces = pieces
        self._begun: Callable[[], None] | None = begun

    def run(self) -> Steps:
        """Do all pieces, one after another; whatever comes of it, the command is replied to first."""
        self.left = 1
        failure: Refusal | OSError | ImageError | None = None
        try:
            yield from self._all()
        except (Refusal, OSError, ImageError) as error:
            failure = error
        self.advance(1)
        # The job may stay for long after its client has gone.
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()
        yield Sleep(0)
        if failure is not None:
            raise failure

    def _all(self) -> Steps:
        try:
            work = next(self._pieces)
            while True:
                outcome = yield Work(work)
                if outcome.error is not None:
                    work = self._pieces.throw(outcome.error)
                else:
                    work = self._pieces.send(outcome.value)
        except StopIteration:
            return


class Save(SnapshotJob):
    """Takes a snapshot."""

    KIND: ClassVar[str] = "snapshot-save"
    __slots__ = ()


class Load(SnapshotJob):
    """Goes back to one."""

    KIND: ClassVar[str] = "snapshot-load"
    __slots__ = ()


class Delete(SnapshotJob):
    """Deletes one."""

    KIND: ClassVar[str] = "snapshot-delete"
    __slots__ = ()


CLASSES: dict[str, type[SnapshotJob]] = {each.__name__: each for each in (Save, Load, Delete)}
"""All of them, by name: once one is over another process can have it."""


def save(system: System, given: Mapping[str, Any], begun: Callable[[], None]) -> Save:
    """The job of `snapshot-save`, created.

    :raise Refusal: there cannot be a job of this name.
    """
    pieces = whole_snapshots.save(
        system, given["tag"], replace=False, state_in=given["vmstate"], names=given["devices"]
    )
    return Save(system, given["job-id"], pieces, begun)


def load(system: System, given: Mapping[str, Any], begun: Callable[[], None]) -> Load:
    """The job of `snapshot-load`, created.

    :raise Refusal: there cannot be a job of this name.
    """
    pieces = whole_snapshots.load_and_go_on(
        system, given["tag"], state_in=given["vmstate"], names=given["devices"]
    )
    return Load(system, given["job-id"], pieces, begun)


def delete(system: System, given: Mapping[str, Any], begun: Callable[[], None]) -> Delete:
    """The job of `snapshot-delete`, created.

    :raise Refusal: there cannot be a job of this name.
    """
    return Delete(system, given["job-id"], whole_snapshots.delete(system, given["tag"], given["devices"]), begun)
