"""Jobs that work on nodes of the block graph: limits of speed, errors, events of their own.  (QEMU's blockjob.c.)"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.files import ALL
from qmpd.block.jobs.drains import Drains, drains_of
from qmpd.block.jobs.job import Job
from qmpd.block.jobs.rate import RateLimit
from qmpd.block.jobs.states import JobStatus
from qmpd.block.jobs.steps import Options
from qmpd.block.nodes import Drive
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode


# So many bytes a job moves at once where limits are on its way.
_LIMITED = 1 << 20


@dataclass(slots=True)
class BlockOptions(Options):
    """What every block job can be told; `speed` is in bytes a second, 0 for no limit."""

    speed: int = 0


def job_user(node: BlockNode | None, does: int, allowed: int) -> Drive:
    """What a job has of a node that it reads, or may write: QEMU's BlockBackend without a device or a name.

    `does` and `allowed` are what it does with the node, and lets others do (`qmpd.block.files`).
    """
    return Drive("", node=node, stays=True, doing=does, allowed=allowed)


class BlockJob(Job):
    """A job that works on nodes.  `nodes` are those that others may not change meanwhile."""

    DRAINS: ClassVar[str] = ""
    """What `JobBehaviour.job_drains` calls this kind."""

    GOES_ON: ClassVar[bool] = True
    __slots__ = ("_delay", "_frozen", "_held", "_is_begun", "_use", "io_status", "limit", "nodes", "paths", "speed")

    def __init__(
        self, jobs: Home, options: BlockOptions, node: BlockNode, main: BlockNode, does: int = 0, allowed: int = ALL
    ) -> None:  # fmt: skip
        """It is created, on a node; `main` is that, or what it has put there, and what it `does` there and lets others.

        :raise Refusal: there cannot be a job of this name, it cannot have this speed, or others exclude what it does.
        """
        self._drain_before(jobs)
        self.nodes: list[BlockNode] = []
        # What it reads and writes: `read` or `write`, and the node.
        self.paths: list[tuple[str, BlockNode]] = []
        self._frozen: list[BlockNode] = []
        # Whether its work has begun.
        self._is_begun = False
        self._held: list[Drive] = []
        # In some releases a user of its own does what is to be done at its main node.
        self._use: Drive | None = None
        if jobs.behaviour.job_uses_node:
            use = self._use = job_user(main, does, allowed)
            jobs.graph.use(use)
            does, allowed = 0, ALL
        try:
            super().__init__(jobs, options)
        except Refusal:
            self._leave_main(jobs)
            jobs.drain_all(min(self._drains(jobs).before, int(jobs.behaviour.job_created_in_drain)))
            jobs.changed_as(self.DRAINS + "-undone")
            raise
        self.io_status = "ok"
        self.limit = RateLimit()
        self.speed = 0
        # For how long it has to sleep for its limit.
        self._delay = 0
        self.add_node(node)
        try:
            self.hold(main, "main node", does, allowed)
            self.set_speed(options.speed)
        except Refusal:
            self.give_up()
            raise

    def _drain_before(self, jobs: Home) -> None:
        """The graph has been changed for it."""
        within = jobs.behaviour.job_created_in_drain
        jobs.drain_all(max(0, self._drains(jobs).before - within))

    def _drains(self, jobs: Home) -> Drains:
        return drains_of(jobs.behaviour.job_drains, self.DRAINS)

    def tell_created(self) -> None:
        """It is created, in some releases while all disks are quiet."""
        if self.jobs.behaviour.job_created_in_drain and self._drains(self.jobs).before:
            drain = self.jobs.begin_drain(all_nodes=True)
            super().tell_created()
            self.jobs.end_drain(drain)
        else:
            super().tell_created()

    def start(self) -> None:
        """Begin its work."""
        self.jobs.drain_all(self._drains(self.jobs).created)
        super().start()

    def gone(self) -> None:
        """Nobody can ask for it any more: until now it was a user of its node."""
        drains = self._drains(self.jobs).gone if self.is_started else 0
        if drains and self.jobs.behaviour.graph_change_drains == "whole":
            # The last of these drains lasts until its nodes are let go.
            self.jobs.drain_all(drains - 1)
            drain = self.jobs.begin_drain(all_nodes=True)
            self.let_go_holds()
            self.jobs.end_drain(drain)
        else:
            self.jobs.drain_all(drains)
            self.let_go_holds()
        self._leave_main(self.jobs)

    def add_node(self, node: BlockNode) -> None:
        """It works on this node, too."""
        self.nodes.append(node)
        self.jobs.join_drains(self, node)

    def freeze(self, nodes: Iterable[BlockNode]) -> None:
        """What is behind these nodes has to stay there for as long as the job is at work, and so have they."""
        for node in nodes:
            node.frozen += 1
            self._frozen.append(node)

    # Holds: what its nodes are to it, and what it does with them and lets others do (`block_job_add_bdrv`)

    @property
    def holds(self) -> list[Drive]:
        """Its holds on nodes, the newest last."""
        return list(self._held)

    def hold(self, node: BlockNode, role: str, does: int = 0, allowed: int = ALL) -> None:
        """Hold a node, which is its `role`.

        :raise Refusal: others exclude what it does, or do what it does not allow.
        """
        label = f"{self.KIND} job '{self.identifier}'"
        held = Drive("", label=label, stays=True, doing=does, allowed=allowed, role=role, is_job=True)
        self.take(held, node)
        self._held.append(held)

    def take(self, user: Drive, node: BlockNode) -> None:
        """Have a user of its own at a node.

        :raise Refusal: others exclude that.
        """
        user.node = node
        try:
            self.jobs.graph.use(user)
        except Refusal:
            user.node = None
            raise

    def _leave_main(self, jobs: Home) -> None:
        if self._use is not None and self._use.node is not None:
            jobs.graph.empty(self._use)

    def let_go_holds(self) -> None:
        """Let others do with its nodes what they like."""
        while self._held:
            held = self._held.pop()
            if held.node is not None:
                self.jobs.graph.empty(held)

    def clean(self) -> None:
        """It is over: let go of its node."""
        frozen, self._frozen = self._frozen, []
        for node in frozen:
            node.frozen -= 1
            self.jobs.graph.release(node)
        if self.state is not JobStatus.NULL:
            self.jobs.drain_all(self._drains(self.jobs).ended)
        if not self.is_started:
            self.jobs.changed()
            self.jobs.changed_as(self.DRAINS + "-undone")

    def blocks(self, node: BlockNode) -> bool:
        """Whether nobody else may change this node while the job is there."""
        return node in self.nodes

    def quiet_nodes(self) -> list[BlockNode]:
        """The nodes that are quiet only if the job is."""
        return self.nodes

    # Speed

    def set_speed(self, speed: int) -> None:
        """Limit its speed (`block-job-set-speed`), in bytes a second.

        :raise Refusal: it cannot be now, or not to that.
        """
        self.ask("set-speed")
        if speed < 0:
            raise Refusal("job-speed")
        before, self.speed = self.speed, speed
        self.limit.set_speed(speed)
        if speed and speed <= before:
            return
        self.wake(asleep=True)

    def count(self, size: int) -> None:
        """So many bytes were read or written that its limit counts; `rest` waits for it."""
        self._delay = self.limit.delay(self.jobs.now(), size)
        for way, node in self.paths:
            self.jobs.pass_limits(node, way, size)

    def rest(self) -> Steps:
        """Sleep for the limit of speed, or for no time; where a pause comes between, pause."""
        if not self.jobs.behaviour.job_rests_whole and not self.held_up():
            delay, self._delay = self._delay, 0
            yield from self.sleep(delay)
            return
        while True:
            delay = max(self.limit.delay(self.jobs.now()), self.held_up())
            yield from self.sleep(delay)
            if not delay or self.is_cancelled:
                return

    def held_up(self) -> int:
        """For how many nanoseconds the limits of throttle nodes let nothing pass."""
        return max((self.jobs.wait_at(node, way) for way, node in self.paths), default=0)

    def most(self, size: int) -> int:
        """How much of so many bytes may be moved at once: a fault may be to come at a certain progress, or a pace be
        kept."""
        if any(self.jobs.is_limited(node) for _, node in self.paths):
            size = min(size, _LIMITED)
        return max(1, min(size, self.jobs.until_fault(self), self.jobs.at_once()))

    # Errors

    @staticmethod
    def stop_waiting(node: BlockNode) -> None:
        """Requests to a node do not wait any more for a server that is gone (`bdrv_cancel_in_flight`)."""
        while node.driver == "raw":
            node = node.children["file"]
        cancel = getattr(node.content, "cancel", None)
        if cancel is not None:
            cancel()

    def met_error(self, policy: str, number: int, *, reading: bool) -> str:
        """Something could not be read or written: tell of it, and decide; `report`, `ignore` or `stop`.

        After `stop` the job is paused at its next pause point, and tries again once the user has resumed it.
        """
        action = policy
        if policy in ("auto", "enospc"):
            action = "stop" if number == errno.ENOSPC else "report"
        operation = "read" if reading else "write"
        self.jobs.emit("BLOCK_JOB_ERROR", {"device": self.identifier, "operation": operation, "action": action})
        if action == "stop":
            if not self.user_paused:
                self.pause()
                self.user_paused = True
            if self.io_status == "ok":
                self.io_status = "nospace" if number == errno.ENOSPC else "failed"
        return action

    def resumed_by_user(self) -> None:
        """The error that has stopped it is forgotten."""
        self.io_status = "ok"

    # Events

    def _about(self) -> dict[str, Any]:
        return {
            "type": self.KIND, "device": self.identifier, "len": self.total, "offset": self.done, "speed": self.speed,
        }  # fmt: skip

    def become_ready(self) -> None:
        """Both sides are alike from now on."""
        self.enter(JobStatus.READY)
        self.jobs.emit("BLOCK_JOB_READY", self._about())

    def tell_pending(self) -> None:
        """Tell that it waits to be finalized."""
        self.jobs.emit("BLOCK_JOB_PENDING", {"type": self.KIND, "id": self.identifier})

    def tell_end(self) -> None:
        """Tell that it has ended, and how."""
        if self.is_cancelled:
            self.jobs.emit("BLOCK_JOB_CANCELLED", self._about())
            return
        words = self.error_words()
        self.jobs.emit("BLOCK_JOB_COMPLETED", self._about() | ({} if words is None else {"error": words}))

    def query_block(self) -> dict[str, Any]:
        """What `query-block-jobs` tells of it (QAPI `BlockJobInfo`)."""
        words = self.error_words()
        return {
            "type": self.KIND, "device": self.identifier, "len": self.total, "offset": self.done,
            "busy": self.busy, "paused": self.pause_count > 0, "speed": self.speed, "io-status": self.io_status,
            "ready": self.is_ready, "status": str(self.state), "auto-finalize": self.auto_finalize,
            "auto-dismiss": self.auto_dismiss, **({} if words is None else {"error": words}), **self.query_more(),
        }  # fmt: skip

    def query_more(self) -> dict[str, Any]:
        """What is told of its kind alone."""
        return {}

    def change(self, arguments: dict[str, Any]) -> None:
        """Change its options (`block-job-change`).

        :raise Refusal: its kind has none that can be changed.
        """
        raise Refusal("job-no-change", type=self.KIND)
