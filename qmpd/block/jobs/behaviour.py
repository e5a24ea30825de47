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
    def job_drains_in_one(self) -> bool:
        """Stopping the machine drains its disks, and so pauses its jobs for a moment."""

    @property
    def stream_has_filter(self) -> bool:
        """A stream puts a copy-on-read node on top of its image."""
