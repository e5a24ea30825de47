"""Limits of drives, sizes of nodes, and how long requests take: of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.accounting import is_histogram
from qmpd.block.blockers import in_front_of
from qmpd.block.content import text_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.limits import Limits, check_size
from qmpd.block.nodes import Drive
from qmpd.common.refusals import Refusal
from qmpd.monitor.commands.block import find_drive
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Outcome
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_SECTOR = 512


# How the command's arguments name the ways.
_ENDINGS = {"total": "", "read": "_rd", "write": "_wr"}


def _limits(arguments: Arguments) -> Limits:
    """The limits that a command gives, as in `bps_rd` and `bps_rd_max`; QEMU takes them as unsigned."""

    def read(unit: str, way: str, part: str) -> int | None:
        ending = f"_{part.replace('-', '_')}" if part else ""
        value = arguments.get(f"{unit}{_ENDINGS[way]}{ending}")
        return None if value is None else cast("int", value) & (1 << 64) - 1

    return Limits(read, cast("int", arguments.get("iops_size", 0)) & (1 << 64) - 1)


def _shown(limits: Limits) -> dict[str, Any]:
    """What queries tell of limits."""
    shown: dict[str, Any] = {f"{unit}{_ENDINGS[way]}": value for (unit, way), value in limits.average.items()}
    for (unit, way), peak in limits.peak.items():
        if peak:
            name = f"{unit}{_ENDINGS[way]}_max"
            shown[name] = peak
            shown[f"{name}_length"] = limits.burst[unit, way]
    if limits.size:
        shown["iops_size"] = limits.size
    return shown


@command("block_set_io_throttle")
def block_set_io_throttle(system: System, session: Client, arguments: Arguments) -> object:
    """Drives of one group have the same limits."""
    drive = find_drive(system, arguments)
    if drive.node is None:
        raise CommandError("Device has no medium")
    limits = _limits(arguments)
    limits.check()
    if not any(limits.average.values()):
        drive.limits = None
        return EMPTY
    before = "" if drive.limits is None else drive.limits["group"]
    group = arguments.get("group") or before or arguments.get("device") or arguments.get("id")
    drive.limits = {**_shown(limits), "group": group}
    for other in system.inventory.backends.block.drives:
        if other.limits is not None and other.limits["group"] == group:
            other.limits = drive.limits
    return EMPTY


# The account's kinds of requests, in the order in which their histograms are set, and whose boundaries are their own.
_HISTOGRAMS = (
    ("rd", "boundaries-read", "read"), ("wr", "boundaries-write", "write"),
    ("zone_append", "boundaries-zap", "append write"), ("flush", "boundaries-flush", "flush"),
)  # fmt: skip


@command("block-latency-histogram-set")
def block_latency_histogram_set(system: System, session: Client, arguments: Arguments) -> object:
    """Those before one that cannot be are set all the same."""
    drive = find_drive(system, {"id": arguments["id"]})
    common = arguments.get("boundaries")
    if common is None and all(arguments.get(name) is None for name in ("boundaries-read", "boundaries-write",
                                                                       "boundaries-flush")):  # fmt: skip
        drive.histograms.clear()
        return EMPTY
    declared = system.release.introspection
    taken = {each.name for each in declared.object(declared.command("block-latency-histogram-set").arguments).members}
    for kind, name, called in _HISTOGRAMS:
        if name not in taken:
            continue
        boundaries = cast("list[int] | None", arguments.get(name, common))
        if boundaries is None:
            continue
        if not is_histogram(boundaries) or not (boundaries or system.release.behaviour.latency_boundaries_may_be_none):
            raise CommandError(f"Device '{arguments['id']}' set {called} boundaries fail")
        drive.histograms[kind] = [list(boundaries), [0] * (len(boundaries) + 1)]
    return EMPTY


@command("block_resize")
def block_resize(system: System, session: Client, arguments: Arguments) -> object:
    """The file is made larger or smaller, too."""
    inventory = system.inventory
    graph = inventory.backends.block
    device, name = cast("str", arguments.get("device") or ""), cast("str", arguments.get("node-name") or "")
    node = graph.look_up(device, name)
    size = cast("int", arguments["size"])
    if size < 0:
        raise CommandError("Parameter 'size' expects a >0 size")
    if graph.is_busy(node):
        raise Refusal("resize-busy", device=device or "(null)", node=node.name, type=graph.is_busy(node))
    parent = in_front_of(node)
    if parent is not None:
        raise Refusal("resize-behind", device=device or "(null)", node=node.called, parent=parent.name)
    resizer = Drive("", node=node, resizes=True)
    graph.changed()
    graph.use(resizer)

    def leave() -> None:
        graph.changed()
        graph.empty(resizer)

    try:
        _check_resizable(node, size)
    except Refusal:
        leave()
        raise
    return in_executor(system, lambda: resized(node, size), leave)


def _check_resizable(node: BlockNode, size: int) -> None:
    check_size(size)
    at: BlockNode | None = node
    while at is not None:
        driver = DRIVERS[at.driver]
        if not driver.grows:
            raise CommandError("Image format driver does not support resize")
        at = at.children.get(driver.first) if driver.is_filter or at.driver == "raw" else None
    if node.driver == "qcow2" and size % _SECTOR:
        raise CommandError("The new size must be a multiple of 512")
    if node.read_only:
        raise CommandError("Image is read-only")
    if node.bitmaps:
        from qmpd.block.bitmaps.rules import check_resize

        check_resize(node)


def resized(node: BlockNode, size: int) -> None:
    """Make a node this large.

    :raise OSError, ImageError: it cannot be.
    """
    if node.port is not None:
        node.port.truncate(size)


def in_executor(system: System, work: Callable[[], Any], after: Callable[[], None] | None = None) -> Deferred:
    """The reply to a command that reads or writes a disk: nothing, once that is done, or why it has failed.

    `after` is called in the main loop then.
    """
    outcomes: list[Outcome] = []

    def finish() -> object:
        error = outcomes[0].error
        if error is not None:
            raise CommandError(error.message if isinstance(error, ImageError) else text_of(error))
        return EMPTY

    later = Deferred(finish)

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if after is not None:
            after()
        later.ready()

    system.disks.executor.do(work, done)
    return later
