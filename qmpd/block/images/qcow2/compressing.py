"""Writing compressed clusters: many of them share one cluster of the file."""

from __future__ import annotations

import errno
import zlib
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError, failure
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.mapping import Entry

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.image import Qcow2


class Compressor:
    """Writes compressed clusters to one image."""

    __slots__ = ("_end", "_image", "_place")

    def __init__(self, image: Qcow2) -> None:
        self._image = image
        # The room that is left in the cluster that was written last.
        self._place = self._end = 0

    def write(self, offset: int, data: bytes) -> None:
        """Write whole clusters compressed, and such as do not get smaller as they are.

        :raise OSError: they cannot be written, are no whole clusters, or something is there already.
        :raise ImageError: the image has its data elsewhere.
        """
        image, size = self._image, self._image.header.cluster_size
        if image.external:
            raise ImageError("Operation not supported", 95)
        if offset % size or (len(data) % size and offset + len(data) != image.size):
            raise failure(errno.EINVAL)
        for begin in range(0, len(data), size):
            at, part = offset + begin, data[begin : begin + size]
            packed = self._packed(bytes(part).ljust(size, b"\0"))
            if packed is None:
                image.write(at, part)
            else:
                self._write_packed(at, packed)

    def _packed(self, part: bytes) -> bytes | None:
        """A cluster, compressed; None where it does not get smaller."""
        size = self._image.header.cluster_size
        if self._image.header.zstd:
            try:
                import zstandard  # type: ignore[import-not-found,unused-ignore]
            except ImportError:
                return None
            packed: bytes = zstandard.ZstdCompressor().compress(part)
        else:
            compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -12)
            packed = compressor.compress(part) + compressor.flush()
        return packed if len(packed) < size else None

    def _write_packed(self, offset: int, packed: bytes) -> None:
        """Write a compressed cluster, which takes the place of none.

        :raise OSError: one is there already, or it cannot be written.
        """
        image, header = self._image, self._image.header
        first, index, _ = image.mapping.split(offset)
        table = image.mapping.writable_table(first)
        old = image.mapping.entry(table, index)
        if old.value & (layout.COMPRESSED | layout.OFFSET):
            raise failure(errno.EIO)
        host = self._room(len(packed))
        image.storage.write(host, packed)
        sectors = (host + len(packed) - 1 >> 9) - (host >> 9)
        value = layout.COMPRESSED | sectors << 62 - (header.cluster_bits - 8) | host
        image.mapping.set_entries(table, index, [Entry(value)])

    def _room(self, length: int) -> int:
        """Room in the file for so many bytes, counted."""
        image, bits = self._image, self._image.header.cluster_bits
        cluster = self._place >> bits
        if self._place and self._place + length <= self._end and image.refcounts.get(cluster) < image.refcounts.largest:
            image.refcounts.change(cluster, 1, 1)
        else:
            self._place = image.refcounts.allocate(1) << bits
            self._end = self._place + image.header.cluster_size
        place = self._place
        self._place += length
        return place
