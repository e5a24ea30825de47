"""The jobs of a machine."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.jobs.drains import LEAVING, drains_of
from qmpd.block.placing import reaches
from qmpd.schedule.schedule import Time

_SECOND = 1_000_000_000
_ALL = 1 << 63
_LEAST = 65536

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from qmpd.block.executor import Executor, Outcome
    from qmpd.block.graph import BlockGraph
    from qmpd.block.jobs.behaviour import JobBehaviour
    from qmpd.block.jobs.job import Job
    from qmpd.block.nodes import BlockNode
    from qmpd.block.requests import Requests
    from qmpd.common.refusals import Refusal
    from qmpd.machine import Machine
    from qmpd.schedule.activity import Activities


class Drain:
    """Somebody needs nodes to be quiet; all of them where `nodes` is None."""

    def __init__(self, nodes: Collection[BlockNode] | None) -> None:
        self._nodes = nodes
        self.jobs: list[Job] = []

    def names(self) -> list[str]:
        """The names of its nodes."""
        return [node.name for node in self._nodes or ()]

    def touches(self, nodes: Collection[BlockNode]) -> bool:
        """Whether it is about one of these, or what is below one."""
        return bool(nodes) and (self._nodes is None or any(reaches(at, node) for at in nodes for node in self._nodes))


class Faults(Protocol):
    """Who has the work of jobs fail (`qmpd.control.job_faults`)."""

    def take(self, job: Job) -> int:
        """The number of the error that a job's work is to meet now; 0 without one."""

    def left(self, job: Job) -> int | None:
        """How many bytes a job may move until a fault may come; None where none will."""


