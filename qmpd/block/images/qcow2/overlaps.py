"""Keeping the guest's data off an image's own tables, which an image that contradicts itself may point to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.images.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.images.qcow2.reading import ReadImage


def _tables(image: ReadImage) -> Iterator[tuple[str, int, int]]:
    """What each table is called, where it is and how long it is; of the L2 tables those that are at hand."""
    header, size = image.header, image.header.cluster_size
    yield "qcow2_header", 0, size
    yield "active L1 table", header.l1_offset, header.l1_size * 8
    for offset in image.mapping.tables_at_hand():
        yield "active L2 table", offset, size
    for offset in image.refcounts.blocks():
        yield "refcount block", offset, size
    if header.snapshots:
        yield "snapshot table", header.snapshots_offset, 40 * header.snapshots
    yield "refcount table", header.refcount_offset, header.refcount_clusters * size


def check(image: ReadImage, host: int, length: int) -> None:
    """Refuse to write the guest's data over a table.

    :raise CorruptImage: it would be.
    """
    end = host + length
    for name, begin, count in _tables(image):
        if host < begin + count and begin < end:
            error = CorruptImage(f"Preventing invalid write on metadata (overlaps with {name})")
            error.place = host, length
            raise error
