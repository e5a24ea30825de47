"""The rules of blockdev-backup and drive-backup, as commands and as actions of a transaction.  (QEMU's blockdev.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.activation import share_activity
from qmpd.block.bitmaps import rules
from qmpd.block.changes import changing, cost_of_opening
from qmpd.block.content import text_of
from qmpd.block.creating import NewImage
from qmpd.block.description import filename_of
from qmpd.block.filenames import of_file, with_defaults
from qmpd.block.images.errors import ImageError
from qmpd.block.jobs import chain
from qmpd.block.jobs.backup import Backup, BackupOptions
from qmpd.block.jobs.states import JobStatus
from qmpd.block.opening import Opener
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    from qmpd.block.jobs.jobs import Drain, Jobs
    from qmpd.block.jobs.transaction import JobTransaction
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps

    Target = Generator[Callable[[], Any], Any, BlockNode]
    """Steps that give a node in the end."""

_WITH_BITMAP = ("bitmap", "incremental")


class StartBackup:
    """Starts a backup to a node that is there (QMP `blockdev-backup`); the source is quiet until all is done."""

    def __init__(self, jobs: Jobs, arguments: Mapping[str, Any], together: JobTransaction | None = None) -> None:
        """`arguments` are the command's; `together`: the jobs that are to end together with this one."""
        self._jobs = jobs
        self._arguments = arguments
        self._together = together
        self._drain: Drain | None = None
        self._job: Backup | None = None

    def prepare(self) -> Steps:
        """Create the job.

        :raise Refusal: it cannot be.
        """
        source = self._source()
        target = None if self._makes_target() else self._jobs.graph.find(str(self._arguments["target"]))
        if target is not None:
            self._jobs.changed_as("backup-start")
        self._drain = self._jobs.begin_drain(source)
        try:
            if target is None:
                target = yield from self._open(source)
                self._jobs.changed_as("backup-start")
            # Whatever becomes of the job, it is there until all is done.
            target.frozen += 1
            try:
                self._create(source, target)
            finally:
                target.frozen -= 1
        except (Refusal, OSError, ImageError):
            if target is None and self._jobs.behaviour.failed_backup_stays_drained:
                self._jobs.leave_drained(self._drain, source)
                self._drain = None
            self.clean()
            raise
        finally:
            if target is not None:
                # A target that was opened for the job goes with it.
                self._jobs.graph.release(target)

    def _makes_target(self) -> bool:
        return False

    def _source(self) -> BlockNode:
        return self._jobs.graph.find(str(self._arguments["device"]))

    def _open(self, source: BlockNode) -> Target:
        raise NotImplementedError

    def _create(self, source: BlockNode, target: BlockNode) -> None:
        options = _options(source, self._arguments)
        options.transaction = self._together
        self._job = Backup(self._jobs, options, source, target)

    def commit(self) -> Steps | None:
        """Start the job."""
        assert self._job is not None
        self._job.start()
        return None

    def abort(self) -> Steps | None:
        """The job is cancelled before it was started."""
        if self._job is not None and self._job.state is not JobStatus.NULL:
            self._job.cancel(force=True)
        return None

    def clean(self) -> None:
        """The source may be used again."""
        if self._drain is not None:
            drain, self._drain = self._drain, None
            self._jobs.end_drain(drain)


