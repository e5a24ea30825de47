"""Writing what an image has into the one behind it, which leaves the image empty (`commit`; QEMU's `bdrv_commit`)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.images.qcow2.emptying import empty
from qmpd.block.reopening import reopen
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor, Outcome
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

_CHUNK = 1 << 20


def has_behind(node: BlockNode) -> bool:
    """Whether an image has another one behind it."""
    return "backing" in node.children


def commit(graph: BlockGraph, executor: Executor, node: BlockNode, then: Callable[[int], None]) -> None:
    """Write it, and tell in the end which error there was, by its number; 0 for none."""
    behind = node.children.get("backing")
    if behind is None:
        then(errno.ENOTSUP)
        return
    graph.changed_as("human-commit-asked")
    if graph.is_busy(node) is not None or graph.is_busy(behind) is not None:
        then(errno.EBUSY)
        return
    graph.changed_as("human-commit")
    was_read_only = behind.read_only
    if was_read_only:
        graph.changed_as("human-commit-reopened")
        try:
            reopen(graph, [(behind, {"read-only": False})], keep=True)
        except Refusal:
            then(errno.EACCES)
            return

    def done(outcome: Outcome) -> None:
        if was_read_only and graph.nodes.get(behind.name) is behind:
            reopen(graph, [(behind, {"read-only": True})], keep=True)
        error = outcome.error
        then(0 if error is None else getattr(error, "number", None) or getattr(error, "errno", None) or errno.EIO)

    executor.do(lambda: _write(node, behind), done)


def _write(node: BlockNode, behind: BlockNode) -> None:
    assert node.port is not None
    assert behind.port is not None
    if behind.size < node.size:
        behind.port.truncate(node.size)
    offset = 0
    for length, has in list(node.port.pieces(0, node.size)):
        for at in range(offset, offset + length, _CHUNK) if has else ():
            behind.port.write(at, node.port.read(at, min(_CHUNK, offset + length - at)))
        offset += length
    if isinstance(node.content, Qcow2Content):
        empty(node.content.image)
    # Other formats keep what they have, which is the same as behind them now.
    node.port.flush()
    behind.port.flush()
