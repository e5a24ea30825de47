"""Backups: a part of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.jobs.backup_actions import StartBackup, StartDriveBackup
from qmpd.monitor.commands.carrying import carried_out
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from qmpd.block.jobs.transaction import JobTransaction
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def backup(system: System, arguments: Arguments, together: JobTransaction | None = None) -> StartBackup:
    """The action that starts a backup to a node."""
    return StartBackup(system.jobs, arguments, together)


def drive_backup(system: System, arguments: Arguments, together: JobTransaction | None = None) -> StartBackup:
    """The action that starts a backup to a file."""
    drivers = system.release.command_line.choices("block-drivers")
    return StartDriveBackup(system.jobs, arguments, drivers, system.print, together)


@command("blockdev-backup")
def blockdev_backup(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [backup(system, arguments)], drains=True)


@command("drive-backup")
def drive_backup_command(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [drive_backup(system, arguments)], drains=True)
