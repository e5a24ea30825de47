"""Commits of an image that is written to meanwhile: mirrors onto its own base.  (QEMU's block/mirror.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.content import number_of
from qmpd.block.files import ALL, GRAPH, RESIZE
from qmpd.block.jobs import chain
from qmpd.block.jobs.block_job import BlockJob
from qmpd.block.jobs.mirror import Mirror
from qmpd.block.jobs.steps import JobFailure, Work
from qmpd.block.reopening import reopen
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from qmpd.block.jobs.copying import MirrorOptions
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode


class ActiveCommit(Mirror):
    """A commit of an image that is written to, into its base."""

    KIND: ClassVar[str] = "commit"
    DRAINS: ClassVar[str] = "active"

    __slots__ = ("_was_read_only",)

    def __init__(self, jobs: Home, options: MirrorOptions, node: BlockNode) -> None:
        """It is created.

        :raise Refusal: it cannot be.
        """
        base = options.target
        assert base is not None
        self._was_read_only = base.read_only
        if base.read_only:
            reopen(jobs.graph, [(base, {"read-only": False})], keep=True)
        try:
            super().__init__(jobs, options, node)
        except Refusal:
            if self._was_read_only:
                reopen(jobs.graph, [(base, {"read-only": True})], keep=True)
            raise
        self.freeze(chain.images(node, base))

    def query_more(self) -> dict[str, Any]:
        """Nothing: it never writes to both at once."""
        return {}

    def change(self, arguments: dict[str, Any]) -> None:
        """Nothing of it can be changed.

        :raise Refusal: always.
        """
        BlockJob.change(self, arguments)

    def lets_others(self) -> int:
        """All but to resize it: the base is part of the chain."""
        return GRAPH | ALL & ~RESIZE

    def options_of_filter(self, jobs: Home) -> dict[str, Any]:
        """Its node lets others write what is below."""
        return {"commits": True} if jobs.behaviour.mirror_reads_source else {"writes-only": True}

    def adjust_target(self) -> Steps:
        """A base that is shorter becomes as large as the image."""
        target = self._target.port
        assert target is not None
        if self._size > target.size:
            size = self._size
            outcome = yield Work(lambda: target.truncate(size))
            if outcome.error is not None:
                raise JobFailure(number_of(outcome.error))

    def abort(self) -> None:
        """The base is read-only again."""
        super().abort()
        if self._was_read_only:
            reopen(self.jobs.graph, [(self._target, {"read-only": True})], keep=True)
