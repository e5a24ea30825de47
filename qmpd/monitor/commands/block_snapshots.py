"""Snapshots of disks: a part of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.disk_snapshots import Delete, Take
from qmpd.block.overlays import NewOverlay, Overlay
from qmpd.monitor.commands.carrying import carried_out
from qmpd.monitor.registry import command

if TYPE_CHECKING:

    from qmpd.block.graph import BlockGraph
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _graph(system: System) -> BlockGraph:
    return system.inventory.backends.block


def overlay(system: System, arguments: Arguments) -> Overlay:
    """The action that puts a node on top of another."""
    return Overlay(_graph(system), arguments)


def new_overlay(system: System, arguments: Arguments) -> NewOverlay:
    """The action that makes an image, and puts it on top of a node."""
    drivers = system.release.command_line.choices("block-drivers")
    return NewOverlay(_graph(system), arguments, drivers, system.print)


def internal_snapshot(system: System, arguments: Arguments) -> Take:
    """The action that takes an internal snapshot."""
    machine = system.machine
    return Take(_graph(system), arguments, machine.clock.wall_microseconds(), machine.schedule.now())


@command("blockdev-snapshot")
def blockdev_snapshot(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [overlay(system, arguments)], drains=True)


@command("blockdev-snapshot-sync")
def blockdev_snapshot_sync(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [new_overlay(system, arguments)], drains=True)


@command("blockdev-snapshot-internal-sync")
def blockdev_snapshot_internal_sync(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [internal_snapshot(system, arguments)], drains=True)


@command("blockdev-snapshot-delete-internal-sync")
def blockdev_snapshot_delete_internal_sync(system: System, session: Client, arguments: Arguments) -> object:
    action = Delete(_graph(system), arguments)

    def told() -> object:
        assert action.deleted is not None
        return action.deleted.describe()

    return carried_out(system, [action], told)
