"""block-commit of what nobody writes to: images are copied into the one behind them, and dropped.  (block/commit.c.)"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from qmpd.block.content import number_of
from qmpd.block.description import filename_of
from qmpd.block.drivers.mirror_top import CommitTop
from qmpd.block.files import ALL, GRAPH, READ, UNCHANGED, WRITE
from qmpd.block.images.errors import ImageError
from qmpd.block.jobs import chain
from qmpd.block.jobs.block_job import BlockJob, BlockOptions, job_user
from qmpd.block.jobs.chunk import Chunk, length_of
from qmpd.block.jobs.steps import JobFailure, Work
from qmpd.block.nodes import Drive, below
from qmpd.block.pausing import away
from qmpd.block.placing import put_on, replace, take_out
from qmpd.block.recorded import write_backing
from qmpd.block.reopening import reopen
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.block.content import Content
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode

CHUNK = 512 << 10
"""So many bytes are looked at, and copied, at once."""


@dataclass(slots=True)
class CommitOptions(BlockOptions):
    """`top` is the uppermost image that is copied, `base` what it is copied into; `overlay` is in front of the top."""

    overlay: BlockNode | None = None
    top: BlockNode | None = None
    base: BlockNode | None = None
    backing_file: str | None = None
    on_error: str = "report"
    filter_name: str = ""


class Commit(BlockJob):
    """One commit of images that are behind another, which is in use."""

    KIND: ClassVar[str] = "commit"
    DRAINS: ClassVar[str] = "commit"

    __slots__ = ("_base", "_filter", "_options", "_overlay", "_read_only", "_top", "_users")

    def __init__(self, jobs: Home, options: CommitOptions, active: BlockNode) -> None:
        """It is created; `active` is the image that all are behind.

        :raise Refusal: it cannot be.
        """
        top, base, overlay = options.top, options.base, options.overlay
        assert top is not None
        assert overlay is not None
        assert base is not None
        self._options = options
        self._top, self._base, self._overlay = top, base, overlay
        # Which of the two that are written are read-only but for this.
        self._read_only: list[BlockNode] = []
        self._filter: BlockNode | None = None
        # What it has of the two that it reads and writes.
        self._users: list[Drive] = []
        super().__init__(jobs, options, active, active)
        try:
            self._make_writable(base)
            if base.inactive and not jobs.graph.inactive_children_refused:
                raise Refusal("inactive-permission", permissions="write, resize")
            self._filter = put_on(
                jobs.graph, top, "commit_top", "backing", lambda above: CommitTop(below(above)), options.filter_name
            )
            self._filter.frozen += 1
            self._hold()
        except Refusal:
            self.give_up()
            raise
        self.paths = [("read", top), ("write", base)]
        self.freeze(chain.images(top, base))
        for each in chain.chain(top):
            self.add_node(each)
            if each is base:
                break

    def _hold(self) -> None:
        """Let nobody change what is copied meanwhile.

        :raise Refusal: others do, or exclude what it does.
        """
        last = chain.images(self._top, self._base)[-1]
        on_base = chain.filters_behind(last)
        for each in chain.chain(self._top, self._base):
            # What images have is not what it was, once the base is written.
            self.hold(each, "intermediate node", allowed=WRITE | UNCHANGED | (READ if each in on_base else 0))
        self.hold(self._base, "base")
        for node, does, allowed in ((self._base, READ | WRITE, READ | UNCHANGED | GRAPH), (self._top, 0, ALL)):
            user = job_user(None, does, allowed)
            self.take(user, node)
            self._users.append(user)

    def _make_writable(self, node: BlockNode) -> None:
        if node.read_only:
            reopen(self.jobs.graph, [(node, {"read-only": False})], keep=True)
            self._read_only.append(node)

    def run(self) -> Steps:
        """Copy chunk after chunk."""
        above = [each.port for each in chain.images(self._top, self._base) if each.port is not None]
        top, base = self._top.port, self._base.port
        assert top is not None
        assert base is not None
        size = top.size
        if not self._is_begun:
            self._is_begun, self.left = True, size
        if base.size < size:
            outcome = yield Work(lambda: base.truncate(size))
            if outcome.error is not None:
                raise JobFailure(number_of(outcome.error))
        while self.done < size:
            yield from self.rest()
            if self.is_cancelled:
                return
            most = self.most(min(CHUNK, size - self.done))
            outcome = yield Work(partial(_copy, top, above, base, self.done, size, most), counts=length_of)
            chunk = Chunk(0, False, number_of(outcome.error), True) if outcome.error else outcome.value
            if chunk.error:
                if self.met_error(self._options.on_error, chunk.error, reading=chunk.reading) == "report":
                    raise JobFailure(chunk.error)
                continue
            self.advance(chunk.length)
            if chunk.copied:
                self.count(chunk.length)

    def prepare(self) -> None:
        """The images that were copied are not behind the one in front any more."""
        graph, base, overlay = self.jobs.graph, self._base, self._overlay
        above = self._let_go()
        gone = self._top if above is None else above
        name = self._options.backing_file
        if name is None:
            name = filename_of(base)
        if overlay.driver in ("qcow2", "qed"):
            self._make_writable(overlay)
            away(lambda: write_backing(overlay, name, base.driver))
        old = self._top
        if graph.is_described_within(base, old):
            # Whose options have described what is gone describe what stays.
            base.described_by = old.described_by
        replace(graph, gone, base)
        overlay.backing_as_recorded = self._options.backing_file is None
        graph.release(gone)
        self._restore()

    def _restore(self) -> None:
        for node in self._read_only:
            if self.jobs.graph.nodes.get(node.name) is node:
                reopen(self.jobs.graph, [(node, {"read-only": True})], keep=True)
        self._read_only.clear()

    def _let_go(self) -> BlockNode | None:
        """Use none of the nodes any more; the filter, which somebody has to take out."""
        users, self._users = self._users, []
        for user in users:
            if user.node is not None:
                user.node.drives.remove(user)
        above, self._filter = self._filter, None
        if above is not None:
            above.frozen -= 1
        return above

    def _drop_filter(self) -> None:
        above = self._let_go()
        if above is not None:
            take_out(self.jobs.graph, above, above.children["backing"])

    def abort(self) -> None:
        """The images stay where they are."""
        super().abort()
        self.let_go_holds()
        self.jobs.changed_as("commit-abort")

    def clean(self) -> None:
        """All is as before, but for what was copied."""
        self._drop_filter()
        self._restore()
        if self.has_failed:
            self.nodes.clear()
        super().clean()


def _copy(top: Content, above: Sequence[Content], base: Content, offset: int, size: int, most: int) -> Chunk:
    found, copied = chain.allocated_above(above, offset, most)
    if not found:
        return Chunk(size - offset, False)
    if copied:
        try:
            data = top.read(offset, found)
        except (OSError, ImageError) as error:
            return Chunk(found, copied, number_of(error), True)
        try:
            base.write(offset, data)
        except (OSError, ImageError) as error:
            return Chunk(found, copied, number_of(error), False)
    return Chunk(found, copied)
