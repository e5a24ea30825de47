"""What jobs ask of a release."""

from __future__ import annotations

from typing import Protocol


class JobBehaviour(Protocol):
    """The fields that jobs read of a release's behaviour (`qmpd.qapi` loads them; each is explained there)."""

    @property
    def job_completes_in_standby(self) -> bool:
        """`job-complete` is taken in `standby`, and takes effect at the resume."""

    @property
    def job_pause_wakes(self) -> bool:
        """A job that sleeps is woken to be paused; false: it is paused when it wakes by itself."""

    @property
    def job_rests_whole(self) -> bool:
        """A job that is woken early goes on sleeping until its limit of speed lets it go on."""

    @property
    def job_soft_cancel_completes(self) -> bool:
        """At the end of the process a job that is ready is completed; false: all are cancelled."""

    @property
    def job_drains_at_end(self) -> int:
        """How often the disks are drained at the end of the process; jobs are cancelled in the last of these drains."""

    @property
    def graph_change_drains(self) -> str:
        """Whether a change of the graph drains all disks: `none`, `each`, or the `whole` of what belongs together."""

    @property
    def backup_keeps_nodes(self) -> bool:
        """A backup that is over keeps its target until it is dismissed."""

    @property
    def failed_backup_stays_drained(self) -> bool:
        """A drive-backup whose target could not be made or opened leaves its source drained."""

    @property
    def backup_filter(self) -> str:
        """The driver of the node that a backup puts on top of its source."""

    @property
    def backup_copies_clusters(self) -> bool:
        """A backup copies one cluster after another, each after its limit of speed."""

    @property
    def stream_has_filter(self) -> bool:
        """A stream puts a copy-on-read node on top of its image."""

    @property
    def stream_filter_keeps_child(self) -> bool:
        """The node of a stream that is over has the image below it until the job is dismissed."""

    @property
    def mirror_watches_source(self) -> bool:
        """A mirror sees what is written straight to its source, below its own node."""

    @property
    def mirror_tells_sizes(self) -> bool:
        """A mirror onto a target of another size tells of that; false: it fails with `Invalid argument`."""

    @property
    def mirror_tells_synced(self) -> bool:
        """`query-block-jobs` tells of a mirror whether both sides are written at once."""

    @property
    def mirror_reads_source(self) -> bool:
        """A mirror's node passes on that its source is read; false: it only writes there."""

    @property
    def mirror_fails_early(self) -> bool:
        """A mirror tells what it cannot read before its command is answered."""

    @property
    def job_uses_node(self) -> bool:
        """A block job counts as a user of its node, and a mirror's own node is there until it is dismissed."""

    @property
    def job_create_waits(self) -> bool:
        """`blockdev-create` is answered before anything of it is looked at."""

    @property
    def vmdk_names_tools(self) -> bool:
        """The description of a vmdk image that is made names VMware's tools."""

    @property
    def job_drains(self) -> str:
        """How often jobs make QEMU drain all disks (`qmpd.block.jobs.drains`)."""

    @property
    def job_created_in_drain(self) -> bool:
        """A block job is created while all disks are drained."""

    @property
    def mirror_looks_for_zeros(self) -> bool:
        """A mirror looks whether its target is all zeros already."""