class Jobs:
    """All jobs of one machine, the newest first (as all queries have them)."""

    __slots__ = (
        "_all",
        "_awaited",
        "_drains",
        "_forgotten",
        "_left",
        "_machine",
        "_newer",
        "apart",
        "behaviour",
        "executor",
        "faults",
        "graph",
        "is_limited",
        "pace",
        "pass_limits",
        "rests",
        "tell",
        "wait_at",
        "words",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        graph: BlockGraph,
        executor: Executor,
        behaviour: JobBehaviour,
        words: Callable[[Refusal], str],
        requests: Requests,
        apart: Callable[[Callable[[], object]], None],
        pace: int = 0,
    ) -> None:
        """`pace` is how many bytes disks move in a second, 0 for as many as they can.

        `words` gives a refusal in the words of the release; `requests` are those to the disks, whose limits count for
        jobs, too.  `apart` does what may have to wait for a disk, be it later.
        """
        self._machine = machine
        self.graph = graph
        self.executor = executor
        self.behaviour = behaviour
        self.words = words
        self.apart = apart
        self.tell = requests.tell
        self.is_limited = requests.is_limited
        self.wait_at = requests.wait_at
        self.pass_limits = requests.pass_limits
        self.pace = pace
        self.faults: Faults | None = None
        # Whether no job begins with a piece of work now.
        self.rests = False
        # The drains that have come from another process, and the names of the jobs that they keep quiet.
        self._awaited: list[tuple[Drain, list[str]]] = []
        # How many jobs were newer than each that has come so, as long as not all have.
        self._newer: dict[str, int] = {}
        self._all: list[Job] = []
        self._drains: list[Drain] = []
        # Those that nobody ends, by their nodes.
        self._forgotten: dict[BlockNode, Drain] = {}
        # What was left to the main loop's next turn.
        self._left: deque[Callable[[], None]] = deque()

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._all))

    @property
    def activities(self) -> Activities:
        """The machine's long work, of which jobs are."""
        return self._machine.activities

    def now(self) -> int:
        """The clock's time, in nanoseconds."""
        return self._machine.schedule.now(Time.REAL)

    def find(self, identifier: str) -> Job | None:
        """The job of this name."""
        return next((job for job in self._all if job.identifier == identifier), None)

    def newer(self, job: Any) -> int:
        """How many jobs have come after this one."""
        return self._all.index(job)

    def add(self, job: Any) -> None:
        """There is a job."""
        self._all.insert(0, job)

    def place(self, job: Any, newer: int) -> None:
        """There is a job that has come from another process, where so many were newer."""
        self._newer[job.identifier] = newer
        self._all.append(job)
        self._all.sort(key=lambda each: self._newer[each.identifier])

    def remove(self, job: Any) -> None:
        """A job is gone."""
        self._all.remove(job)
        self.activities.forget(job.name)

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Emit an event."""
        self._machine.emit(name, data)

    # Work

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Have something read or written; `then` is told in the main loop."""

        def told(outcome: Outcome) -> None:
            self.tell()
            then(outcome)

        self.executor.do(work, told)

    def settle(self) -> None:
        """Wait for what is read and written."""
        self.executor.settle()

    def next_turn(self, action: Callable[[], None]) -> None:
        """Do something in the main loop's next turn."""
        self._left.append(action)
        self._machine.in_turn(self._do_left)

    def _do_left(self) -> None:
        """Do the first of what was left, unless a drain has come before."""
        self.apart(lambda: self._left.popleft()() if self._left else None)

    def run_turn(self) -> bool:
        """Do now what was left to the next turn; whether there was something."""
        return self._machine.run_left()

    def take_fault(self, job: Any) -> int:
        """The number of the error that a job's work is to meet now; 0 without one."""
        return 0 if self.faults is None else self.faults.take(job)

    def until_fault(self, job: Any) -> int:
        """How many bytes a job may move until a fault may come."""
        left = None if self.faults is None else self.faults.left(job)
        return _ALL if left is None else left

    def time_of(self, size: int) -> int:
        """How long it takes to move so many bytes, in nanoseconds."""
        return size * _SECOND // self.pace if self.pace else 0

    def at_once(self) -> int:
        """How many bytes are moved at once at most: where there is a pace, what takes a second."""
        return max(_LEAST, self.pace) if self.pace else _ALL

    # Drains

    def join_drains(self, job: Any, node: BlockNode) -> None:
        """A job works on a node from now on, which somebody may need to be quiet."""
        for drain in self._drains:
            if job not in drain.jobs and drain.touches([node]):
                drain.jobs.append(job)
                job.pause()

    @contextmanager
    def drained(self, *nodes: BlockNode, all_nodes: bool = False) -> Iterator[None]:
        """Have nothing going on at these nodes meanwhile: jobs are paused, each at its next pause point."""
        drain = self.begin_drain(*nodes, all_nodes=all_nodes)
        try:
            yield
        finally:
            self.end_drain(drain)

    def begin_drain(self, *nodes: BlockNode, all_nodes: bool = False) -> Drain:
        """The same, for those who end it elsewhere (`end_drain`)."""
        drain = Drain(None if all_nodes else nodes)
        # Nodes are drained in the order in which they came, and so did the jobs' own.
        drain.jobs = [job for job in reversed(self._all) if drain.touches(job.quiet_nodes())]
        self._drains.append(drain)
        for job in drain.jobs:
            job.pause()
        for job in drain.jobs:
            # What has been read and written by now is taken note of, up to the next pause point.
            while job.busy and job.take_outcome():
                pass
        # A job whose work has ended meanwhile goes on to its end, as QEMU's main loop turns until all is quiet.
        for _ in range(len(self._left)):
            self._do_left()
        return drain

    def end_drain(self, drain: Drain) -> None:
        """Nobody needs that any more."""
        self._drains.remove(drain)
        for job in drain.jobs:
            job.resume()

    def leave_drained(self, drain: Drain, node: BlockNode) -> None:
        """A node stays as quiet as a drain has made it, and what comes to work there pauses; once is enough."""
        self._end_drains_of_gone()
        if node in self._forgotten:
            self.end_drain(drain)
        else:
            self._forgotten[node] = drain

    def _end_drains_of_gone(self) -> None:
        here = set(self.graph.nodes.values())
        for gone in [each for each in self._forgotten if each not in here]:
            self.end_drain(self._forgotten.pop(gone))

    def drain_all(self, times: int = 1) -> None:
        """Have all that is going on end, or pause, for a moment (`bdrv_drain_all`)."""
        for _ in range(times if self._all else 0):
            with self.drained(all_nodes=True):
                pass

    # Another process

    def take(self, job: Any) -> dict[str, Any]:
        """A job as plain data."""
        from qmpd.block.jobs import carrying

        return carrying.take(job)

    def put(self, job: Any, state: Mapping[str, Any]) -> None:
        """Have a job be what `take` gave."""
        from qmpd.block.jobs import carrying

        carrying.put(job, state)

    def rest(self) -> None:
        """Have no job begin with a piece of work, and note what was done, until `go_on`."""
        self.rests = True
        self.executor.settle()
        more = True
        while more:
            for job in self:
                job.note_done()
            more = self.run_turn()

    def go_on(self) -> None:
        """Jobs begin with their work again, each when it is due."""
        self.rests = False

    def hindrance(self) -> str | None:
        """Why jobs cannot be carried to another process, but for each one's own reasons; None where they can."""
        self._end_drains_of_gone()
        return "a source stays drained whose backup has failed" if self._forgotten else None

    def drain_as_plain(self, drain: Drain) -> list[list[str]]:
        """A drain of certain nodes, as the names of those and of the jobs that it keeps quiet."""
        return [drain.names(), [job.identifier for job in drain.jobs]]

    def adopt_drain(self, plain: list[list[str]]) -> Drain:
        """The same drain again; its jobs are there once all have come (`come_together`)."""
        drain = Drain([self.graph.nodes[name] for name in plain[0] if name in self.graph.nodes])
        self._drains.append(drain)
        self._awaited.append((drain, plain[1]))
        return drain

    def come_together(self) -> None:
        """All jobs of another process have come."""
        for drain, names in self._awaited:
            drain.jobs += [job for job in self if job.identifier in names]
        self._awaited.clear()
        self._newer.clear()

    # Changes of the graph

    def changed(self, times: int = 1) -> None:
        """The graph changes, so many times."""
        if self.behaviour.graph_change_drains != "none":
            self.drain_all(times)

    def changed_as(self, kind: str) -> None:
        """The graph changes as often as it does for this."""
        self.drain_all(drains_of(self.behaviour.job_drains, kind).before)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The graph changes once, and with it what follows: that counts too, or the drain lasts until then."""
        if self._all and self.behaviour.graph_change_drains == "whole":
            with self.drained(all_nodes=True):
                yield
        else:
            self.changed()
            yield

    # Who uses a node

    def blocking(self, node: BlockNode) -> str | None:
        """The type of the newest job that nobody may come in the way of at a node (`qmpd.block.changes.Blockers`)."""
        return next((job.KIND for job in self._all if job.blocks(node)), None)

    def cancel_on(self, node: BlockNode) -> None:
        """A drive leaves with its device: jobs at its node are cancelled (`qmpd.block.changes.Blockers`)."""
        for job in [each for each in self._all if each.blocks(node)]:
            job.cancel(force=False)

    def left(self, node: BlockNode) -> None:
        """Somebody uses a node no more (`qmpd.block.changes.Blockers`)."""
        if not self._all:
            return
        self.changed()
        self.quiet(node)

    def quiet(self, node: BlockNode) -> None:
        """What goes on at a node that somebody leaves ends or pauses, for a moment (`qmpd.block.changes.Blockers`)."""
        self.drain(node, LEAVING)

    def drain(self, node: BlockNode, times: int = 1) -> None:
        """The same, so many times."""
        for _ in range(times if self._all else 0):
            with self.drained(node):
                pass

    def end(self) -> None:
        """The process ends, and so do all jobs."""
        drains = self.behaviour.job_drains_at_end
        self.drain_all(drains - 1)
        if drains:
            self.begin_drain(all_nodes=True)
        while self._all:
            job = self._all[0]
            job.cancel(force=not self.behaviour.job_soft_cancel_completes)
            if job in self._all and not job.has_ended:
                job.finish_now()
            self.run_turn()
            if job in self._all:
                if not job.has_ended:
                    break
                job.cancel(force=True)
                if job in self._all:
                    job.cancel(force=True)
            if job in self._all:
                # Its end is put aside, and waits for a disk.
                self.settle()
                if job in self._all:
                    break
