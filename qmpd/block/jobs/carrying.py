"""Jobs as plain data: what one process hands over of them to the next, beside the nodes that they work on.

All attributes of a job are carried, each by what it is: a node by its name, a user of a node by its number, a bitmap as
it is.  What a job was told (`Options`) and its limits go the same way.  The generator of its work does not: a job of a
kind that can go on (`Job.GOES_ON`) begins `run` again, whose place is in attributes.  So nobody takes jobs that are in
the middle of a piece of work: `Jobs.rest` has them wait before the next one.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.jobs.active_commit import ActiveCommit
from qmpd.block.jobs.backup import Backup, BackupOptions
from qmpd.block.jobs.commit import Commit, CommitOptions
from qmpd.block.jobs.copying import MirrorOptions
from qmpd.block.jobs.create import Amend, Create
from qmpd.block.jobs.dirty import Dirty
from qmpd.block.jobs.mirror import Mirror
from qmpd.block.jobs.rate import RateLimit
from qmpd.block.jobs.steps import Failed
from qmpd.block.jobs.stream import Stream, StreamOptions
from qmpd.block.jobs.transaction import JobTransaction
from qmpd.block.nodes import BlockNode, Drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.job import Job

CLASSES: dict[str, type[Job]] = {
    each.__name__: each for each in (Mirror, ActiveCommit, Backup, Commit, Stream, Create, Amend)
}
"""Those that are carried; others are by their own rooms (`make`)."""

_TOLD = (MirrorOptions, BackupOptions, CommitOptions, StreamOptions)
_OPTIONS: dict[str, type] = {each.__name__: each for each in _TOLD}
_LIMIT = RateLimit.__slots__
# Where a job is in this process, and what is told beside.
_CONTEXT = frozenset({
    "jobs", "state", "transaction", "_body", "_outcome", "_owed", "_put_off", "busy", "_content", "_copier", "_copy",
    "_drain",
})  # fmt: skip
_LOST = ["nothing"]


def _slots(kind: type) -> list[str]:
    return [name for each in kind.__mro__ for name in each.__dict__.get("__slots__", ()) if name not in _CONTEXT]


def take(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    names = [each.identifier for each in job.transaction.jobs]  # type: ignore[attr-defined]
    given = {name: _plain(job.jobs, getattr(job, name)) for name in _slots(type(job)) if hasattr(job, name)}
    return {
        "class": type(job).__name__, "attributes": given, "together": names, "links": job.links(),
        "goes-on": job.puts_off, "newer": job.jobs.newer(job),
    }  # fmt: skip


def _plain(jobs: Home, value: Any) -> Any:
    """A value as plain data: scalars as they are, and lists that begin with what the rest of them is."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, BlockNode):
        return ["node", value.name] if jobs.graph.nodes.get(value.name) is value else _LOST
    if isinstance(value, Drive):
        return ["drive", value.number]
    if isinstance(value, Failed):
        return ["failed", value.number, value.words(jobs.words)]
    if isinstance(value, Dirty):
        return ["dirty", value.snapshot()]
    if isinstance(value, DirtyBitmap):
        nodes = jobs.graph.nodes.values()
        return ["bitmap", next((node.name for node in nodes if value in node.bitmaps), ""), value.name]
    if isinstance(value, RateLimit):
        return ["limit", [getattr(value, name) for name in _LIMIT]]
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [_plain(jobs, each) for each in value]]
    if isinstance(value, dict):
        return ["dict", {name: _plain(jobs, each) for name, each in value.items()}]
    if is_dataclass(value) and type(value).__name__ in _OPTIONS:
        names = [each.name for each in fields(value)]
        return ["options", type(value).__name__, {name: _plain(jobs, getattr(value, name)) for name in names}]
    return _LOST


def make(jobs: Home, state: Mapping[str, Any]) -> Job:
    """A job that is to be restored from what `take` gave.

    :raise ValueError: this program knows no such job.
    """
    kind = CLASSES.get(state["class"])
    if kind is None:
        raise ValueError(f"there is no job of the class {state['class']}")
    job: Job = object.__new__(kind)
    job.jobs = jobs
    return job


def put(job: Job, state: Mapping[str, Any]) -> None:
    """Have a job that `make` made be as it was taken, and its machine have it."""
    jobs = job.jobs
    reading = _Reading(jobs.graph, job)
    for name, value in state["attributes"].items():
        setattr(job, name, reading.value(value))
    job.come(goes_on=state["goes-on"])
    together = state["together"]
    others = [each for each in jobs if each.identifier in together]
    job.transaction = others[0].transaction if others else JobTransaction()
    if job.identifier in together:
        job.transaction.jobs.append(job)
        job.transaction.jobs.sort(key=lambda each: together.index(each.identifier))  # type: ignore[attr-defined]
    jobs.place(job, state["newer"])
    job.taken_over(state["links"])


class _Reading:
    """Makes values of plain data again, for one job."""

    def __init__(self, graph: BlockGraph, job: Job) -> None:
        self._graph = graph
        self._job = job
        self._drives = {drive.number: drive for node in graph.nodes.values() for drive in node.drives}

    def value(self, plain: Any) -> Any:
        """What `_plain` made this of."""
        if not isinstance(plain, list):
            return plain
        kind, *rest = plain
        return getattr(self, f"_{kind}")(*rest)

    def _nothing(self) -> None:
        return None

    def _node(self, name: str) -> BlockNode:
        return self._graph.nodes[name]

    def _drive(self, number: int) -> Drive:
        found = self._drives.get(number)
        return Drive("", stays=True) if found is None else found

    def _failed(self, number: int, why: str) -> Failed:
        return Failed(number, why)

    def _dirty(self, snapshot: Mapping[str, Any]) -> Dirty:
        dirty = Dirty(snapshot["size"], snapshot["granularity"])
        dirty.enabled = snapshot["enabled"]
        for begin, end in snapshot["areas"]:
            dirty.set(begin, end - begin)
        return dirty

    def _bitmap(self, node: str, name: str) -> DirtyBitmap | None:
        return next((each for each in self._graph.nodes[node].bitmaps if each.name == name), None) if node else None

    def _limit(self, values: list[int]) -> RateLimit:
        limit = RateLimit()
        for name, value in zip(_LIMIT, values, strict=True):
            setattr(limit, name, value)
        return limit

    def _list(self, values: list[Any]) -> list[Any]:
        return [self.value(each) for each in values]

    def _tuple(self, values: list[Any]) -> tuple[Any, ...]:
        return tuple(self._list(values))

    def _dict(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: self.value(each) for name, each in values.items()}

    def _options(self, name: str, values: dict[str, Any]) -> Any:
        return _OPTIONS[name](**{key: self.value(each) for key, each in values.items()})
