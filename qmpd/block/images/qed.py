"""QEMU's enhanced disk format (docs/interop/qed_spec.rst, block/qed.c): two levels of tables, and no counts.

A table's entry is where a cluster lies in the file, 0 for one that shows what is behind the image, and 1 for zeros.
What is written goes where it survives before an entry names it, so no image has to be checked after a crash.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.images.storage import Storage

_HEADER = struct.Struct("<4sIIIQQQQQII")
_MAGIC = b"QED\0"
_BACKING, _NEED_CHECK, _NO_PROBE = 1, 2, 4
_KNOWN = _BACKING | _NEED_CHECK | _NO_PROBE
_CLUSTERS = (4096, 64 << 20)
_TABLES = (1, 16)
_SECTOR = 512
_ENTRY = 8
ZEROS = 1
"""The entry of a cluster of zeros."""
# What a new image has.
_CLUSTER, _TABLE = 65536, 4


@dataclass(slots=True)
class Header:
    """The start of an image, sizes of the table and the header in clusters."""

    cluster_size: int = _CLUSTER
    table_size: int = _TABLE
    header_size: int = 1
    features: int = 0
    compatible: int = 0
    autoclear: int = 0
    l1_offset: int = _CLUSTER
    size: int = 0
    backing: bytes | None = None

    @property
    def backing_format(self) -> bytes | None:
        """What is behind it is raw, or has to be looked at."""
        return b"raw" if self.features & _NO_PROBE else None

    @property
    def entries(self) -> int:
        """How many a table has."""
        return self.table_size * self.cluster_size // _ENTRY

    @property
    def largest(self) -> int:
        """How large an image like this can be."""
        return self.entries * self.entries * self.cluster_size

    def set_backing(self, name: bytes | None, kind: bytes | None) -> None:
        """Name what is behind it.

        :raise ImageError: there is no room for the name.
        """
        if name is not None and _HEADER.size + len(name) > self.header_size * self.cluster_size:
            raise ImageError("No space left on device", errno.ENOSPC)
        self.backing = name
        self.features &= ~(_BACKING | _NO_PROBE)
        if name is not None:
            self.features |= _BACKING | (_NO_PROBE if kind == b"raw" else 0)

    def write(self, storage: Storage) -> None:
        """Write it."""
        place = (0, 0) if self.backing is None else (_HEADER.size, len(self.backing))
        fixed = _HEADER.pack(
            _MAGIC, self.cluster_size, self.table_size, self.header_size, self.features, self.compatible,
            self.autoclear, self.l1_offset, self.size, *place,
        )  # fmt: skip
        storage.write(0, fixed + (self.backing or b""))


def read_header(storage: Storage) -> Header:
    """The header of an image.

    :raise ImageError: it is none that QEMU opens.
    :raise OSError: it cannot be read.
    """
    magic, *numbers, name_at, name_length = _HEADER.unpack(storage.read(0, _HEADER.size))
    if magic != _MAGIC:
        raise ImageError("Image not in QED format")
    header = Header(*numbers)
    if header.features & ~_KNOWN:
        raise ImageError(f"Unsupported QED features: {header.features & ~_KNOWN:x}", errno.ENOTSUP)
    for size, (least, most), what in (
        (header.cluster_size, _CLUSTERS, "cluster"), (header.table_size, _TABLES, "table"),
    ):  # fmt: skip
        if size & (size - 1) or not least <= size <= most:
            raise ImageError(f"QED {what} size is invalid")
    if header.size % _SECTOR or header.size > header.largest:
        raise ImageError("QED image size is invalid")
    last = header.l1_offset + (header.table_size - 1) * header.cluster_size
    end = storage.size // header.cluster_size * header.cluster_size
    start = header.header_size * header.cluster_size
    # QEMU opens no image whose tables are of one cluster.
    if header.l1_offset % header.cluster_size or not start <= header.l1_offset < last < end:
        raise ImageError("QED table offset is invalid")
    if header.header_size > 0xFFFFFFFF // header.cluster_size:
        raise ImageError("QED header size is too large")
    if header.features & _BACKING:
        if name_at + name_length > start:
            raise ImageError("QED backing filename offset is invalid")
        header.backing = storage.read(name_at, name_length).partition(b"\0")[0]
    return header


def create(storage: Storage, size: int, backing: str | None, backing_format: str | None) -> None:
    """Make a new image in an empty storage.

    :raise ImageError: there can be no such image.
    :raise OSError: it cannot be written.
    """
    header = Header(size=size)
    if size % _SECTOR or size > header.largest:
        raise ImageError(
            f"QED image size must be a non-zero multiple of cluster size and less than {header.largest} bytes"
        )
    if backing is not None:
        header.set_backing(backing.encode(errors="surrogateescape"), (backing_format or "").encode())
    header.write(storage)
    storage.write(header.l1_offset, bytes(header.table_size * header.cluster_size))
    storage.flush()


class Qed:
    """An open image; `behind` reads what is behind it, zeros where there is nothing."""

    def __init__(
        self, storage: Storage, header: Header, behind: Callable[[int, int], bytes], *, read_only: bool
    ) -> None:
        """:raise OSError: it cannot be read."""
        self._storage = storage
        self._header = header
        self._behind = behind
        self._cluster = header.cluster_size
        # So much of the guest has its places in one second table.
        self._span = header.entries * header.cluster_size
        self.end = storage.size // self._cluster * self._cluster
        if not read_only and (header.features & _NEED_CHECK or header.autoclear):
            self._repair()

    def _repair(self) -> None:
        """Forget what cannot be right, as whoever wrote it last did not end well."""
        header = self._header
        for index in range(header.entries if header.features & _NEED_CHECK else 0):
            place = header.l1_offset + index * _ENTRY
            table = self._entry(place)
            if table and not self._is_inside(table, header.table_size):
                self._set_entry(place, 0)
                continue
            for number in range(header.entries if table else 0):
                entry = self._entry(table + number * _ENTRY)
                if entry > ZEROS and not self._is_inside(entry):
                    self._set_entry(table + number * _ENTRY, 0)
        header.features &= ~_NEED_CHECK
        header.autoclear = 0
        header.write(self._storage)

    def _entry(self, place: int) -> int:
        return int.from_bytes(self._storage.read(place, _ENTRY), "little")

    def _set_entry(self, place: int, value: int) -> None:
        self._storage.write(place, value.to_bytes(_ENTRY, "little"))

    def _is_inside(self, offset: int, clusters: int = 1) -> bool:
        start = self._header.header_size * self._cluster
        last = offset + (clusters - 1) * self._cluster
        return not offset % self._cluster and start <= offset and last < self.end

    def _table(self, offset: int) -> int:
        """Where the second table is for this place of the guest; 0 where there is none."""
        table = self._entry(self._header.l1_offset + offset // self._span * _ENTRY)
        if table and not self._is_inside(table, self._header.table_size):
            raise failure(errno.EINVAL)
        return table

    def _lookup(self, offset: int) -> int:
        """Where this cluster of the guest is in the file, or what else its entry says."""
        table = self._table(offset)
        if not table:
            return 0
        entry = self._entry(table + offset % self._span // self._cluster * _ENTRY)
        if entry > ZEROS and not self._is_inside(entry):
            raise failure(errno.EINVAL)
        return entry

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of the guest's bytes by clusters: where each begins, and how long it is."""
        end = offset + length
        while offset < end:
            part = min(end - offset, self._cluster - offset % self._cluster)
            yield offset, part
            offset += part

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Lengths, and the entries that say where they are."""
        end = offset + length
        while offset < end:
            if not self._table(offset):
                part, entry = min(end - offset, self._span - offset % self._span), 0
            else:
                part, entry = min(end - offset, self._cluster - offset % self._cluster), self._lookup(offset)
            yield part, entry
            offset += part

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        found = []
        for part, entry in self.pieces(offset, length):
            if entry > ZEROS:
                found.append(self._storage.read(entry + offset % self._cluster, part))
            else:
                found.append(bytes(part) if entry else self._behind(offset, part))
            offset += part
        return b"".join(found)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write; a cluster that is not there yet is taken at the end of the file."""
        data, start = memoryview(data), offset
        for at, part in self._parts(offset, len(data)):
            piece, entry, within = data[at - start : at - start + part], self._lookup(at), at % self._cluster
            if entry > ZEROS:
                self._storage.write(entry + within, piece)
                continue
            first = at - within
            before = bytes(within) if entry else self._behind(first, within)
            rest = self._cluster - within - part
            after = bytes(rest) if entry else self._behind(at + part, rest)
            place = self._take(1)
            self._storage.write(place, before + bytes(piece) + after)
            self._note(at, place)

    def _take(self, clusters: int) -> int:
        place = self.end
        self.end += clusters * self._cluster
        return place

    def _note(self, offset: int, entry: int) -> None:
        """Have the entry of a cluster say this, in a new table if there is none yet."""
        table, index = self._table(offset), offset % self._span // self._cluster
        self._storage.flush()
        if table:
            self._set_entry(table + index * _ENTRY, entry)
            return
        size = self._header.table_size
        table = self._take(size)
        new = bytearray(size * self._cluster)
        new[index * _ENTRY : (index + 1) * _ENTRY] = entry.to_bytes(_ENTRY, "little")
        self._storage.write(table, new)
        self._storage.flush()
        self._set_entry(self._header.l1_offset + offset // self._span * _ENTRY, table)

    def zero(self, offset: int, length: int) -> None:
        """Let them be zeros: whole clusters that are not there by their entries, all else is written."""
        for at, part in self._parts(offset, length):
            entry = self._lookup(at)
            if entry == ZEROS:
                continue
            is_whole = part == self._cluster or (not at % self._cluster and at + part >= self._header.size)
            if entry or not is_whole:
                self.write(at, bytes(part))
            else:
                self._note(at, ZEROS)

    def resize(self, size: int) -> None:
        """Make it larger.

        :raise ImageError: it cannot be.
        """
        if size < self._header.size:
            raise ImageError("Shrinking images is currently not supported", errno.ENOTSUP)
        if size % _SECTOR or size > self._header.largest:
            raise ImageError("Invalid image size specified")
        self._header.size = size
        self._header.write(self._storage)
