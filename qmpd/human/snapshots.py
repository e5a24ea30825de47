"""The human monitor's commands for snapshots of the whole machine, and the list of them."""

from __future__ import annotations

import time
from math import frexp
from typing import TYPE_CHECKING, NamedTuple, cast

from qmpd.block.disk_snapshots import find, snapshots_of
from qmpd.block.machine_snapshots import Disks
from qmpd.common.refusals import Refusal
from qmpd.monitor.commands.carrying import carried_out
from qmpd.system import whole_snapshots
from qmpd.system.whole_snapshots import Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.images.qcow2.snapshot_table import Snapshot
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SECOND = 1_000_000_000


class Columns(NamedTuple):
    """How the list is laid out: a line, the names of the columns, the machine's time, and what stands for no count."""

    line: str
    names: tuple[str, ...]
    clock: str
    uncounted: str


COLUMNS = {
    "classic": Columns(
        "{:<9} {:<16} {:>8}{:>20}{:>13}{:>11}", ("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"),
        "{:02}:{:02}:{:02}.{:03}", "",
    ),
    "wide": Columns(
        "{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}", ("ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"),
        "{:04}:{:02}:{:02}.{:03}", "--",
    ),
}  # fmt: skip
"""By the release's behaviour `snapshot_columns`."""


def _begin(system: System, steps: Steps, value: Callable[[], str] = lambda: "") -> str | Deferred:
    return cast("str | Deferred", carried_out(system, [Whole(steps)], value))


def _save(system: System, line: Line) -> str | Deferred:
    name = line.word()
    line.end()
    return _begin(system, whole_snapshots.save(system, name, replace=True))


def _load(system: System, line: Line) -> str | Deferred:
    name = line.required()
    line.end()
    said: list[str] = []

    def refused(refusal: Refusal) -> str:
        told = "".join(f"{each}\n" for each in said)
        return f"{told}Error: {system.release.refusals.message(refusal)}\n"

    try:
        began = _begin(system, whole_snapshots.load_and_go_on(system, name, tell=said.append))
    except Refusal as refusal:
        return refused(refusal)
    return began if isinstance(began, str) else began.refused_as(refused)


def _delete(system: System, line: Line) -> str | Deferred:
    name = line.required()
    line.end()
    return _begin(system, whole_snapshots.delete(system, name))


# The list


class _Listed:
    """The snapshots of all disks, as they were read."""

    def __init__(self) -> None:
        self.of_state: list[Snapshot] = []
        self.of_disk: list[tuple[BlockNode, list[Snapshot]]] = []
        self.on_all = True

    def read(self, disks: Disks, first: BlockNode) -> None:
        self.of_state = snapshots_of(first)
        self.on_all = len(disks.able) == len(disks.nodes)
        self.of_disk = [(node, snapshots_of(node)) for node in disks.able]


def info_snapshots(system: System, line: Line) -> str | Deferred:
    """Which snapshots there are: those of all disks, which can be loaded, and those of some."""
    line.end()
    behaviour = system.release.behaviour
    disks = Disks(
        system.inventory.backends.block, check=False, active=behaviour.snapshot_needs_active,
        only_later=behaviour.snapshots_skip_earlier,
    )  # fmt: skip
    try:
        first = disks.of_state(None, "snapshot-no-device-list")
    except Refusal as refusal:
        if behaviour.snapshot_list_marked:
            raise
        return f"{system.release.refusals.message(refusal)}\n"
    listed = _Listed()

    def steps() -> Steps:
        yield lambda: listed.read(disks, first)

    return _begin(system, steps(), lambda: _told(system, listed))


def _told(system: System, listed: _Listed) -> str:
    columns = COLUMNS[system.release.behaviour.snapshot_columns]
    if not any(kept for _, kept in listed.of_disk):
        return "There is no snapshot available.\n"
    may_be_on_all = listed.on_all or system.release.behaviour.snapshots_everywhere_of_able
    everywhere = [
        each for each in listed.of_state
        if may_be_on_all and all(find(kept, each.name) is not None for _, kept in listed.of_disk)
    ]  # fmt: skip
    head = f"{columns.line.format(*columns.names)}\n"
    said = "List of snapshots present on all disks:\n"
    # Their ids need not be the same on all disks.
    said += head + "".join(_line(each, "--", columns) for each in everywhere) if everywhere else "None\n"
    names = {each.name for each in everywhere}
    for node, kept in listed.of_disk:
        partial = [each for each in kept if each.name not in names]
        if partial:
            said += f"\nList of partial (non-loadable) snapshots on '{_device(node)}':\n{head}"
            said += "".join(_line(each, each.identifier, columns) for each in partial)
    return said


def _device(node: BlockNode) -> str:
    """The drive that a node is in; empty where it has no name."""
    return next((drive.name for drive in node.drives if drive.name), "")


def _line(snapshot: Snapshot, identifier: str, columns: Columns) -> str:
    return snapshot_line(
        columns, identifier, snapshot.name, snapshot.state_size, snapshot.seconds, snapshot.clock, snapshot.instructions
    )


def snapshot_line(
    columns: Columns, identifier: str, name: str, size: int, date: int, clock: int, instructions: int | None
) -> str:
    """A line of a list of snapshots: sizes in bytes, the date in seconds, the machine's clock in nanoseconds."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(date))
    seconds, rest = divmod(clock, _SECOND)
    time_told = columns.clock.format(seconds // 3600, seconds // 60 % 60, seconds % 60, rest // 1_000_000)
    counted = columns.uncounted if instructions is None else str(instructions)
    return columns.line.format(identifier, name, size_text(size), shown, time_told, counted) + "\n"


def size_text(size: int) -> str:
    """A size as QEMU tells it to people: three digits and a unit (`size_to_str`)."""
    exponent = frexp(size / (1000 / 1024))[1] if size else 0
    unit = max((exponent - 1) // 10, 0)
    return f"{size / (1 << 10 * unit):.3g} {_UNITS[unit]}B"


PARTS: dict[str, Part] = {"savevm": _save, "loadvm": _load, "delvm": _delete}
"""The commands, by their names."""
MEANINGS = {
    "savevm": "[NAME] -- take a snapshot of the whole machine",
    "loadvm": "NAME -- go back to one",
    "delvm": "NAME -- delete one",
}
