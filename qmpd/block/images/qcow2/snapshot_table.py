"""The table of internal snapshots in an image."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import check_table, write_header
from qmpd.block.images.qcow2.mapping import Mapping

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.reading import ReadImage


_AT_ONCE = 65536
"""Bytes of the table that are read at once."""


@dataclass(slots=True)
class Snapshot:
    """One snapshot.  Times are of the computer's clock, but `clock`, which is the machine's, in nanoseconds.

    `state_size` is how many bytes the machine's state takes, `disk_size` how large the guest's disk was.
    `instructions` is None where nobody counted them.
    """

    identifier: str
    name: str
    l1_offset: int
    l1_size: int
    seconds: int
    nanoseconds: int
    clock: int
    state_size: int
    disk_size: int
    instructions: int | None = None
    unknown: bytes = b""

    def describe(self, *, large_state: bool = True) -> dict[str, Any]:
        """The snapshot as QAPI's SnapshotInfo, its members in the order in which QEMU puts them in."""
        shown: dict[str, Any] = {
            "id": self.identifier,
            "name": self.name,
            "vm-state-size": self.state_size if large_state else self.state_size & 0xFFFF_FFFF,
            "date-sec": self.seconds,
            "date-nsec": self.nanoseconds,
            "vm-clock-sec": self.clock // 1_000_000_000,
            "vm-clock-nsec": self.clock % 1_000_000_000,
        }
        if self.instructions is not None:
            shown["icount"] = self.instructions
        return shown


def read_snapshots(image: ReadImage) -> list[Snapshot]:
    """The snapshots in the image, in the order of the table.

    :raise ImageError: the table is not what it should be.
    :raise OSError: it cannot be read.
    """
    header = image.header
    # A table may have 65,536 entries: it is read in larger pieces.
    read = image.storage.read
    held, held_from, head_size = b"", 0, layout.SNAPSHOT.size
    found = []
    start = offset = header.snapshots_offset
    for number in range(header.snapshots):
        if offset + head_size > held_from + len(held):
            held, held_from = read(offset, _AT_ONCE), offset
        (
            l1_offset, l1_size, id_length, name_length, seconds, nanoseconds, clock, state, extra_length,
        ) = layout.SNAPSHOT.unpack_from(held, offset - held_from)  # fmt: skip
        offset += head_size
        if extra_length > layout.MOST_EXTRA:
            raise ImageError(f"Too much extra metadata in snapshot table entry {number}")
        unknown, disk_size, instructions = b"", header.size, None
        if extra_length:
            extra = read(offset, extra_length)
            offset += extra_length
            known, unknown = extra[: layout.SNAPSHOT_EXTRA.size], extra[layout.SNAPSHOT_EXTRA.size :]
            large, larger_disk, counted = layout.SNAPSHOT_EXTRA.unpack(known.ljust(layout.SNAPSHOT_EXTRA.size, b"\0"))
            state = large if extra_length >= 8 else state
            disk_size = larger_disk if extra_length >= 16 else disk_size
            if extra_length >= layout.SNAPSHOT_EXTRA.size and counted != layout.NO_INSTRUCTIONS:
                instructions = counted
        identifier = name = ""
        if id_length or name_length:
            names = read(offset, id_length + name_length)
            offset = (offset + id_length + name_length + 7) // 8 * 8
            identifier, name = _text(names[:id_length]), _text(names[id_length:])
        elif offset & 7:
            offset = (offset + 7) // 8 * 8
        if offset - start > layout.LARGEST_SNAPSHOT_TABLE:
            raise ImageError("Snapshot table is too big")
        found.append(
            Snapshot(
                identifier, name, l1_offset, l1_size, seconds, nanoseconds, clock, state,
                disk_size, instructions, unknown,
            )
        )
    return found


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode(errors="surrogateescape")


def _encode(snapshot: Snapshot) -> bytes:
    instructions = layout.NO_INSTRUCTIONS if snapshot.instructions is None else snapshot.instructions
    extra = layout.SNAPSHOT_EXTRA.pack(snapshot.state_size, snapshot.disk_size, instructions) + snapshot.unknown
    identifier = snapshot.identifier.encode(errors="surrogateescape")
    name = snapshot.name.encode(errors="surrogateescape")
    # The older member has 32 bits; what does not fit is told by the newer one alone.
    state = snapshot.state_size if snapshot.state_size <= 0xFFFF_FFFF else 0
    head = layout.SNAPSHOT.pack(
        snapshot.l1_offset, snapshot.l1_size, len(identifier), len(name), snapshot.seconds, snapshot.nanoseconds,
        snapshot.clock, state, len(extra),
    )  # fmt: skip
    return head + extra + identifier + name


def write_snapshots(image: ReadImage, snapshots: list[Snapshot]) -> None:
    """Write the table anew, to another place, and let the header point there.

    :raise ImageError: there would be too many.
    :raise OSError: it cannot be written.
    """
    header, size = image.header, image.header.cluster_size
    if len(snapshots) > layout.MOST_SNAPSHOTS:
        raise ImageError("Too many snapshots", errno.EFBIG)
    old = header.snapshots_offset, table_length(image)
    content = b""
    for each in snapshots:
        content = content.ljust((len(content) + 7) // 8 * 8, b"\0") + _encode(each)
    place = 0
    if content:
        place = image.refcounts.allocate(-(-len(content) // size)) << header.cluster_bits
        image.storage.write(place, content)
    header.snapshots, header.snapshots_offset = len(snapshots), place
    write_header(header, image.storage)
    if old[1]:
        image.refcounts.change(old[0] >> header.cluster_bits, -(-old[1] // size), -1)


def table_length(image: ReadImage) -> int:
    """How many bytes the table in the file takes."""
    offset = image.header.snapshots_offset
    for _ in range(image.header.snapshots):
        entry = layout.SNAPSHOT.unpack(image.storage.read(offset, layout.SNAPSHOT.size))
        offset = (offset + layout.SNAPSHOT.size + entry[8] + entry[2] + entry[3] + 7) // 8 * 8
    return offset - image.header.snapshots_offset


def mapping_of(image: ReadImage, snapshot: Snapshot) -> Mapping:
    """The tables of a snapshot.

    :raise ImageError: its L1 table cannot be where it says.
    """
    check_table(
        "Snapshot L1 table", snapshot.l1_offset, snapshot.l1_size, 8, layout.LARGEST_L1_TABLE, image.header.cluster_size
    )
    return Mapping(image.storage, image.header, image.refcounts, snapshot.l1_offset, snapshot.l1_size)
