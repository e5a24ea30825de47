"""The exports of a machine, and what they bring about in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.block.exports.exports import Exports, Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import Machine
    from qmpd.qapi import Release
    from qmpd.system.disks import Disks

    class System(Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        @property
        def machine(self) -> Machine:
            """Its run-state core."""

        @property
        def release(self) -> Release:
            """What it is like."""

        @property
        def inventory(self) -> Inventory:
            """What it consists of."""

        @property
        def disks(self) -> Disks:
            """Its disks."""


class ExportsHome:
    """The machine, as its exports see it (`qmpd.block.exports.exports.Home`)."""

    def __init__(self, system: System) -> None:
        self._system = system

    def export_deleted(self, identifier: str) -> None:
        """Tell that an export has ended."""
        self._system.machine.emit("BLOCK_EXPORT_DELETED", {"id": identifier})

    def later(self, action: Callable[[], None]) -> None:
        """Do something once the command's reply is out."""
        self._system.machine.later(action)

    def settle(self) -> None:
        """Wait until what is read and written is done, for a while."""
        self._system.disks.executor.settle()


def make_exports(system: System) -> Exports:
    """The exports of a machine that has none yet."""
    behaviour = system.release.behaviour
    rules = Rules(
        behaviour.exports_deleted_after_reply,
        behaviour.newest_exports_end_first,
        behaviour.writable_exports_shared,
    )
    return Exports(system.inventory.backends.block, ExportsHome(system), rules)
