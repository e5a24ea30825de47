"""block-stream: what shows through an image is copied into it, until nothing behind it is needed.  (block/stream.c.)"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from qmpd.block.content import number_of
from qmpd.block.description import filename_of
from qmpd.block.drivers.filters import CopyOnRead
from qmpd.block.files import GRAPH, READ, UNCHANGED, WRITE
from qmpd.block.jobs import chain
from qmpd.block.jobs.block_job import BlockJob, BlockOptions, job_user
from qmpd.block.jobs.chunk import Chunk, length_of
from qmpd.block.jobs.drains import LEAVING, Drains, drains_of
from qmpd.block.jobs.steps import JobFailure, Work
from qmpd.block.pausing import away
from qmpd.block.placing import put_on, take_out
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
_ZEROS = bytes(CHUNK)
# What others may do with the images that it copies from.
_KEPT = READ | UNCHANGED


@dataclass(slots=True)
class StreamOptions(BlockOptions):
    """`bottom` is the last image that is copied; all are where it is None.  `backing_file` is written for what is
    behind it then."""

    bottom: BlockNode | None = None
    backing_file: str | None = None
    on_error: str = "report"
    filter_name: str = ""


class Stream(BlockJob):
    """One stream, of an image `node` (with filters on it, maybe)."""

    KIND: ClassVar[str] = "stream"
    DRAINS: ClassVar[str] = "stream"

    __slots__ = ("_filter", "_image", "_met", "_options", "_user", "_was_read_only")

    def __init__(self, jobs: Home, options: StreamOptions, node: BlockNode) -> None:
        """It is created.

        :raise Refusal: it cannot be.
        """
        self._options = options
        # The first error that has not stopped it.
        self._met = 0
        self._image = chain.unfiltered(node)
        self._filter: BlockNode | None = None
        self._user = job_user(None, READ, _KEPT | WRITE)
        graph = jobs.graph
        if node.inactive and not jobs.behaviour.stream_has_filter:
            raise Refusal("inactive-permission", permissions="write unchanged")
        self._was_read_only = self._image.read_only
        if self._was_read_only:
            reopen(graph, [(self._image, {"read-only": False})], keep=True)
        if jobs.behaviour.stream_has_filter:
            given = {} if options.bottom is None else {"bottom": options.bottom.name}
            self._filter = put_on(
                graph, node, "copy-on-read", "file", lambda above: CopyOnRead(above, graph), options.filter_name, given
            )
            self._filter.frozen += 1
            jobs.drain(node, self._node_drains(jobs).before)
        try:
            if self._filter is None:
                super().__init__(jobs, options, node, node, READ | UNCHANGED | GRAPH, _KEPT | WRITE)
            else:
                super().__init__(jobs, options, node, self._filter)
        except Refusal:
            self._drop_filter()
            self._restore()
            raise
        for each in self._copied():
            self.add_node(each)
        try:
            self._hold(node)
        except Refusal:
            self.give_up()
            raise
        self.paths = [("write", self._image), *(("read", each) for each in self._copied())]
        self.freeze([self._image, *self._copied()][:-1])

    def _hold(self, node: BlockNode) -> None:
        """Let nobody change its nodes before the job is dismissed."""
        if self._filter is not None:
            self.take(self._user, self._filter)
            self.hold(node, "active node", allowed=_KEPT | WRITE)
        for each in self._copied():
            self.hold(each, "intermediate node", allowed=_KEPT)

    def blocks(self, node: BlockNode) -> bool:
        """Its filter is its own, too."""
        return node is self._filter or super().blocks(node)

    def quiet_nodes(self) -> list[BlockNode]:
        """The images, and the node that is on top of them."""
        return [*self.nodes, *([] if self._filter is None else [self._filter])]

    def _copied(self) -> list[BlockNode]:
        """The images that are copied from."""
        bottom = self._options.bottom
        if bottom is self._image:
            return []
        end = None if bottom is None else chain.behind(bottom)
        return chain.images(chain.behind(self._image), end)

    def run(self) -> Steps:
        """Copy chunk after chunk."""
        behind = [each.port for each in self._copied() if each.port is not None]
        top = self._image.port
        if not behind or top is None:
            return
        size = top.size
        if not self._is_begun:
            self._is_begun, self.left = True, size
        while self.done < size:
            yield from self.rest()
            if self.is_cancelled:
                break
            most = self.most(CHUNK)
            outcome = yield Work(partial(_copy, top, behind, self.done, size, most), counts=length_of)
            chunk = Chunk(most, False, number_of(outcome.error)) if outcome.error else outcome.value
            if chunk.error:
                action = self.met_error(self._options.on_error, chunk.error, reading=True)
                if action == "stop":
                    continue
                self._met = self._met or chunk.error
                if action == "report":
                    break
            self.advance(min(chunk.length, size - self.done))
            if chunk.copied:
                self.count(chunk.length)
        if self._met:
            # What was behind it is still needed, though the error was ignored.
            raise JobFailure(self._met)

    def prepare(self) -> None:
        """Nothing but what is behind the bottom is behind the image from now on."""
        behaviour = self.jobs.behaviour
        self._drop_filter()
        if not behaviour.stream_has_filter or behaviour.graph_change_drains == "whole":
            self._change_behind()
            return
        # Where not all disks are quiet while what is behind it changes, it is.
        drain = self.jobs.begin_drain(self._image)
        try:
            self._change_behind()
        finally:
            self.jobs.end_drain(drain)

    def _change_behind(self) -> None:
        image, graph = self._image, self.jobs.graph
        if "backing" not in image.children:
            self.jobs.changed_as("stream-bottom")
            return
        self.jobs.changed()
        bottom = self._options.bottom
        below = None if bottom is None else chain.behind(bottom)
        base = None if below is None else chain.unfiltered(below)
        name = self._options.backing_file
        if base is not None:
            name = filename_of(base) if name is None else name
        content = image.content
        if not image.read_only and content is not None:
            kind = None if base is None else base.driver
            away(lambda: write_backing(image, name if base is not None else None, kind))
        graph.set_backing(image, below)
        image.backing_as_recorded = below is not None and self._options.backing_file is None

    @staticmethod
    def _node_drains(jobs: Home) -> Drains:
        """How often its node alone is drained."""
        return drains_of(jobs.behaviour.job_drains, "stream-node")

    def _drop_filter(self) -> None:
        if self._filter is not None:
            above, self._filter = self._filter, None
            self.jobs.drain(self._image, self._node_drains(self.jobs).ended)
            if self._user.node is not None:
                above.drives.remove(self._user)
                self._user.node = None
            above.frozen -= 1
            below = next(iter(above.children.values()))
            take_out(self.jobs.graph, above, below, keeps=self.jobs.behaviour.stream_filter_keeps_child)

    def clean(self) -> None:
        """Let go of the image."""
        self._drop_filter()
        if self.jobs.behaviour.stream_has_filter and self.is_started:
            # Its user has left it.
            self.jobs.drain(self._image, LEAVING)
        super().clean()
        self._restore()

    def _restore(self) -> None:
        """The image is read-only again where it was."""
        image, graph = self._image, self.jobs.graph
        if self._was_read_only and graph.nodes.get(image.name) is image:
            self._was_read_only = False
            reopen(graph, [(image, {"read-only": True})], keep=True)


def _copy(top: Content, behind: Sequence[Content], offset: int, size: int, most: int) -> Chunk:
    length, allocated = chain.first_run(top, offset, most)
    if allocated:
        return Chunk(length, False)
    found, copied = chain.allocated_above(behind, offset, length)
    if not found and not copied:
        # What is behind ends here.
        return Chunk(size - offset, False)
    if copied:
        try:
            data = top.read(offset, found)
            if data == _ZEROS[:found]:
                top.zero(offset, found, unmap=False)
            else:
                top.write(offset, data)
        except OSError as error:
            return Chunk(found, copied, error.errno or errno.EIO)
    return Chunk(found, copied)
