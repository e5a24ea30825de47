"""Internal snapshots: the table of them, and taking, going back to and deleting one.

A snapshot is a copy of the L1 table.  While it is there, each cluster that it reaches is used once more, and no entry
of the active tables that points to such a cluster says that it is the image's alone (COPIED).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import check_table, write_header
from qmpd.block.images.qcow2.mapping import Entry, Mapping, decode, encode

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.image import Qcow2


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


def read_snapshots(image: Qcow2) -> list[Snapshot]:
    """The snapshots in the image, in the order of the table.

    :raise ImageError: the table is not what it should be.
    :raise OSError: it cannot be read.
    """
    header, storage = image.header, image.storage
    found = []
    start = offset = header.snapshots_offset
    for number in range(header.snapshots):
        (
            l1_offset, l1_size, id_length, name_length, seconds, nanoseconds, clock, state, extra_length,
        ) = layout.SNAPSHOT.unpack(storage.read(offset, layout.SNAPSHOT.size))  # fmt: skip
        offset += layout.SNAPSHOT.size
        if extra_length > layout.MOST_EXTRA:
            raise ImageError(f"Too much extra metadata in snapshot table entry {number}")
        extra = storage.read(offset, extra_length)
        offset += extra_length
        large, disk_size, instructions = layout.SNAPSHOT_EXTRA.unpack(
            extra[: layout.SNAPSHOT_EXTRA.size].ljust(layout.SNAPSHOT_EXTRA.size, b"\0")
        )
        names = storage.read(offset, id_length + name_length)
        offset = (offset + id_length + name_length + 7) // 8 * 8
        if offset - start > layout.LARGEST_SNAPSHOT_TABLE:
            raise ImageError("Snapshot table is too big")
        counted = extra_length >= layout.SNAPSHOT_EXTRA.size and instructions != layout.NO_INSTRUCTIONS
        found.append(
            Snapshot(
                _text(names[:id_length]),
                _text(names[id_length:]),
                l1_offset,
                l1_size,
                seconds,
                nanoseconds,
                clock,
                large if extra_length >= 8 else state,
                disk_size if extra_length >= 16 else header.size,
                instructions if counted else None,
                extra[layout.SNAPSHOT_EXTRA.size :],
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
    entry = head + extra + identifier + name
    return entry.ljust((len(entry) + 7) // 8 * 8, b"\0")


def write_snapshots(image: Qcow2, snapshots: list[Snapshot]) -> None:
    """Write the table anew, to another place, and let the header point there.

    :raise ImageError: there would be too many.
    :raise OSError: it cannot be written.
    """
    header, size = image.header, image.header.cluster_size
    if len(snapshots) > layout.MOST_SNAPSHOTS:
        raise ImageError("Too many snapshots", errno.EFBIG)
    old = header.snapshots_offset, table_length(image)
    content = b"".join(_encode(each) for each in snapshots)
    place = 0
    if content:
        place = image.refcounts.allocate(-(-len(content) // size)) << header.cluster_bits
        image.storage.write(place, content)
    header.snapshots, header.snapshots_offset = len(snapshots), place
    write_header(header, image.storage)
    if old[1]:
        image.refcounts.change(old[0] >> header.cluster_bits, -(-old[1] // size), -1)


def table_length(image: Qcow2) -> int:
    """How many bytes the table in the file takes."""
    offset = image.header.snapshots_offset
    for _ in range(image.header.snapshots):
        entry = layout.SNAPSHOT.unpack(image.storage.read(offset, layout.SNAPSHOT.size))
        offset = (offset + layout.SNAPSHOT.size + entry[8] + entry[2] + entry[3] + 7) // 8 * 8
    return offset - image.header.snapshots_offset


def find(snapshots: list[Snapshot], wanted: str) -> Snapshot | None:
    """The snapshot of this id, else that of this name."""
    by_id = next((each for each in snapshots if each.identifier == wanted), None)
    return by_id or next((each for each in snapshots if each.name == wanted), None)


def new_identifier(snapshots: list[Snapshot]) -> str:
    """An id that is larger than those that there are."""
    numbers = [int(each.identifier) for each in snapshots if each.identifier.isascii() and each.identifier.isdigit()]
    return str(max(numbers, default=0) + 1)


def take(
    image: Qcow2, name: str, *, seconds: int, nanoseconds: int = 0, clock: int = 0, state_size: int = 0,
    instructions: int | None = None,
) -> Snapshot:  # fmt: skip
    """Take a snapshot of the disk as it is.

    :raise ImageError: the image cannot have one.
    :raise OSError: it cannot be written.
    """
    header = image.header
    if image.external:
        raise ImageError("Snapshots are not supported with an external data file", errno.ENOTSUP)
    snapshots = read_snapshots(image)
    mapping = image.mapping
    size = max(mapping.l1_size * 8, 1)
    place = image.refcounts.allocate(-(-size // header.cluster_size)) << header.cluster_bits
    change_use(image, mapping, 1)
    mark_shared(image, mapping)
    image.storage.write(place, image.storage.read(mapping.l1_offset, mapping.l1_size * 8))
    snapshot = Snapshot(
        new_identifier(snapshots), name, place, mapping.l1_size, seconds, nanoseconds, clock, state_size,
        header.size, instructions,
    )  # fmt: skip
    write_snapshots(image, [*snapshots, snapshot])
    return snapshot


def mapping_of(image: Qcow2, snapshot: Snapshot) -> Mapping:
    """The tables of a snapshot.

    :raise ImageError: its L1 table cannot be where it says.
    """
    check_table(
        "Snapshot L1 table", snapshot.l1_offset, snapshot.l1_size, 8, layout.LARGEST_L1_TABLE, image.header.cluster_size
    )
    return Mapping(image.storage, image.header, image.refcounts, snapshot.l1_offset, snapshot.l1_size)


def go_back(image: Qcow2, snapshot: Snapshot) -> None:
    """Let the disk be as it was when the snapshot was taken.

    :raise ImageError: the disk has another size now, and the image is too old to change it.
    :raise OSError: it cannot be written.
    """
    if snapshot.disk_size != image.size:
        image.resize(snapshot.disk_size)
    kept = mapping_of(image, snapshot)
    active, header = image.mapping, image.header
    if kept.l1_size > active.l1_size:
        active.grow_l1(kept.l1_size)
    change_use(image, kept, 1)
    # The entries of the snapshot have COPIED as they had when they were shared: not at all.
    mark_shared(image, kept)
    content = image.storage.read(kept.l1_offset, kept.l1_size * 8).ljust(active.l1_size * 8, b"\0")
    before = Mapping(image.storage, header, image.refcounts, active.l1_offset, active.l1_size)
    old = list(before.l1_entries())
    gone = [(entry, decode(image.storage.read(entry & layout.OFFSET, header.cluster_size))) for _, entry in old]
    image.storage.write(active.l1_offset, content)
    active.forget()
    for entry, numbers in gone:
        _change_table(image, entry & layout.OFFSET, numbers, -1)
    mark_copied(image)


def delete(image: Qcow2, snapshot: Snapshot) -> None:
    """Delete a snapshot, and what it alone used.

    :raise OSError: it cannot be written.
    """
    snapshots = read_snapshots(image)
    kept = mapping_of(image, snapshot)
    write_snapshots(image, [each for each in snapshots if each.identifier != snapshot.identifier])
    change_use(image, kept, -1)
    clusters = -(-max(snapshot.l1_size * 8, 1) // image.header.cluster_size)
    image.refcounts.change(snapshot.l1_offset >> image.header.cluster_bits, clusters, -1)
    mark_copied(image)


# Who uses what


def change_use(image: Qcow2, mapping: Mapping, by: int) -> None:
    """Use all that these tables reach once more, or once less.

    :raise OSError: the counts cannot be written.
    """
    for index, entry in list(mapping.l1_entries()):
        offset = mapping.l2_offset(index)
        if offset:
            numbers = decode(image.storage.read(offset, image.header.cluster_size))
            _change_table(image, entry & layout.OFFSET, numbers, by)
            if by < 0:
                image.mapping.drop_table(offset)


def _change_table(image: Qcow2, offset: int, numbers: Any, by: int) -> None:
    bits = image.header.cluster_bits
    if by > 0:
        image.refcounts.change(offset >> bits, 1, by)
    step = image.header.entry_size // 8
    start = length = 0
    for value in numbers[::step]:
        for cluster in image.mapping.host_clusters(Entry(value)) if value else ():
            if length and cluster == start + length:
                length += 1
                continue
            if length:
                image.refcounts.change(start, length, by)
            start, length = cluster, 1
    if length:
        image.refcounts.change(start, length, by)
    if by < 0:
        image.refcounts.change(offset >> bits, 1, by)


def mark_shared(image: Qcow2, mapping: Mapping) -> None:
    """Let no entry of these tables say that what it points to is the image's alone."""
    _mark(image, mapping, lambda cluster: False)