class StartDriveBackup(StartBackup):
    """Starts a backup to an image in a file, which is made first, or is there (QMP `drive-backup`)."""

    def __init__(
        self, jobs: Jobs, arguments: Mapping[str, Any], drivers: Collection[str], tell: Callable[[str], None],
        together: JobTransaction | None = None,
    ) -> None:  # fmt: skip
        """`drivers`: those that the release has; `tell` prints that an image is made."""
        super().__init__(jobs, arguments, together)
        self._drivers = drivers
        self._tell = tell
        self._sync = str(arguments["sync"])

    def _makes_target(self) -> bool:
        return True

    def _source(self) -> BlockNode:
        graph, name = self._jobs.graph, str(self._arguments["device"])
        drive = graph.drive(name)
        if drive is not None and drive.node is None:
            raise MachineError(f"Device '{name}' has no medium")
        return super()._source()

    def _open(self, source: BlockNode) -> Target:
        graph, given = self._jobs.graph, self._arguments
        exists = given.get("mode") == "existing"
        kind = given.get("format")
        if kind is None and not exists:
            kind = source.driver
        graph.check_free(source)
        behind = self._behind(source)
        filename = str(given["target"])
        if not exists:
            backing = None if behind is None else filename_of(behind)
            form = None if behind is None else behind.driver
            image = NewImage(filename, str(kind), source.size, self._drivers, backing, form)
            self._tell(image.announcement())
            try:
                yield image.make
            except OSError as error:
                raise MachineError(f"Could not create '{filename}': {text_of(error)}") from None
            if behind is not None and self._sync != "none":
                # QEMU looks at what will be behind it.
                graph.changed(cost_of_opening(is_protocol=False, children=1))
                with changing(graph.blockers):
                    graph.changed()
            image.note(graph)
        if kind is not None and kind not in self._drivers and kind != "raw":
            graph.changed()
            raise Refusal("driver-unknown", driver=kind)
        options = of_file(filename, kind, read_only=False, json_parser=graph.json_parser)
        options = with_defaults(options, {
            "discard": "unmap", "detect-zeroes": "unmap",
            "cache": {"direct": source.direct, "no-flush": source.no_flush},
        })  # fmt: skip
        if self._sync == "none":
            options["backing"] = None
        target = Opener(graph).open(options)
        share_activity(target, source)
        if self._sync == "none":
            try:
                graph.set_backing(target, source)
            except Refusal:
                graph.release(target)
                raise
            graph.changed()
            target.backing_as_recorded = target.recorded_backing == filename_of(source)
        return target

    def _behind(self, source: BlockNode) -> BlockNode | None:
        """What shows through the image that is made."""
        if self._sync == "none":
            return source
        if self._sync != "top":
            return None
        behind = chain.unfiltered(source).children.get("backing")
        if behind is None:
            self._sync = "full"
        return behind

    def _create(self, source: BlockNode, target: BlockNode) -> None:
        self._arguments = {**self._arguments, "sync": self._sync}
        super()._create(source, target)


def _options(source: BlockNode, given: Mapping[str, Any]) -> BackupOptions:
    """What a backup is told.

    :raise Refusal: its modes do not go together.
    """
    sync, bitmap, mode = given["sync"], None, given.get("bitmap-mode")
    name = given.get("bitmap")
    if sync in _WITH_BITMAP and name is None:
        raise Refusal("backup-bitmap-missing", sync=sync)
    if sync == "incremental":
        if mode not in (None, "on-success"):
            raise Refusal("backup-bitmap-mode", mode="on-success", sync=sync)
        sync, mode = "bitmap", "on-success"
    if name is not None:
        bitmap = next((each for each in source.bitmaps if each.name == name), None)
        if bitmap is None:
            raise Refusal("backup-bitmap-unknown", name=name)
        if mode is None:
            raise Refusal("backup-bitmap-mode-missing")
        rules.check(bitmap, rules.BUT_READ_ONLY)
        if sync == "none":
            raise Refusal("backup-bitmap-useless", sync=sync)
        if mode == "never" and sync != "bitmap":
            raise Refusal("backup-bitmap-never", mode=mode, sync=sync)
    elif mode is not None:
        raise Refusal("backup-bitmap-mode-alone")
    speeds = given.get("x-perf") or {}
    return BackupOptions(
        given.get("job-id", next((drive.name for drive in source.drives if drive.name), "")),
        given.get("auto-finalize", True), given.get("auto-dismiss", True), speed=given.get("speed", 0), sync=sync,
        bitmap=bitmap, bitmap_mode=mode or "on-success", compress=bool(given.get("compress")),
        discard_source=bool(given.get("discard-source")), on_source_error=given.get("on-source-error", "report"),
        on_target_error=given.get("on-target-error", "report"), on_cbw_error=given.get("on-cbw-error", ""),
        filter_name=given.get("filter-node-name", ""), ranges=bool(speeds.get("use-copy-range")),
        workers=speeds.get("max-workers", 64), chunk=speeds.get("max-chunk", 0),
        least_cluster=speeds.get("min-cluster-size", 0),
    )  # fmt: skip
