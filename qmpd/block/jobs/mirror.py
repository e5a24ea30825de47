"""Mirrors, and commits of what is written to meanwhile: a copy that follows its source.  (QEMU's block/mirror.c.)

What is dirty is copied in rounds, each of several requests that end together.  Once nothing is dirty both sides are
alike, and the job is ready; from then on it copies what is written, or has it written to both sides at once
(`write-blocking`), until it is completed.  A commit of an active image is a mirror onto its own base.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.bitmaps.rules import release
from qmpd.block.content import Gone, number_of
from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.mirror_top import MirrorTop
from qmpd.block.files import ALL, GRAPH, READ, UNCHANGED, WRITE
from qmpd.block.images.errors import ImageError
from qmpd.block.jobs import chain
from qmpd.block.jobs.block_job import BlockJob, job_user
from qmpd.block.jobs.copying import BUFFER, FAR, Copy, Request, moved
from qmpd.block.jobs.dirty import Dirty
from qmpd.block.jobs.drains import drains_of
from qmpd.block.jobs.steps import JobFailure, Work
from qmpd.block.nodes import Drive, below
from qmpd.block.opening import open_backing
from qmpd.block.permissions import refresh
from qmpd.block.placing import put_on, replace, take_out
from qmpd.block.reopening import reopen
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from qmpd.block.content import Content
    from qmpd.block.executor import Outcome
    from qmpd.block.jobs.copying import MirrorOptions
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode

_SMALLEST_GRANULARITY, _LARGEST_GRANULARITY = 512, 64 << 20
_DEFAULT_GRANULARITIES = 4096, 65536
# What others may do with the source meanwhile.
_SHARED = READ | UNCHANGED | WRITE


def check_granularity(granularity: int) -> None:
    """Refuse a granularity that is none.

    :raise Refusal: it is too small or too large, or no power of two.
    """
    if granularity and not _SMALLEST_GRANULARITY <= granularity <= _LARGEST_GRANULARITY:
        raise Refusal("mirror-granularity")
    if granularity & (granularity - 1):
        raise Refusal("mirror-granularity-power")


def _default_granularity(target: BlockNode) -> int:
    content = chain.unfiltered(target).content
    least, most = _DEFAULT_GRANULARITIES
    return max(least, min(most, content.header.cluster_size)) if isinstance(content, Qcow2Content) else most


class Mirror(BlockJob):
    """One mirror of `node`."""

    KIND: ClassVar[str] = "mirror"
    DRAINS: ClassVar[str] = "mirror"

    __slots__ = (
        "_completing", "_content", "_copies_at_once", "_copy", "_dirty", "_drain", "_filter", "_flushed",
        "_options", "_replaced", "_size", "_source", "_synced", "_target", "_user",
    )  # fmt: skip

    def __init__(self, jobs: Home, options: MirrorOptions, node: BlockNode) -> None:
        """It is created.

        :raise Refusal: it cannot be.
        """
        target = options.target
        assert target is not None
        check_granularity(options.granularity)
        if options.buffer < 0:
            raise Refusal("mirror-buffer")
        if chain.unfiltered(node) is chain.unfiltered(target):
            raise Refusal("mirror-into-itself")
        granularity = options.granularity or _default_granularity(target)
        self._options = options
        self._source = node
        self._target = target
        self._size = node.virtual_size
        self._dirty = Dirty(self._size, granularity)
        buffer = -(-(options.buffer or BUFFER) // granularity) * granularity
        self._copy = Copy(options, node, target, buffer, self._dirty)
        self._completing = self._synced = False
        # How much of what it has written survives, in bytes.
        self._flushed = 0
        self._copies_at_once = False
        self._replaced: BlockNode | None = None
        self._drain: Any = None
        self._filter: BlockNode | None = put_on(
            jobs.graph, node, "mirror_top", "backing", lambda above: MirrorTop(below(above)), options.filter_name,
            self.options_of_filter(jobs),
        )  # fmt: skip
        self._filter.frozen += 1
        content = self._filter.content
        assert isinstance(content, MirrorTop)
        self._content = content
        self._user = Drive("", stays=True)
        try:
            super().__init__(jobs, options, node, self._filter, READ, _SHARED | GRAPH)
        except Refusal:
            self._drop_filter()
            raise
        self._hold()

    def lets_others(self) -> int:
        """What others may do with the target meanwhile."""
        return UNCHANGED

    def blocks(self, node: BlockNode) -> bool:
        """Nobody else may change its own node either."""
        return node is self._filter or super().blocks(node)

    def _hold(self) -> None:
        """Have the nodes for itself."""
        self.paths = [("read", self._source), ("write", self._target)]
        self.add_node(self._target)
        for each in self._between():
            self.add_node(each)
        above = self._filter
        assert above is not None
        try:
            self._user = job_user(None, WRITE, self.lets_others())
            self.take(self._user, self._target)
            self.hold(self._source, "source", allowed=_SHARED)
            self.hold(self._target, "target")
            for each in self._between():
                self.hold(each, "intermediate node", allowed=WRITE | UNCHANGED)
        except Refusal:
            self.give_up()
            raise
        self._content.copier = self
        if not self.jobs.behaviour.mirror_watches_source:
            above.bitmaps.insert(0, self._dirty)
            return
        self._source.bitmaps.insert(0, self._dirty)
        if self._options.copy_mode != "write-blocking":
            self._dirty.enabled = True
            self._source.watchers.append(self._touched)

    def quiet_nodes(self) -> list[BlockNode]:
        """The two, and what is between and above them."""
        return [*self.nodes, *([] if self._filter is None else [self._filter])]

    def _between(self) -> list[BlockNode]:
        """The nodes between the two, where the target is behind the source."""
        found = list(chain.chain(self._source))
        return found[1 : found.index(self._target)] if self._target in found else []

    # What is written meanwhile; in a thread of the disks

    def _touched(self, offset: int, length: int) -> None:
        self._dirty.set(offset, length)
        self.jobs.graph.happened.append(("", {"then": partial(self.rouse, if_idle=True)}))

    def wrote(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """These bytes were written (`qmpd.block.drivers.mirror_top.Copier`)."""
        if self._copies_at_once:
            self._at_once(offset, len(data), lambda target: target.write(offset, data))
        elif not self.jobs.behaviour.mirror_watches_source or self._options.copy_mode == "write-blocking":
            self._touched(offset, len(data))

    def cleared(self, offset: int, length: int, *, unmap: bool) -> None:
        """These bytes are zeros now."""
        if self._copies_at_once:
            self._at_once(offset, length, lambda target: target.zero(offset, length, unmap=unmap))
        elif not self.jobs.behaviour.mirror_watches_source or self._options.copy_mode == "write-blocking":
            self._touched(offset, length)

    def _at_once(self, offset: int, length: int, write: Callable[[Content], None]) -> None:
        target = self._target.port
        assert target is not None
        try:
            write(target)
        except (OSError, ImageError) as error:
            number = number_of(error)
            self._dirty.set(offset, length)
            self.jobs.graph.happened.append(("", {"then": lambda: self._write_failed(number)}))
            return
        self._dirty.reset(offset, length)
        self.done += length

    def _write_failed(self, number: int) -> None:
        self._failed(Request(0, 0, 0, number))
        self.rouse()

    # The work

    def run(self) -> Steps:
        """Copy what is dirty until it is completed or cancelled."""
        if not self._is_begun:
            yield from self._begin()
            self._is_begun = True
        if self._size:
            yield from self._copy_all()
        else:
            if not self.is_ready:
                self.become_ready()
            while not self._is_to_end:
                yield from self.idle()
                if self.is_cancelled:
                    break
        if self._drain is None:
            self._drain = self.jobs.begin_drain(self._source)
        # Whoever has cancelled or completed it hears that before.
        yield Work(nothing)

    @property
    def _is_to_end(self) -> bool:
        return self._completing or self.cancelled

    def _begin(self) -> Steps:
        """Look at the sizes, and at what is to be copied."""
        target, options = self._target.port, self._options
        assert target is not None
        yield from self.adjust_target()
        if options.sync == "none" or not self._size:
            self._copies_at_once = options.copy_mode == "write-blocking"
            return
        if options.base is None and self._copy.is_whole:
            self._dirty.set(0, self._size)
        else:
            outcome = yield Work(self._copy.find_dirty)
            if outcome.error is not None:
                raise JobFailure(number_of(outcome.error))
        self._copies_at_once = options.copy_mode == "write-blocking"

    def adjust_target(self) -> Steps:
        """See that the target is as large as the source.

        :raise JobFailure: it is not.
        """
        if self._target.size != self._size:
            yield Work(nothing)
            if self.jobs.behaviour.mirror_tells_sizes:
                raise JobFailure(errno.EINVAL, "Source and target image have different sizes")
            raise JobFailure(errno.EINVAL)

    def _copy_all(self) -> Steps:
        while True:
            if self.has_failed:
                return
            yield from self.pause_point()
            if self.is_cancelled:
                return
            dirty = self._dirty.left
            self.left = dirty
            if dirty and self.io_status == "ok":
                yield from self._round()
                dirty = self._dirty.left
                self.left = dirty
                if self._goes_on_at_once():
                    continue
            elif not dirty and not self._synced:
                if not (yield from self._flush()):
                    continue
                self._synced = True
                self.become_ready()
            if not dirty and self._synced and self._is_to_end:
                self._drain = self.jobs.begin_drain(self._source)
                if (yield from self._flush()) and not self._dirty.left:
                    return
                self.jobs.end_drain(self._drain)
                self._drain = None
                continue
            if self._synced and not dirty:
                yield from self.idle()
            else:
                yield from self.rest()

    def _goes_on_at_once(self) -> bool:
        """Whether the next round, or the end, follows without a rest: a limit of speed holds up a failure, too."""
        if self.speed or self.held_up():
            return False
        return self.has_failed or (bool(self.left) and self.io_status == "ok")

    def _flush(self) -> Generator[Any, Any, bool]:
        """Have all that was written since the last time survive; false where that fails."""
        if self.done == self._flushed or self._target.port is None:
            return True
        outcome = yield Work(self._target.port.flush)
        if outcome.error is not None:
            self._failed(Request(0, 0, 0, number_of(outcome.error)))
            return False
        self._flushed = self.done
        return True

    def _round(self) -> Steps:
        """Copy some of what is dirty."""
        early = self._told_early if self.jobs.behaviour.mirror_fails_early else None
        most = self.most(FAR)
        limited = self.speed > 0
        outcome = yield Work(lambda: self._copy.copy_some(most, limited=limited), early=early, counts=moved)
        if outcome.error is not None:
            self._failed(Request(0, 0, 0, number_of(outcome.error), reading=True))
            return
        counted = 0
        for request in outcome.value:
            if request.error:
                if early is None or not request.reading:
                    self._failed(request)
            else:
                self.advance(request.length)
            counted += request.counted
        self.count(counted)

    def _told_early(self, outcome: Outcome) -> None:
        """What cannot be read shows before anything is written."""
        for request in outcome.value or ():
            if request.error and request.reading:
                self._failed(request)

    def _failed(self, request: Request) -> None:
        options = self._options
        policy = options.on_source_error if request.reading else options.on_target_error
        if self.met_error(policy, request.error, reading=request.reading) == "report" and not self.has_failed:
            self.error = JobFailure(request.error).noted()

    # Its end

    def complete(self) -> None:
        """Switch over to the target.

        :raise Refusal: what is to be replaced is not there.
        """
        if not self.is_ready:
            super().complete()
        name = self._options.replaces
        if name is not None:
            self._replaced = self.jobs.graph.nodes.get(name)
            if self._replaced is None:
                raise Refusal("node-name-missing", name=name)
        self._completing = True
        if not self.paused:
            self.wake()

    def cancels(self, *, force: bool) -> bool:
        """A ready mirror that is cancelled without force ends well, without switching over."""
        force = force or not self.is_ready
        if force:
            self.stop_waiting(self._target)
        return force

    def prepare(self) -> None:
        """Have the users of the source use the target, where that was asked for."""
        self._let_go()
        error = self._set_backing()
        if self._completing:
            self._switch()
        # What is behind the filter by now goes later.
        self._target.frozen += 1
        self._drop_filter(keep=self.jobs.behaviour.job_uses_node)
        self._target.frozen -= 1
        if error:
            raise JobFailure(error)

    def _set_backing(self) -> int:
        """Have behind the target what belongs there; the number of the error where that cannot be."""
        options, graph = self._options, self.jobs.graph
        image = chain.unfiltered(self._target)
        try:
            if options.backing == "source":
                backing = self._source if options.sync == "none" else options.base
                if image.children.get("backing") is not backing:
                    self.jobs.changed_as("mirror-backing")
                    graph.set_backing(image, backing)
            elif options.backing == "open":
                open_backing(graph, self._target)
        except Refusal as refusal:
            if graph.complain is not None:
                graph.complain(self.jobs.words(refusal))
            return errno.EPERM if options.backing == "source" else errno.EINVAL
        return 0

    def _switch(self) -> None:
        graph = self.jobs.graph
        old = self._replaced or self._source
        if old.read_only != self._target.read_only:
            reopen(graph, [(self._target, {"read-only": old.read_only})], keep=True)
        replace(graph, old, self._target)
        self.jobs.drain_all(drains_of(self.jobs.behaviour.job_drains, "switch").ended)

    def abort(self) -> None:
        """The source stays where it is."""
        self._let_go()
        self._drop_filter(keep=self.jobs.behaviour.job_uses_node and self.is_started)

    def _let_go(self) -> None:
        self._content.copier = None
        self.let_go_holds()
        self._copies_at_once = False
        for node in (self._source, self._filter):
            if node is not None:
                release(node, self._dirty)
        if self._touched in self._source.watchers:
            self._source.watchers.remove(self._touched)
        node, self._user.node = self._user.node, None
        if node is not None:
            node.drives.remove(self._user)
        self.nodes.clear()

    def _drop_filter(self, *, keep: bool = False) -> None:
        if self._filter is None:
            return
        above, self._filter = self._filter, None
        above.frozen -= 1
        if keep:
            above.options = {}
            if self._use is not None:
                self._use.doing, self._use.allowed = 0, ALL
        take_out(self.jobs.graph, above, above.children["backing"])

    def clean(self) -> None:
        """Let go of everything."""
        self._let_go()
        self._drop_filter()
        graph = self.jobs.graph
        for node in (self._source, self._target):
            if graph.nodes.get(node.name) is node:
                graph.release(node)
        for node in (self._source, self._target):
            if graph.nodes.get(node.name) is node:
                refresh([node])
        super().clean()
        if self._drain is not None:
            drain, self._drain = self._drain, None
            self.jobs.end_drain(drain)

    def options_of_filter(self, jobs: Home) -> dict[str, Any]:
        """What its node on the source is told."""
        return {} if jobs.behaviour.mirror_reads_source else {"writes-only": True}

    # Another process

    def links(self) -> dict[str, Any]:
        """Where it copies, who notes what is written, and what it keeps quiet."""
        both = [node for node in (self._source, self._filter) if node is not None]
        places = [node.name for node in both if self._dirty in node.bitmaps]
        return {
            "copy": [self._copy.buffer, self._copy.place], "notes": places,
            "copies": self._content.copier is not None, "watches": self._touched in self._source.watchers,
            "drain": None if self._drain is None else self.jobs.drain_as_plain(self._drain),
        }  # fmt: skip

    def taken_over(self, links: Mapping[str, Any]) -> None:
        """Copy on; hear of what is written."""
        buffer, place = links["copy"]
        self._copy = Copy(self._options, self._source, self._target, buffer, self._dirty)
        self._copy.place = place
        self._drain = None if links["drain"] is None else self.jobs.adopt_drain(links["drain"])
        content = None if self._filter is None else self._filter.content
        self._content = content if isinstance(content, MirrorTop) else MirrorTop(Gone())
        if links["copies"]:
            self._content.copier = self
        for name in links["notes"]:
            self.jobs.graph.nodes[name].bitmaps.insert(0, self._dirty)
        if links["watches"]:
            self._source.watchers.append(self._touched)

    # Asking and changing it

    def query_more(self) -> dict[str, Any]:
        """Whether both sides are written at once."""
        if not self.jobs.behaviour.mirror_tells_synced:
            return {}
        synced = self._copies_at_once and self._synced
        return {"actively-synced": (synced or not self._size) and not self.has_ended}

    def change(self, arguments: dict[str, Any]) -> None:
        """Write to both sides at once from now on.

        :raise Refusal: something else is asked for.
        """
        mode = arguments["copy-mode"]
        if mode == self._options.copy_mode:
            return
        if mode != "write-blocking":
            raise Refusal("mirror-mode", mode=mode)
        self._options.copy_mode = mode
        self._copies_at_once = True


def nothing() -> None:
    """Nothing is to be read or written: the main loop goes round once."""
