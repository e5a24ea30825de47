"""Where jobs live, as they see it (`qmpd.block.jobs.jobs.Jobs` is that)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.block.executor import Outcome
    from qmpd.block.graph import BlockGraph
    from qmpd.block.jobs.behaviour import JobBehaviour
    from qmpd.block.nodes import BlockNode
    from qmpd.common.refusals import Refusal
    from qmpd.schedule.activity import Activities


class Home(Protocol):
    """The machine whose jobs they are.

    `words` gives a refusal in the words of the release; `apart` does what may have to wait for a disk, be it later.
    """

    behaviour: JobBehaviour
    graph: BlockGraph
    words: Callable[[Refusal], str]
    apart: Callable[[Callable[[], object]], None]
    rests: bool

    @property
    def activities(self) -> Activities:
        """The machine's long work."""

    def now(self) -> int:
        """The clock's time, in nanoseconds."""

    def find(self, identifier: str) -> object | None:
        """The job of this name."""

    def newer(self, job: Any) -> int:
        """How many jobs have come after this one."""

    def add(self, job: Any) -> None:
        """There is a job."""

    def take(self, job: Any) -> dict[str, Any]:
        """A job as plain data."""

    def put(self, job: Any, state: Mapping[str, Any]) -> None:
        """Have a job be what `take` gave."""

    def __iter__(self) -> Iterator[Any]:
        """All jobs."""

    def place(self, job: Any, newer: int) -> None:
        """There is a job that has come from another process, where so many were newer."""

    def remove(self, job: Any) -> None:
        """A job is gone."""

    def join_drains(self, job: Any, node: BlockNode) -> None:
        """A job works on a node from now on, which somebody may need to be quiet."""

    def changed(self, times: int = 1) -> None:
        """The graph changes, so many times."""

    def changed_as(self, kind: str) -> None:
        """The graph changes as often as it does for this (`job_drains`)."""

    def drain_all(self, times: int = 1) -> None:
        """Have all that is going on end, or pause, for a moment."""

    def drain(self, node: BlockNode, times: int = 1) -> None:
        """Have what is going on at a node end, or pause, for a moment."""

    def begin_drain(self, *nodes: BlockNode, all_nodes: bool = False) -> Any:
        """Have nothing going on at these nodes until `end_drain` is called with what this gives."""

    def end_drain(self, drain: Any) -> None:
        """Nobody needs that any more."""

    def drain_as_plain(self, drain: Any) -> list[list[str]]:
        """A drain of certain nodes as plain data."""

    def adopt_drain(self, plain: list[list[str]]) -> Any:
        """The same drain again, in another process."""

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Emit an event."""

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Have something read or written; `then` is told in the main loop."""

    def is_limited(self, node: BlockNode) -> bool:
        """Whether there are throttle nodes on the way to a node."""

    def wait_at(self, node: BlockNode, way: str) -> int:
        """For how many nanoseconds the limits of throttle nodes let nothing pass to a node, to be read or written."""

    def pass_limits(self, node: BlockNode, way: str, size: int) -> None:
        """So many bytes pass those limits."""

    def take_fault(self, job: Any) -> int:
        """The number of the error that a job's work is to meet now; 0 without one."""

    def until_fault(self, job: Any) -> int:
        """How many bytes a job may move until a fault may come."""

    def time_of(self, size: int) -> int:
        """How long it takes to move so many bytes, in nanoseconds."""

    def at_once(self) -> int:
        """How many bytes are moved at once at most."""

    def settle(self) -> None:
        """Wait for what is read and written."""

    def next_turn(self, action: Callable[[], None]) -> None:
        """Do something in the main loop's next turn."""

    def run_turn(self) -> bool:
        """Do now what was left to the next turn; whether there was something."""
