"""What QEMU keeps away from the block graph while that changes.

Whoever changes the graph has it alone, from 10.0 on by draining all disks: jobs pause for a moment, however little they
have to do with it, and a client sees that.  How often is told by releases (`graph_change_drains`, `job_drains`).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from qmpd.block.nodes import BlockNode, Drive

    class BlockGraph(Protocol):
        """The graph that is changed (`qmpd.block.graph`)."""

        blockers: Blockers | None

        def empty(self, drive: Drive) -> None:
            """Take the node out of a drive."""


class Blockers(Protocol):
    """Who may keep others from changing nodes: the jobs of a machine."""

    def blocking(self, node: BlockNode) -> str | None:
        """The type of the job that nobody may come in the way of at a node; None where there is none."""

    def drain_all(self, times: int = 1) -> None:
        """Have all that is going on end, or pause, for a moment; so many times."""

    def begin_drain(self, *nodes: BlockNode, all_nodes: bool = False) -> Any:
        """Have nothing going on at these nodes until `end_drain` is called with what this gives."""

    def end_drain(self, drain: Any) -> None:
        """Nobody needs that any more."""

    def cancel_on(self, node: BlockNode) -> None:
        """A drive leaves with its device (`blockdev_auto_del`): jobs at its node are cancelled."""

    def left(self, node: BlockNode) -> None:
        """Somebody uses a node no more: what goes on there ends or pauses for a moment."""

    def hindrance(self) -> str | None:
        """Why what goes on cannot be carried to another process; None where it can."""

    def quiet(self, node: BlockNode) -> None:
        """What goes on at a node ends or pauses for a moment, as somebody leaves it."""

    def changed(self, times: int = 1) -> None:
        """The graph changes, so many times."""

    def changed_as(self, kind: str) -> None:
        """The graph changes as often as it does for this (`job_drains`)."""

    def changing(self) -> AbstractContextManager[None]:
        """The graph changes once, and with it what follows from that."""


def changing(blockers: Blockers | None) -> AbstractContextManager[None]:
    """The graph changes once, and with it what follows from that."""
    return nullcontext() if blockers is None else blockers.changing()


def take_out_medium(graph: BlockGraph, drive: Drive) -> None:
    """Take what is in a drive out of it, where there is something: the graph changes."""
    if drive.node is not None:
        with changing(graph.blockers):
            graph.empty(drive)
    else:
        graph.empty(drive)


# How often the graph changes as a node cannot be opened, and is closed again.
CHILD_FAILS = 1


def cost_of_opening(*, is_protocol: bool, children: int) -> int:
    """How often the graph changes as a node is opened that has so many children.

    A format is looked at through a user of its own, who comes and goes.
    """
    return children if is_protocol or not children else children + 2


def cost_of_name(*, is_protocol: bool) -> int:
    """How often it changes where the node cannot have its name, or what it is told does not go together."""
    return 1 if is_protocol else 3


def cost_of_lock(*, is_protocol: bool) -> int:
    """How often it changes where what is below the node is not free."""
    return 2 if is_protocol else 5


def cost_of_failure(*, is_protocol: bool) -> int:
    """How often it changes where what is below the node is not what it ought to be."""
    return 2 if is_protocol else 6
