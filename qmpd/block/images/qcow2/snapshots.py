"""Internal snapshots: taking, going back to and deleting one.

A snapshot is a copy of the L1 table.  While it is there, each cluster that it reaches is used once more, and no entry
of the active tables that points to such a cluster says that it is the image's alone (COPIED).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.giving_back import pass_on
from qmpd.block.images.qcow2.mapping import Mapping, decode
from qmpd.block.images.qcow2.snapshot_table import Snapshot, mapping_of, read_snapshots, write_snapshots
from qmpd.block.images.qcow2.uses import change_table, change_use, mark_copied, mark_shared
from qmpd.common.integers import from_digits, is_digits

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.image import Qcow2

_LARGEST = (1 << 64) - 1


def find(snapshots: list[Snapshot], wanted: str) -> Snapshot | None:
    """The snapshot of this id, else that of this name."""
    by_id = next((each for each in snapshots if each.identifier == wanted), None)
    return by_id or next((each for each in snapshots if each.name == wanted), None)


def new_identifier(snapshots: list[Snapshot]) -> str:
    """An id that is larger than those that there are; as QEMU counts, behind the largest of 64 bits comes 0."""
    numbers = [min(from_digits(each.identifier), _LARGEST) for each in snapshots if is_digits(each.identifier)]
    return str(max(numbers, default=0) + 1 & _LARGEST)


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


def go_back(image: Qcow2, snapshot: Snapshot) -> None:
    """Let the disk be as it was when the snapshot was taken; what it alone used since is given back.

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
    freed: list[int] = []
    for entry, numbers in gone:
        change_table(image, entry & layout.OFFSET, numbers, -1, freed)
    mark_copied(image)
    if image.passes_snapshots():
        pass_on(image, freed)


def delete(image: Qcow2, snapshot: Snapshot) -> None:
    """Delete a snapshot, and what it alone used.

    :raise OSError: it cannot be written.
    """
    snapshots = read_snapshots(image)
    kept = mapping_of(image, snapshot)
    write_snapshots(image, [each for each in snapshots if each.identifier != snapshot.identifier])
    freed: list[int] = []
    change_use(image, kept, -1, freed)
    clusters = -(-max(snapshot.l1_size * 8, 1) // image.header.cluster_size)
    image.refcounts.change(snapshot.l1_offset >> image.header.cluster_bits, clusters, -1, freed=freed)
    mark_copied(image)
    if image.passes_snapshots():
        pass_on(image, freed)


# The machine's state: it lies behind the end of the guest's disk, in the same tables


def state_offset(image: Qcow2) -> int:
    """Where the machine's state begins: behind all that the guest can reach."""
    return image.header.needed_l1 * image.header.l1_reach


def read_state(image: Qcow2, snapshot: Snapshot, most: int) -> bytes:
    """The machine's state that was saved with a snapshot, at most so many bytes of it.

    :raise OSError: it cannot be read.
    """
    mapping = mapping_of(image, snapshot)
    needed = -(-snapshot.disk_size // image.header.l1_reach)
    active, image.mapping = image.mapping, mapping
    try:
        return image.read(needed * image.header.l1_reach, min(snapshot.state_size, most))
    finally:
        image.mapping = active


def write_state(image: Qcow2, offset: int, data: bytes) -> None:
    """Write a part of the machine's state, which the next snapshot takes with it.

    :raise OSError: it cannot be written.
    """
    image.write(state_offset(image) + offset, data)


def fill_state(image: Qcow2, used: int, size: int) -> None:
    """Give the machine's state room for `size` bytes, of which so many are used: nobody reads what is in the rest.

    :raise OSError: there is no room.
    """
    cluster = image.header.cluster_size
    start, end = (state_offset(image) + -(-each // cluster) * cluster for each in (used, size))
    if start < end:
        # What a snapshot that was gone back to has left there is given up first.
        image.discard(start, end - start, wholly=True)
        image.allocate(start, end - start)
        image.extend_host(max(piece.host + piece.length for piece in image.pieces(start, end - start)))


def drop_state(image: Qcow2, size: int) -> None:
    """The active disk has no state of a machine: it is in the snapshot."""
    if size:
        start = state_offset(image)
        end = start + -(-size // image.header.cluster_size) * image.header.cluster_size
        image.discard(start, end - start, wholly=True)
