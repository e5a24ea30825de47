"""Limits of drives and sizes of nodes: `block_set_io_throttle` and `block_resize` of QAPI module `block-core`.

The rules of the limits are those of QEMU's util/throttle.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.content import text_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.monitor.commands import command
from qmpd.monitor.commands.block import find_drive
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Outcome
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_LARGEST = 10**15
_KINDS = ("bps", "iops")
_WAYS = ("", "_rd", "_wr")
_SECTOR = 512


class _Limits:
    """The limits that a command gives: `average`, `peak` and `burst` (seconds) by kind and way, as in `bps_rd`."""

    def __init__(self, arguments: Arguments) -> None:
        def number(name: str, default: int) -> int:
            # QEMU takes them as unsigned.
            return cast("int", arguments.get(name, default)) & (1 << 64) - 1

        names = [kind + way for kind in _KINDS for way in _WAYS]
        self.average = {name: number(name, 0) for name in names}
        self.peak = {name: number(f"{name}_max", 0) for name in names}
        self.burst = {name: number(f"{name}_max_length", 1) for name in names}
        self.size = number("iops_size", 0)

    def check(self) -> None:
        """:raise CommandError: they do not go together."""
        for limits in (self.average, self.peak):
            for kind in _KINDS:
                if limits[kind] and (limits[f"{kind}_rd"] or limits[f"{kind}_wr"]):
                    raise CommandError(
                        "bps/iops/max total values and read/write values cannot be used at the same time"
                    )
        if self.size and not any(self.average[f"iops{way}"] for way in _WAYS):
            raise CommandError("iops size requires an iops value to be set")
        for name, average in self.average.items():
            peak, burst = self.peak[name], self.burst[name]
            if average > _LARGEST or peak > _LARGEST:
                raise CommandError(f"bps/iops/max values must be within [0, {_LARGEST}]")
            if not burst:
                raise CommandError("the burst length cannot be 0")
            if burst > 1 and not peak:
                raise CommandError("burst length set without burst rate")
            if peak and burst > _LARGEST // peak:
                raise CommandError("burst length too high for this burst rate")
            if peak and not average:
                raise CommandError("bps_max/iops_max require corresponding bps/iops values")
            if peak and peak < average:
                raise CommandError("bps_max/iops_max cannot be lower than bps/iops")

    def shown(self) -> dict[str, Any]:
        """What queries tell of them."""
        shown: dict[str, Any] = dict(self.average)
        for name, peak in self.peak.items():
            if peak:
                shown[f"{name}_max"] = peak
                shown[f"{name}_max_length"] = self.burst[name]
        if self.size:
            shown["iops_size"] = self.size
        return shown


@command("block_set_io_throttle")
def block_set_io_throttle(system: System, session: Client, arguments: Arguments) -> object:
    """Drives of one group have the same limits."""
    drive = find_drive(system, arguments)
    if drive.node is None:
        raise CommandError("Device has no medium")
    limits = _Limits(arguments)
    limits.check()
    if not any(limits.average.values()):
        drive.limits = None
        return EMPTY
    before = "" if drive.limits is None else drive.limits["group"]
    group = arguments.get("group") or before or arguments.get("device") or arguments.get("id")
    drive.limits = {**limits.shown(), "group": group}
    for other in system.inventory.backends.block.drives:
        if other.limits is not None and other.limits["group"] == group:
            other.limits = drive.limits
    return EMPTY


@command("block_resize")
def block_resize(system: System, session: Client, arguments: Arguments) -> object:
    """The file is made larger or smaller, too."""
    inventory = system.inventory
    graph = inventory.backends.block
    device, name = cast("str", arguments.get("device") or ""), cast("str", arguments.get("node-name") or "")
    drive: Drive | None = graph.drive(device)
    node: BlockNode | None = drive.node if drive is not None else graph.nodes.get(name)
    if node is None:
        raise CommandError(inventory.texts("device-or-node-missing", device=device, node=name))
    size = cast("int", arguments["size"])
    if size < 0:
        raise CommandError("Parameter 'size' expects a >0 size")
    if not DRIVERS[node.driver].grows:
        raise CommandError("Image format driver does not support resize")
    if node.driver == "qcow2" and size % _SECTOR:
        raise CommandError("The new size must be a multiple of 512")
    if node.read_only:
        raise CommandError("Image is read-only")
    return in_executor(system, lambda: resized(node, size))


def resized(node: BlockNode, size: int) -> None:
    """Make a node this large.

    :raise OSError, ImageError: it cannot be.
    """
    if node.port is not None:
        node.port.truncate(size)


def in_executor(system: System, work: Callable[[], Any]) -> Deferred:
    """The reply to a command that reads or writes a disk: nothing, once that is done, or why it has failed."""
    outcomes: list[Outcome] = []

    def finish() -> object:
        error = outcomes[0].error
        if error is not None:
            raise CommandError(error.message if isinstance(error, ImageError) else text_of(error))
        return EMPTY

    later = Deferred(finish)

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        later.ready()

    system.disks.executor.do(work, done)
    return later