def mark_copied(image: Qcow2) -> None:
    """Let the entries of the active tables say which clusters are the image's alone."""
    _mark(image, image.mapping, lambda cluster: image.refcounts.get(cluster) == 1)


def _mark(image: Qcow2, mapping: Mapping, alone: Any) -> None:
    header, bits = image.header, image.header.cluster_bits
    step = header.entry_size // 8
    for index, entry in list(mapping.l1_entries()):
        offset = mapping.l2_offset(index)
        if not offset:
            continue
        numbers = decode(image.storage.read(offset, header.cluster_size))
        changed = False
        for place in range(0, len(numbers), step):
            value = numbers[place]
            if value & layout.COMPRESSED or not value & layout.OFFSET:
                continue
            copied = layout.COPIED if alone((value & layout.OFFSET) >> bits) else 0
            if value & layout.COPIED != copied:
                numbers[place] = value & ~layout.COPIED | copied
                changed = True
        if changed:
            image.storage.write(offset, encode(numbers))
            image.mapping.drop_table(offset)
            mapping.drop_table(offset)
        copied = layout.COPIED if alone(offset >> bits) else 0
        if entry & layout.COPIED != copied:
            mapping.set_l1_entry(index, entry & ~layout.COPIED | copied)


# The machine's state: it lies behind the end of the guest's disk, in the same tables


def state_offset(image: Qcow2) -> int:
    """Where the machine's state begins: behind all that the guest can reach."""
    return image.header.needed_l1 * image.header.l1_reach


def read_state(image: Qcow2, snapshot: Snapshot) -> bytes:
    """The machine's state that was saved with a snapshot.

    :raise OSError: it cannot be read.
    """
    mapping = mapping_of(image, snapshot)
    needed = -(-snapshot.disk_size // image.header.l1_reach)
    active, image.mapping = image.mapping, mapping
    try:
        return image.read(needed * image.header.l1_reach, snapshot.state_size)
    finally:
        image.mapping = active


def write_state(image: Qcow2, offset: int, data: bytes) -> None:
    """Write a part of the machine's state, which the next snapshot takes with it.

    :raise OSError: it cannot be written.
    """
    image.write(state_offset(image) + offset, data)


def drop_state(image: Qcow2, size: int) -> None:
    """The active disk has no state of a machine: it is in the snapshot."""
    if size:
        start = state_offset(image)
        end = start + -(-size // image.header.cluster_size) * image.header.cluster_size
        image.discard(start, end - start, wholly=True)
