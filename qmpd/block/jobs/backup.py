"""blockdev-backup and drive-backup: a node as it was when the job began is copied to another.  (QEMU's block/backup.c.)

A filter on top of the source copies what is about to be overwritten; the job copies the rest.  What is to be copied,
and what becomes of a dirty bitmap at the end, depend on the modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from qmpd.block.bitmaps import rules
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.content import number_of
from qmpd.block.copying import Copied, Piece, image_of
from qmpd.block.drivers.saving import CopyBeforeWrite
from qmpd.block.files import ALL, RESIZE, WRITE
from qmpd.block.jobs.block_job import BlockJob, BlockOptions, job_user
from qmpd.block.jobs.drains import drains_of
from qmpd.block.jobs.steps import JobFailure, Sleep, Work
from qmpd.block.nodes import Drive
from qmpd.block.placing import put_on, take_out
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from qmpd.block.content import Content
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode

MOST_WORKERS = (1 << 31) - 1
# An error that is ignored is met again after so many nanoseconds, else a virtual clock would stand still.
_AGAIN = 1_000_000
# So many turns of the main loop pass until disks have read and written.
_TURNS = 2


@dataclass(slots=True)
class BackupOptions(BlockOptions):
    """What a backup can be told, by the names of QAPI's BackupCommon.

    `bitmap_mode` tells what becomes of `bitmap`: `on-success`, `never` or `always`.  `ranges`, `workers`, `chunk` and
    `least_cluster` are those of `x-perf`; sizes are in bytes.
    """

    sync: str = "full"
    bitmap: DirtyBitmap | None = None
    bitmap_mode: str = "on-success"
    compress: bool = False
    discard_source: bool = False
    on_source_error: str = "report"
    on_target_error: str = "report"
    on_cbw_error: str = ""
    filter_name: str = ""
    ranges: bool = False
    workers: int = 64
    chunk: int = 0
    least_cluster: int = 0


class _Round(NamedTuple):
    """What came of some pieces: how much was copied, where to go on, and the first error.

    `over`: nothing was left; `moved`: bytes were read and written.
    """

    size: int
    place: int
    result: Copied = Copied()
    over: bool = False
    moved: bool = False


class Backup(BlockJob):
    """One backup of a node `source` to a node `target`."""

    KIND: ClassVar[str] = "backup"
    DRAINS: ClassVar[str] = "backup"

    __slots__ = (
        "_copier",
        "_filter",
        "_is_chosen",
        "_is_created",
        "_keeps",
        "_kept",
        "_options",
        "_place",
        "_source",
        "_target",
    )

    def __init__(self, jobs: Home, options: BackupOptions, source: BlockNode, target: BlockNode) -> None:
        """It is created.

        :raise Refusal: it cannot be.
        """
        self._options = options
        self._source, self._target = source, target
        self._filter: BlockNode | None = None
        self._place = 0
        self._keeps = jobs.behaviour.backup_keeps_nodes
        self._kept: Drive | None = None
        # Whether all of it could be created.
        self._is_created = False
        # Whether it is known what is to be copied.
        self._is_chosen = False
        _check(jobs, options, source, target)
        if options.bitmap is not None:
            rules.freeze(source, options.bitmap)
        try:
            if source.virtual_size != target.virtual_size:
                raise Refusal("backup-sizes")
            self._filter = self._put_filter(jobs)
            self._filter.frozen += 1
            self._copier = cast("CopyBeforeWrite", self._filter.content).copier
            if options.chunk and options.chunk < self._copier.cluster:
                raise Refusal("backup-chunk-small", chunk=options.chunk, cluster=self._copier.cluster)
            super().__init__(jobs, options, self._filter, self._filter)
        except Refusal:
            self._let_go(jobs)
            raise
        jobs.join_drains(self, source)
        self.add_node(target)
        self.paths = [("read", source), ("write", target)]
        self._copier.compress = options.compress
        self._copier.discards_source = options.discard_source
        try:
            self.hold(target, "target")
        except Refusal:
            self.give_up()
            raise
        self._is_created = True

    def cancels(self, *, force: bool) -> bool:
        """It ends at once, whether or not its target can be reached."""
        self.stop_waiting(self._target)
        return super().cancels(force=force)

    def _put_filter(self, jobs: Home) -> BlockNode:
        options: dict[str, Any] = {}
        if self._options.on_cbw_error:
            options["on-cbw-error"] = self._options.on_cbw_error
        if self._options.least_cluster:
            options["min-cluster-size"] = self._options.least_cluster
        graph, target = jobs.graph, self._target

        def make(above: BlockNode) -> Content:
            above.children["target"] = target
            target.parents.append(above)
            return CopyBeforeWrite(above, graph)

        name = self._options.filter_name
        try:
            above = put_on(graph, self._source, jobs.behaviour.backup_filter, "file", make, name, options)
            # Queries show it, whether or not it was given a name.
            above.implicit = False
            return above
        except Refusal:
            target.parents[:] = [each for each in target.parents if each.name in graph.nodes]
            raise

    def blocks(self, node: BlockNode) -> bool:
        """Nobody else may change its own node either."""
        return node is self._filter or super().blocks(node)

    def quiet_nodes(self) -> list[BlockNode]:
        """The source is quiet only if its filter is."""
        return [*self.nodes, self._source]

    def _let_go(self, jobs: Home) -> None:
        """Take the filter out, and let the bitmap be used again."""
        if self._filter is not None:
            above, self._filter = self._filter, None
            above.frozen -= 1
            # Something may have been put between the two meanwhile.
            below = above.children["file"]
            if self._is_created:
                jobs.drain(below, drains_of(jobs.behaviour.job_drains, "backup-node").ended)
            if self._keeps and self._use is not None:
                # Its user is as any other.
                self._use.stays = False
            take_out(jobs.graph, above, below, keeps=False)
        if self._is_created and not (self._keeps and self.is_started):
            self.nodes.clear()
        bitmap = self._options.bitmap
        if bitmap is not None and bitmap.successor is not None:
            rules.thaw(self._source, bitmap)

    # Its work

    def run(self) -> Steps:
        """Copy what is to be copied; without a background of its own, wait until it is cancelled."""
        options, copier = self._options, self._copier
        self._is_begun = True
        if options.sync == "bitmap" and not self._is_chosen:
            assert options.bitmap is not None
            copier.bitmap.take()
            copier.bitmap.merge(options.bitmap)
        if options.sync == "top" and copier.size and not self._is_chosen:
            yield from self.pause_point()
            outcome = yield Work(copier.forget_unallocated)
            if outcome.error is not None:
                raise outcome.error
        self._is_chosen = True
        if options.sync == "none":
            while not self.is_cancelled:
                if not self.pause_count:
                    yield Sleep(None)
                yield from self.pause_point()
        else:
            yield from self._copy()

    def _copy(self) -> Steps:
        in_clusters = self.jobs.behaviour.backup_copies_clusters
        while self._copier.left:
            if in_clusters:
                yield from self.rest()
            else:
                yield from self.pause_point()
                delay = max(self.limit.delay(self.jobs.now()), self.held_up())
                if delay and not self.is_cancelled:
                    yield from self.sleep(delay)
                    continue
            if self.is_cancelled:
                return
            self._note()
            most = self.most(self._copier.end)
            work = partial(self._round, self._place, most, in_clusters=in_clusters)
            outcome = yield Work(work, counts=lambda done: cast("_Round", done).size)
            yield from self.pause_point()
            done: _Round = outcome.value
            if outcome.error is not None:
                done = _Round(0, self._place, Copied(number_of(outcome.error), reading=True))
            if done.moved and not done.result.error:
                # Who has to wait for disks ends after who has not; of several the newest most often ends first.
                for _ in range(_TURNS * (1 + self.jobs.newer(self))):
                    if (yield from self._turn()):
                        break
            self._place = 0 if done.over else done.place
            self.count(done.size)
            if done.result.error:
                self._place = 0
                if not in_clusters and (yield from self._looks_later(done.place)):
                    continue
                yield from self._failed(done.result)

    def _looks_later(self, place: int) -> Generator[Sleep | Work, Any, bool]:
        """Wait for the limit of speed, if more is to be copied: only then is it seen that a piece has failed.

        Whether that is forgotten, because a pause has come between, or an end.
        """
        delay = self.limit.delay(self.jobs.now())
        if not delay or self._copier.bitmap.dirty_area(place, self._copier.end, self._copier.cluster) is None:
            return False
        if not self.pause_count and not self.is_cancelled:
            yield Sleep(delay)
        forgotten = self.pause_count > 0 or self.is_cancelled
        yield from self.pause_point()
        return forgotten

    def _turn(self) -> Generator[Sleep | Work, Any, bool]:
        """Wait for the main loop's next turn; whether a pause has come instead, which waits for the disks."""
        self.jobs.next_turn(lambda: None if self.paused else self.wake())
        if not self.pause_count:
            yield Sleep(None)
        paused = self.pause_count > 0
        yield from self.pause_point()
        return paused

    def _failed(self, result: Copied) -> Steps:
        policy = self._options.on_source_error if result.reading else self._options.on_target_error
        action = self.met_error(policy, result.error, reading=result.reading)
        if action == "report":
            raise JobFailure(result.error)
        if action == "ignore":
            yield from self.sleep(_AGAIN)

    def _round(self, start: int, most: int, *, in_clusters: bool) -> _Round:
        """Copy as many pieces as are under way at once, of `most` bytes or little more; in a thread of the disks.

        After an error those that are under way go on, but no others are begun.
        """
        copier, options = self._copier, self._options
        chunk = copier.cluster if in_clusters else copier.chunk(options.chunk, ranges=options.ranges)
        size, place, over = 0, start, False
        results: list[Copied] = []
        pieces: list[Piece] = []
        for _ in range(1 if self.speed else options.workers):
            left = max((most - size) // copier.cluster, 1) * copier.cluster
            piece = copier.claim(place, copier.end, min(chunk, left))
            if piece is None:
                over = True
                break
            place, size = piece.offset + piece.length, size + piece.length
            pieces.append(piece)
            if in_clusters:
                results.append(copier.copy(pieces.pop()))
            if size >= most or (results and results[-1].error):
                break
        # All are begun at once: what has to be read first is written after what need not be.
        results += [copier.copy(piece) for piece in sorted(pieces, key=lambda each: not each.is_zero)]
        failed = next((each for each in results if each.error), Copied())
        return _Round(size, place, failed, over=over, moved=any(each.moved for each in results))

    # Another process

    def links(self) -> dict[str, Any]:
        """How far its filter has copied, and what was written meanwhile."""
        bitmap = self._options.bitmap
        successor = None if bitmap is None else bitmap.successor
        return {
            "copied": None if self._filter is None else self._copier.copied,
            "successor": None if successor is None else successor.snapshot(),
        }

    def taken_over(self, links: Mapping[str, Any]) -> None:
        """Copy on with the filter that is there."""
        options = self._options
        if self._filter is not None:
            self._copier = cast("CopyBeforeWrite", self._filter.content).copier
            self._copier.copied = links["copied"]
            self._copier.compress, self._copier.discards_source = options.compress, options.discard_source
        if options.bitmap is not None and links["successor"] is not None:
            options.bitmap.successor = DirtyBitmap.restore(links["successor"])
            options.bitmap.successor.carried = False
            self._source.bitmaps.insert(0, options.bitmap.successor)

    # Progress

    def _note(self) -> None:
        if self._is_begun and self._filter is not None:
            self.done, self.left = self._copier.copied, self._copier.left

    def _about(self) -> dict[str, Any]:
        self._note()
        return super()._about()

    def query(self) -> dict[str, Any]:
        """What `query-jobs` tells of it."""
        self._note()
        return super().query()

    def query_block(self) -> dict[str, Any]:
        """What `query-block-jobs` tells of it."""
        self._note()
        return super().query_block()

    # Its end

    def commit(self) -> None:
        """The bitmap begins anew, unless it is to stay."""
        self._finish_bitmap(succeeded=True)

    def abort(self) -> None:
        """The bitmap has all that it had, or what was not copied."""
        self._finish_bitmap(succeeded=False)

    def _finish_bitmap(self, *, succeeded: bool) -> None:
        bitmap, mode = self._options.bitmap, self._options.bitmap_mode
        if bitmap is None or bitmap.successor is None:
            return
        if mode == "never" or not (succeeded or mode == "always"):
            rules.thaw(self._source, bitmap)
            return
        successor = rules.succeed(self._source, bitmap)
        if not succeeded:
            successor.merge(self._copier.bitmap)

    def clean(self) -> None:
        """Take the filter out."""
        if self._is_created:
            self._note()
        if self._keeps and self.is_started:
            # The filter is out of the way, but still has it.
            self._kept = job_user(self._target, WRITE, ALL & ~RESIZE)
            self._kept.is_job = True
            self._target.drives.append(self._kept)
        if not self._keeps:
            self.let_go_holds()
        self._let_go(self.jobs)
        super().clean()

    def gone(self) -> None:
        """Let go of the target where it was kept until now."""
        super().gone()
        self.nodes.clear()
        if self._kept is not None:
            self.jobs.graph.empty(self._kept)



def _check(jobs: Home, options: BackupOptions, source: BlockNode, target: BlockNode) -> None:
    """Refuse what cannot be backed up so.

    :raise Refusal: it cannot.
    """
    graph = jobs.graph
    if source is target:
        raise Refusal("backup-same")
    if options.compress and image_of(target) is None:
        raise Refusal("backup-compress", name=next((each.name for each in target.drives if each.name), ""))
    graph.check_free(source)
    graph.check_free(target)
    if not 1 <= options.workers <= MOST_WORKERS:
        raise Refusal("backup-workers", most=MOST_WORKERS)
    if options.chunk < 0:
        raise Refusal("backup-chunk")
    if options.bitmap is not None:
        rules.check(options.bitmap, rules.ALL if options.bitmap_mode != "never" else rules.BUT_READ_ONLY)
