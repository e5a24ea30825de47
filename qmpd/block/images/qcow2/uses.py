"""Who uses which cluster: counted once more or less for whole tables, and told in their entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.mapping import Entry, Mapping, decode, encode

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.reading import ReadImage


def change_use(image: ReadImage, mapping: Mapping, by: int, freed: list[int] | None = None) -> None:
    """Use all that these tables reach once more, or once less; `freed` gets the clusters that nobody uses any more.

    :raise OSError: the counts cannot be written.
    """
    for index, entry in list(mapping.l1_entries()):
        offset = mapping.l2_offset(index)
        if offset:
            numbers = decode(image.storage.read(offset, image.header.cluster_size))
            change_table(image, entry & layout.OFFSET, numbers, by, freed)
            if by < 0:
                image.mapping.drop_table(offset)


def change_table(image: ReadImage, offset: int, numbers: Any, by: int, freed: list[int] | None = None) -> None:
    """Use an L2 table, with these entries, and all that it reaches once more or once less."""
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
                image.refcounts.change(start, length, by, freed=freed)
            start, length = cluster, 1
    if length:
        image.refcounts.change(start, length, by, freed=freed)
    if by < 0:
        image.refcounts.change(offset >> bits, 1, by, freed=freed)


def mark_shared(image: ReadImage, mapping: Mapping) -> None:
    """Let no entry of these tables say that what it points to is the image's alone."""
    _mark(image, mapping, lambda cluster: False)


def mark_copied(image: ReadImage) -> None:
    """Let the entries of the active tables say which clusters are the image's alone."""
    _mark(image, image.mapping, lambda cluster: image.refcounts.get(cluster) == 1)


def _mark(image: ReadImage, mapping: Mapping, alone: Any) -> None:
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
