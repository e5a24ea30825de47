"""Drives: what `-drive` and `drive_add` make of their options, a node of its own in a drive that has the id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.accounting import from_options
from qmpd.block.drive_options import limits, node_options, writeback
from qmpd.block.nodes import Drive
from qmpd.block.values import is_on
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.hardware.inventory import Inventory


def add_drive(inventory: Inventory, given: Mapping[str, Any], *, hot: bool = False) -> None:
    """Add a drive.

    :raise NotModelled: what would be in it is not; the drive is there all the same, unless it is `hot`.
    :raise Refusal: it is refused.
    """
    block = inventory.backends.block
    drive = Drive(given.get("id") or block.new_drive_name(given.get("if", "ide")), removable=True)
    drive.werror, drive.rerror = given.get("werror", "auto"), given.get("rerror", "auto")
    if "place" in given:
        bus, unit = map(int, given["place"].split(","))
        drive.place = (given["if"], bus, unit)
    drive.writeback = writeback(given)
    drive.limits = limits(given, drive.name)
    if drive.limits is not None:
        # Those of a group have what was told last.
        for other in block.drives:
            if other.limits is not None and other.limits["group"] == drive.limits["group"]:
                other.limits = drive.limits
    unmodelled: NotModelled | None = None
    try:
        node = _open(block, given)
        if node is not None:
            # The account of a drive that begins without a disk is kept as it is without options.
            drive.accounting = from_options(given)
            block.changed()
            block.insert(drive, node)
    except NotModelled as error:
        if hot:
            raise
        unmodelled = error
        drive.unmodelled = True
    if drive.name in block.nodes:
        raise MachineError(f"Device name '{drive.name}' conflicts with an existing node name")
    block.drives.append(drive)
    if unmodelled is not None:
        raise unmodelled


def _open(block: BlockGraph, given: Mapping[str, Any]) -> BlockNode | None:
    """Open what is said to be in a drive; None where nothing is."""
    options = node_options(given, block.json_parser)
    if options is None:
        return None
    # With it come the formats of images, which a machine without disks does without.
    from qmpd.block.opening import Opener

    # Here it may be told to unmap what nothing is told to discard.
    zeroes = options.pop("detect-zeroes", "off")
    read_only = bool(options["read-only"])
    if is_on(given.get("snapshot", "off")):
        from qmpd.block.temporary import as_backing, put_over

        below = Opener(block).open(as_backing(options))
        try:
            node = put_over(block, below, read_only=read_only)
        except Refusal:
            block.release(below, always=True)
            raise
    else:
        node = Opener(block).open(options)
    node.detect_zeroes = zeroes
    node.copy_on_read = is_on(given.get("copy-on-read", "off")) and not read_only
    return node
