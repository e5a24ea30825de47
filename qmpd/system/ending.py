"""The end of a machine: its process ends, and so does what goes on beside the main loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.block.exports.exports import Exports
    from qmpd.block.jobs.jobs import Jobs
    from qmpd.hardware.inventory import Inventory
    from qmpd.qapi import Release
    from qmpd.system.migrations import Migrations

_MOMENT = 0.05
"""Seconds for which the end of a machine waits for its disks before whoever serves it is asked to."""


def are_disks_quiet(inventory: Inventory | None) -> bool:
    """Whether the disks answer; who serves the machine waits for them where they do not (`System.end`)."""
    executor = None if inventory is None else inventory.backends.block.executor
    return executor is None or executor.settle(_MOMENT)


def end_work(
    release: Release, migrations: Migrations | None, exports: Exports | None, jobs: Jobs | None,
    inventory: Inventory | None,
) -> None:  # fmt: skip
    """End migrations, exports and jobs, and have images write what they still keep."""
    if migrations is not None:
        migrations.shut_down()
    last = release.behaviour.exports_end_last
    if exports is not None and not last:
        exports.end_all()
    if jobs is not None:
        jobs.end()
    if exports is not None and last:
        exports.end_all()
    if inventory is not None:
        inventory.backends.block.inactivate()
