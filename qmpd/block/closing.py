"""What a node's image still keeps is written before it is closed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor, Outcome
    from qmpd.block.nodes import BlockNode


def inactivate(node: BlockNode, executor: Executor | None, complain: Callable[[str], None] | None) -> None:
    """Have a node's image write what it still keeps, its persistent bitmaps too, after what is under way.

    `complain` is told what was lost, a line each.
    """
    if not node.bitmaps and not getattr(node.content, "is_to_be_flushed", False):
        return
    from qmpd.block.bitmaps import stored
    from qmpd.block.executor import AtOnce

    # The node lets go of its content before that is done.
    closed = replace(node)

    def told(outcome: Outcome) -> None:
        for line in outcome.value if complain is not None else ():
            complain(line)  # type: ignore[misc]

    (executor or AtOnce()).do(lambda: stored.store_to_close(closed), told)
