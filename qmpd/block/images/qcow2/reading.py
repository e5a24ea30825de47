"""One open image: what it consists of, and reading it."""

from __future__ import annotations

import errno
import os
import zlib
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import read_header
from qmpd.block.images.qcow2.mapping import Kind, Mapping, Piece
from qmpd.block.images.qcow2.refcounts import Refcounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.images.storage import Storage

    Below = Callable[[int, int], bytes]
    """What the image below has: its bytes from an offset on, so many of them."""
    Parts = Callable[[str], Storage]
    """The storages of an image's parts: `data`, `mapping`, `refcounts`."""


def nothing(offset: int, length: int) -> bytes:
    """What is below where nothing is: zeros."""
    return bytes(length)


class ReadImage:
    """An open image, as far as it is read.

    `below` gives what shows where the image has nothing: the `below_size` bytes of the backing file, or zeros;
    `below_is_zero` tells whether they are known to be zeros.  `external`: the guest's data is in a file of its own.
    """

    __slots__ = (
        "_compressed",
        "_corrupt",
        "_data",
        "below",
        "below_is_zero",
        "below_size",
        "external",
        "header",
        "mapping",
        "read_only",
        "refcounts",
        "storage",
    )

    def __init__(
        self, storage: Storage, *, read_only: bool, data: Storage | None = None, parts: Parts | None = None
    ) -> None:
        """Open it.

        `parts` gives the storages through which its data, its mapping and its reference counts are read and written;
        `storage` itself without.

        :raise ImageError: QEMU would not open it.
        :raise OSError: it cannot be read.
        """
        self.storage = storage
        self.read_only = read_only
        self.below: Below = nothing
        self.below_size = 0
        self.below_is_zero: Callable[[int, int], bool] = self.is_behind_below
        self.header = read_header(storage, read_only=read_only)
        if self.header.incompatible & layout.DATA_FILE and data is None:
            raise ImageError("'data-file' is required for this image")
        through: Parts = (lambda name: storage) if parts is None else parts
        self.external = data is not None
        self._data = through("data") if data is None else data
        self.refcounts = Refcounts(through("refcounts"), self.header)
        tables = through("mapping")
        self.mapping = Mapping(tables, self.header, self.refcounts, self.header.l1_offset, self.header.l1_size)
        self._compressed: tuple[int, bytes] | None = None
        self._corrupt = False

    def is_behind_below(self, offset: int, length: int) -> bool:
        """Whether a part begins behind the end of what is below."""
        return offset >= self.below_size

    @property
    def size(self) -> int:
        """How large the guest's disk is, in bytes."""
        return self.header.size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """What a part of the disk is (`Mapping.pieces`)."""
        return self.mapping.pieces(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        """The guest's bytes.

        :raise CorruptImage: the image contradicts itself there.
        :raise OSError: they cannot be read.
        """
        if length == 0:
            return b""
        parts = []
        for piece in self.mapping.pieces(offset, length):
            parts.append(self._read_piece(piece, offset))
            offset += piece.length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_piece(self, piece: Piece, offset: int) -> bytes:
        if piece.kind is Kind.DATA:
            return self._data.read(piece.host, piece.length)
        if piece.kind is Kind.UNALLOCATED:
            return self.below(offset, piece.length)
        if piece.kind is Kind.COMPRESSED:
            within = offset % self.header.cluster_size
            return self._decompressed(piece)[within : within + piece.length]
        return bytes(piece.length)

    def _decompressed(self, piece: Piece) -> bytes:
        if self._compressed is not None and self._compressed[0] == piece.host:
            return self._compressed[1]
        stored = self.storage.read(piece.host, piece.stored)
        size = self.header.cluster_size
        content = _inflate_zstd(stored, size) if self.header.zstd else _inflate(stored, size)
        self._compressed = piece.host, content
        return content


def _inflate(stored: bytes, size: int) -> bytes:
    try:
        content = zlib.decompressobj(-12).decompress(stored, size)
    except zlib.error:
        content = b""
    if len(content) != size:
        raise ImageError(os.strerror(errno.EIO), errno.EIO)
    return content


def _inflate_zstd(stored: bytes, size: int) -> bytes:
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ImageError("zstd clusters need the Python package zstandard (pip install 'qmpd[disks]')") from None
    try:
        content: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(stored)[:size]
    except zstandard.ZstdError:
        content = b""
    if len(content) != size:
        raise ImageError(os.strerror(errno.EIO), errno.EIO)
    return content
