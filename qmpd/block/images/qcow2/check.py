"""A walk through all that an image uses, and setting the reference counts right by it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.images.qcow2 import bitmaps, layout, snapshot_table
from qmpd.block.images.qcow2.mapping import Entry, decode
from qmpd.block.images.qcow2.uses import mark_copied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.images.qcow2.mapping import Mapping
    from qmpd.block.images.qcow2.reading import ReadImage


class Faults(NamedTuple):
    """What is wrong with an image: clusters that are used more often than counted, and less often."""

    errors: list[int]
    leaks: list[int]


def uses(image: ReadImage) -> Counter[int]:
    """How often each cluster of the file is used, by all that the header leads to.

    :raise CorruptImage: a table points to nowhere.
    :raise OSError: it cannot be read.
    """
    header = image.header
    found: Counter[int] = Counter()

    def count(offset: int, length: int) -> None:
        if length:
            for cluster in range(offset >> header.cluster_bits, (offset + length - 1 >> header.cluster_bits) + 1):
                found[cluster] += 1

    count(0, header.cluster_size)
    count(header.refcount_offset, header.refcount_clusters << header.cluster_bits)
    for block in image.refcounts.blocks():
        count(block, header.cluster_size)
    count(header.l1_offset, header.l1_size * 8)
    found.update(_of_mapping(image, image.mapping))
    count(header.snapshots_offset, snapshot_table.table_length(image))
    for snapshot in snapshot_table.read_snapshots(image):
        count(snapshot.l1_offset, max(snapshot.l1_size * 8, 1))
        found.update(_of_mapping(image, snapshot_table.mapping_of(image, snapshot)))
    if header.luks is not None:
        count(*header.luks)
    if header.bitmaps is not None:
        count(header.bitmaps[2], header.bitmaps[1])
        for bitmap in bitmaps.read_directory(image):
            for first, number in bitmaps.clusters_of(image, bitmap):
                count(first << header.cluster_bits, number << header.cluster_bits)
    return found


def _of_mapping(image: ReadImage, mapping: Mapping) -> Iterator[int]:
    header = image.header
    for index, _ in mapping.l1_entries():
        offset = mapping.l2_offset(index)
        if not offset:
            continue
        yield offset >> header.cluster_bits
        if image.external:
            continue
        numbers = decode(image.storage.read(offset, header.cluster_size))
        for value in numbers[:: header.entry_size // 8]:
            if value & (layout.COMPRESSED | layout.OFFSET):
                yield from mapping.host_clusters(Entry(value))


def check(image: ReadImage) -> Faults:
    """Compare the reference counts with who really uses what.

    :raise OSError: the image cannot be read.
    """
    found = uses(image)
    last = max(found, default=0)
    clusters = range(max(last + 1, image.storage.size >> image.header.cluster_bits))
    errors = [cluster for cluster in clusters if image.refcounts.get(cluster) < found[cluster]]
    leaks = [cluster for cluster in clusters if image.refcounts.get(cluster) > found[cluster]]
    return Faults(errors, leaks)


def repair(image: ReadImage) -> None:
    """Set the reference counts right, and who is told to be alone; for an image that was not closed.

    :raise OSError: it cannot be written.
    """
    image.refcounts.set_all(dict(uses(image)))
    mark_copied(image)
