"""`info` of qemu-io: what a node's format tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.description import cluster_of, describe
from qmpd.block.drivers.table import DRIVERS, FOREIGN
from qmpd.human.blocks import members
from qmpd.human.qemu_io_words import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.nodes import BlockNode

_FILES = ("file", "host_device", "host_cdrom")


def told_of(node: BlockNode, say: Callable[[str], None], *, headed: bool) -> str:
    """Print what is known of a node with `say`; gives what the monitor tells, with its heading where it is `headed`."""
    say(f"format name: {node.driver}\n")
    if DRIVERS[node.driver].is_protocol and node.driver != "quorum":
        # Of those that QEMU knows by the name nbd it is the last.
        say(f"format name: {'nbd+unix' if node.driver == 'nbd' else node.driver}\n")
    teller = _teller(node)
    if teller is None:
        return ""
    say(f"cluster size: {size(cluster_of(node) or 0)}\n")
    say(f"vm state offset: {size(_state_offset(teller))}\n")
    specific = describe(node).get("format-specific", {}).get("data")
    if not specific:
        return ""
    heading = "Format specific information:\n"
    if not headed:
        say(heading)
        heading = ""
    return heading + "".join(f"{line}\n" for line in members(specific, 1))


def _teller(node: BlockNode) -> BlockNode | None:
    """The node that tells how large a node's clusters are; None where none does."""
    at: BlockNode | None = node
    while at is not None and at.driver not in ("qcow2", "qed", *FOREIGN, *_FILES):
        passes = DRIVERS[at.driver].is_filter or at.driver in ("raw", "luks")
        at = at.children.get("raw" if at.driver == "blkverify" else DRIVERS[at.driver].first) if passes else None
    return at


def _state_offset(node: BlockNode) -> int:
    """Where an image has the state of machines: behind all that its tables have room for anyway."""
    if node.driver != "qcow2":
        return 0
    header = node.content.header  # type: ignore[union-attr]
    room = header.cluster_size * (header.cluster_size // (16 if header.extended else 8))
    return int(-(-header.size // room) * room)
