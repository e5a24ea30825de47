"""Giving clusters back: to the image, and to the file system where nobody uses them (`pass-discard-request`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.block.images.qcow2.mapping import Entry
    from qmpd.block.images.qcow2.reading import ReadImage
    from qmpd.block.images.storage import Storage


def give_back(image: ReadImage, entries: Iterable[Entry], external: Storage | None, *, passed: bool) -> None:
    """Give back what these entries use, the file system's room too where that is to be `passed` on.

    `external` is the file that the guest's bytes have for themselves, where they do.

    :raise CorruptImage: nobody has used it.
    :raise OSError: it cannot be written.
    """
    if external is not None:
        for entry in entries if passed else ():
            if entry.value & layout.OFFSET:
                _discard(external, entry.value & layout.OFFSET, image.header.cluster_size)
        return
    freed: list[int] = []
    for entry in entries:
        clusters = image.mapping.host_clusters(entry)
        if clusters:
            image.refcounts.change(clusters.start, len(clusters), -1, freed=freed)
    if passed:
        pass_on(image, freed)


def pass_on(image: ReadImage, clusters: Iterable[int]) -> None:
    """Let the file system have the room of clusters that nobody uses."""
    bits = image.header.cluster_bits
    for first, count in _runs(clusters):
        _discard(image.storage, first << bits, count << bits)


def _discard(storage: Storage, offset: int, length: int) -> None:
    """That is for the better where it can be done, and no harm where it cannot."""
    discard = getattr(storage, "discard", None)
    if discard is not None:
        with contextlib.suppress(OSError, ImageError):
            discard(offset, length)


def _runs(clusters: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Clusters that follow one another: the first, and how many there are."""
    first = count = 0
    for each in sorted(clusters):
        if count and each == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = each, 1
    if count:
        yield first, count
