"""Persistent dirty bitmaps: the directory of them, and their contents."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import write_header
from qmpd.block.images.qcow2.mapping import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.images.qcow2.reading import ReadImage

# So many entries of a table are read at once.
_ENTRIES = 4096


@dataclass(slots=True)
class StoredBitmap:
    """A bitmap in the file.  `in_use`: whoever had it open has not written it back, so what it holds is void.

    `auto`: it is to be enabled when the image is opened.
    """

    name: str
    granularity_bits: int
    in_use: bool
    auto: bool
    table_offset: int = 0
    table_size: int = 0
    extra: bytes = b""


def read_directory(image: ReadImage) -> list[StoredBitmap]:
    """The bitmaps in the image, in the directory's order.

    :raise ImageError: the directory is not what it should be.
    :raise OSError: it cannot be read.
    """
    header = image.header
    if header.bitmaps is None:
        return []
    count, size, offset = header.bitmaps
    content = image.storage.read(offset, size)
    found: list[StoredBitmap] = []
    place = 0
    while place < size:
        if size - place < layout.BITMAP.size:
            raise ImageError("Broken bitmap directory")
        table, table_size, flags, kind, granularity, name_size, extra_size = layout.BITMAP.unpack_from(content, place)
        length = (layout.BITMAP.size + extra_size + name_size + 7) // 8 * 8
        if place + length > size or kind != layout.DIRTY_TRACKING or not 0 < name_size <= layout.LONGEST_BITMAP_NAME:
            raise ImageError("Broken bitmap directory")
        if not layout.SMALLEST_GRANULARITY_BITS <= granularity <= layout.LARGEST_GRANULARITY_BITS:
            raise ImageError("Broken bitmap directory")
        if table_size > min(layout.LARGEST_BITMAP_TABLE, layout.LARGEST_BITMAP // header.cluster_size):
            raise ImageError("Broken bitmap directory")
        start = place + layout.BITMAP.size
        name = content[start + extra_size : start + extra_size + name_size].decode(errors="surrogateescape")
        found.append(
            StoredBitmap(
                name,
                granularity,
                bool(flags & layout.BITMAP_IN_USE),
                bool(flags & layout.BITMAP_AUTO),
                table,
                table_size,
                content[start : start + extra_size],
            )
        )
        place += length
    if len(found) != count:
        raise ImageError("Broken bitmap directory")
    return found


def _encode(bitmap: StoredBitmap) -> bytes:
    name = bitmap.name.encode(errors="surrogateescape")
    flags = bitmap.in_use * layout.BITMAP_IN_USE | bitmap.auto * layout.BITMAP_AUTO
    head = layout.BITMAP.pack(
        bitmap.table_offset, bitmap.table_size, flags, layout.DIRTY_TRACKING, bitmap.granularity_bits, len(name),
        len(bitmap.extra),
    )  # fmt: skip
    entry = head + bitmap.extra + name
    return entry.ljust((len(entry) + 7) // 8 * 8, b"\0")


def rewrite_directory(image: ReadImage, bitmaps: list[StoredBitmap]) -> None:
    """Write the directory where it is: nothing but flags of its bitmaps has changed.

    :raise OSError: it cannot be written.
    """
    assert image.header.bitmaps is not None
    image.storage.write(image.header.bitmaps[2], b"".join(_encode(each) for each in bitmaps))


def write_directory(image: ReadImage, bitmaps: list[StoredBitmap]) -> None:
    """Write the directory anew, to another place, and let the header point there.

    :raise ImageError: the image cannot have bitmaps.
    :raise OSError: it cannot be written.
    """
    header = image.header
    if header.version < 3:
        raise ImageError("Cannot store dirty bitmaps in qcow2 v2 files", errno.ENOTSUP)
    old = header.bitmaps
    content = b"".join(_encode(each) for each in bitmaps)
    if content:
        clusters = -(-len(content) // header.cluster_size)
        place = image.refcounts.allocate(clusters) << header.cluster_bits
        image.storage.write(place, content)
        header.bitmaps = len(bitmaps), len(content), place
        header.autoclear |= layout.AUTOCLEAR_BITMAPS
    else:
        header.bitmaps = None
        header.autoclear &= ~layout.AUTOCLEAR_BITMAPS
    write_header(header, image.storage)
    if old is not None:
        clusters = -(-old[1] // header.cluster_size)
        image.refcounts.change(old[2] >> header.cluster_bits, clusters, -1)


def bitmap_bytes(image: ReadImage, granularity_bits: int) -> int:
    """How many bytes the bits of a bitmap take."""
    return -(-image.size // (8 << granularity_bits))


def parts(image: ReadImage, bitmap: StoredBitmap) -> Iterator[tuple[int, bytes]]:
    """The bits of a bitmap, the lowest bit of the first byte first: where they begin, and the bytes that are not zeros.

    :raise ImageError: the bitmap's table is not what it should be.
    :raise OSError: it cannot be read.
    """
    size, length = image.header.cluster_size, bitmap_bytes(image, bitmap.granularity_bits)
    if bitmap.table_size != -(-length // size):
        raise ImageError(f"Could not read bitmap table from image: bitmap '{bitmap.name}'")
    for first in range(0, bitmap.table_size, _ENTRIES):
        count = min(_ENTRIES, bitmap.table_size - first)
        table = decode(image.storage.read(bitmap.table_offset + first * 8, count * 8))
        for index, entry in enumerate(table, first):
            wanted = min(size, length - index * size)
            offset = entry & layout.OFFSET
            if offset:
                yield index * size, image.storage.read(offset, wanted)
            elif entry & layout.BITMAP_ALL_ONES:
                yield index * size, b"\xff" * wanted


def store(
    image: ReadImage, bitmap: StoredBitmap, read: Callable[[int, int], bytes], following: Callable[[int], int | None]
) -> None:
    """Write the bits of a bitmap, to new clusters; `bitmap` tells then where its table is.

    `read` gives bytes of the bits, by the first of them and their number, `following` the place of the first one from
    another on that is not zero, so that what nobody has written is left out.  The directory has to be written by the
    caller, who can then release what the bitmap had before.

    :raise OSError: they cannot be written.
    """
    header, size = image.header, image.header.cluster_size
    length = bitmap_bytes(image, bitmap.granularity_bits)
    table = []
    found = following(0)
    for begin in range(0, length, size):
        if found is None or found >= begin + size:
            table.append(0)
            continue
        part = read(begin, min(size, length - begin))
        found = following(begin + size)
        place = image.refcounts.allocate(1) << header.cluster_bits
        image.storage.write(place, part.ljust(size, b"\0"))
        table.append(place)
    content = b"".join(entry.to_bytes(8, "big") for entry in table)
    bitmap.table_size = len(table)
    bitmap.table_offset = 0
    if content:
        bitmap.table_offset = image.refcounts.allocate(-(-len(content) // size)) << header.cluster_bits
        image.storage.write(bitmap.table_offset, content)


def release(image: ReadImage, bitmap: StoredBitmap) -> None:
    """Give back the clusters of a bitmap that the directory no longer has.

    :raise OSError: the counts cannot be written.
    """
    for first, count in clusters_of(image, bitmap):
        image.refcounts.change(first, count, -1)


def clusters_of(image: ReadImage, bitmap: StoredBitmap) -> list[tuple[int, int]]:
    """The clusters of a bitmap and of its table, as their first and their number."""
    header = image.header
    if not bitmap.table_size:
        return []
    table = decode(image.storage.read(bitmap.table_offset, bitmap.table_size * 8))
    places = [(entry & layout.OFFSET) >> header.cluster_bits for entry in table if entry & layout.OFFSET]
    length = -(-bitmap.table_size * 8 // header.cluster_size)
    return [*((place, 1) for place in places), (bitmap.table_offset >> header.cluster_bits, length)]
