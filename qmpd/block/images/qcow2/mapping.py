"""Where each of the guest's clusters is: the L1 table, the L2 tables, and what their entries mean."""

from __future__ import annotations

import contextlib
import enum
import errno
import sys
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.images.errors import CorruptImage, ImageError, text
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import write_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.images.qcow2.header import Header
    from qmpd.block.images.qcow2.refcounts import Refcounts
    from qmpd.block.images.storage import Storage

CACHE = 8 << 20
"""Bytes of L2 tables that are kept in memory."""

PAGE = 65536
"""Bytes of the L1 table that are read at once."""


class Kind(enum.Enum):
    """What is behind a piece of the guest's disk."""

    UNALLOCATED = "unallocated"
    """Nothing: what the image below has shows."""
    ZERO = "zero"
    """Zeros, of which the file holds nothing."""
    ZERO_ALLOCATED = "zero, allocated"
    """Zeros, for which there is room in the file."""
    DATA = "data"
    COMPRESSED = "compressed"


class Piece(NamedTuple):
    """A piece of the guest's disk that is all of one kind.

    `length` is in bytes; `host` is where in the file it begins, for a compressed cluster where that cluster's data is,
    whose length at most is `stored`.
    """

    length: int
    kind: Kind
    host: int = 0
    stored: int = 0


class Entry(NamedTuple):
    """An entry of an L2 table, with the bitmap of its subclusters (0 where the image has none)."""

    value: int
    bitmap: int = 0


EMPTY = Entry(0)


class Table:
    """A table of 64-bit numbers, as it is in the file, in the computer's own byte order."""

    __slots__ = ("numbers", "offset")

    def __init__(self, offset: int, numbers: array[int]) -> None:
        self.offset = offset
        self.numbers = numbers


def _hex(number: int) -> str:
    """A number as C's `%#x` has it."""
    return f"{number:#x}" if number else "0"


def check_l1(entries: int) -> None:
    """Refuse an L1 table of so many entries where that is too many.

    :raise ImageError: it is.
    """
    if entries > layout.LARGEST_L1_TABLE // 8:
        raise ImageError(f"Failed to grow the L1 table: {text(errno.EFBIG)}", errno.EFBIG)


def decode(data: bytes) -> array[int]:
    """Big-endian 64-bit numbers."""
    numbers = array("Q", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def encode(numbers: array[int]) -> bytes:
    """The same as bytes."""
    if sys.byteorder == "little":
        numbers = array("Q", numbers)
        numbers.byteswap()
    return numbers.tobytes()


class Mapping:
    """The tables of one image: the active ones, or those of a snapshot."""

    __slots__ = ("_cache", "_header", "_most", "_pages", "_refcounts", "_storage", "l1_offset", "l1_size")

    def __init__(self, storage: Storage, header: Header, refcounts: Refcounts, l1_offset: int, l1_size: int) -> None:
        self._storage = storage
        self._header = header
        self._refcounts = refcounts
        self.l1_offset = l1_offset
        self.l1_size = l1_size
        self._pages: dict[int, array[int]] = {}
        self._cache: OrderedDict[int, Table] = OrderedDict()
        self._most = max(2, CACHE >> header.cluster_bits)

    def forget(self) -> None:
        """Read everything anew from now on."""
        self._pages.clear()
        self._cache.clear()

    # The L1 table

    def l1_entry(self, index: int) -> int:
        """An entry of the L1 table, 0 beyond its end."""
        if index >= self.l1_size:
            return 0
        number, place = divmod(index, PAGE // 8)
        page = self._pages.get(number)
        if page is None:
            length = min(PAGE, self.l1_size * 8 - number * PAGE)
            page = self._pages[number] = decode(self._storage.read(self.l1_offset + number * PAGE, length))
        return page[place]

    def set_l1_entry(self, index: int, entry: int) -> None:
        """Write an entry of the L1 table.

        :raise OSError: it cannot be written.
        """
        self.l1_entry(index)
        self._storage.write(self.l1_offset + index * 8, entry.to_bytes(8, "big"))
        self._pages[index // (PAGE // 8)][index % (PAGE // 8)] = entry

    def l1_entries(self) -> Iterator[tuple[int, int]]:
        """The entries that are not 0, with their index."""
        for index in range(self.l1_size):
            entry = self.l1_entry(index)
            if entry:
                yield index, entry

    def grow_l1(self, entries: int) -> None:
        """Let the active L1 table have at least so many entries: it moves.

        :raise ImageError: it would be too large.
        :raise OSError: it cannot be written.
        """
        header = self._header
        if entries <= self.l1_size:
            return
        check_l1(entries)
        content = self._storage.read(self.l1_offset, self.l1_size * 8).ljust(entries * 8, b"\0")
        old = self.l1_offset >> header.cluster_bits, self._clusters(self.l1_size * 8)
        place = self._refcounts.allocate(self._clusters(len(content))) << header.cluster_bits
        self._storage.write(place, content)
        header.l1_offset = self.l1_offset = place
        header.l1_size = self.l1_size = entries
        write_header(header, self._storage)
        self._pages.clear()
        if old[1]:
            self._refcounts.change(*old, -1)

    def drop_l2_tables(self, entries: int) -> None:
        """Give back the L2 tables behind so many entries of the L1 table; nothing of the guest's is in them.

        :raise OSError: it cannot be written.
        """
        for index, _ in [each for each in self.l1_entries() if each[0] >= entries]:
            offset = self.l2_offset(index)
            self.set_l1_entry(index, 0)
            if offset:
                self.drop_table(offset)
                self._refcounts.change(offset >> self._header.cluster_bits, 1, -1)

    def _clusters(self, length: int) -> int:
        return -(-length // self._header.cluster_size)

    # The L2 tables

    def l2_offset(self, index: int) -> int:
        """Where the L2 table of an entry of the L1 table is; 0 where there is none.

        :raise CorruptImage: the entry points to nowhere.
        """
        offset = self.l1_entry(index) & layout.OFFSET
        if offset % self._header.cluster_size:
            raise CorruptImage(f"L2 table offset {_hex(offset)} unaligned (L1 index: {_hex(index)})")
        return offset

    def table(self, offset: int) -> Table:
        """The L2 table that is there."""
        table = self._cache.get(offset)
        if table is None:
            table = Table(offset, decode(self._storage.read(offset, self._header.cluster_size)))
            self._cache[offset] = table
            if len(self._cache) > self._most:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(offset)
        return table

    def tables_at_hand(self) -> list[int]:
        """Where the L2 tables are that are kept in memory."""
        return list(self._cache)

    def drop_table(self, offset: int) -> None:
        """An L2 table is no longer there."""
        self._cache.pop(offset, None)

    def writable_table(self, index: int) -> Table:
        """The L2 table of an entry of the L1 table, made or copied where it is not this image's alone.

        :raise OSError: it cannot be written.
        """
        header = self._header
        if index >= self.l1_size:
            self.grow_l1(max(index + 1, header.needed_l1))
        old = self.l2_offset(index)
        if old and self.l1_entry(index) & layout.COPIED:
            return self.table(old)
        numbers = array("Q", self.table(old).numbers) if old else array("Q", bytes(header.cluster_size))
        place = self._refcounts.allocate(1) << header.cluster_bits
        try:
            self._storage.write(place, encode(numbers))
            self.set_l1_entry(index, place | layout.COPIED)
        except OSError:
            # What was taken is given back, as far as the disk lets it be.
            with contextlib.suppress(OSError):
                self._refcounts.change(place >> header.cluster_bits, 1, -1)
            raise
        self._cache[place] = Table(place, numbers)
        if old:
            self._refcounts.change(old >> header.cluster_bits, 1, -1)
        return self.table(place)

    def entry(self, table: Table, index: int) -> Entry:
        """An entry of an L2 table."""
        if self._header.extended:
            return Entry(table.numbers[index * 2], table.numbers[index * 2 + 1])
        return Entry(table.numbers[index])

    def set_entries(self, table: Table, index: int, entries: list[Entry]) -> None:
        """Write entries of an L2 table, one behind the other.

        :raise OSError: they cannot be written.
        """
        if self._header.extended:
            numbers = array("Q", [number for entry in entries for number in entry])
            first = index * 2
        else:
            numbers = array("Q", [entry.value for entry in entries])
            first = index
        self._storage.write(table.offset + first * 8, encode(numbers))
        table.numbers[first : first + len(numbers)] = numbers

    def split(self, offset: int) -> tuple[int, int, int]:
        """The indices into the L1 and the L2 table of one of the guest's bytes, and its place in its cluster."""
        cluster, within = divmod(offset, self._header.cluster_size)
        first, second = divmod(cluster, self._header.l2_entries)
        return first, second, within

    # What is where

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """What a part of the guest's disk is, piece by piece; neighbours that belong together are one piece.

        :raise CorruptImage: an entry points to nowhere.
        :raise OSError: a table cannot be read.
        """
        last: Piece | None = None
        for piece in self._raw_pieces(offset, length):
            if last is None:
                last = piece
            elif self._continues(last, piece):
                last = last._replace(length=last.length + piece.length)
            else:
                yield last
                last = piece
        if last is not None:
            yield last

    @staticmethod
    def _continues(last: Piece, piece: Piece) -> bool:
        if last.kind is not piece.kind or piece.kind is Kind.COMPRESSED:
            return False
        return piece.kind in (Kind.UNALLOCATED, Kind.ZERO) or last.host + last.length == piece.host

    def _raw_pieces(self, offset: int, length: int) -> Iterator[Piece]:
        end = offset + length
        size = self._header.cluster_size
        while offset < end:
            first, second, within = self.split(offset)
            table_offset = self.l2_offset(first)
            if not table_offset:
                run = min(end - offset, self._header.l1_reach - second * size - within)
                yield Piece(run, Kind.UNALLOCATED)
                offset += run
                continue
            table = self.table(table_offset)
            for index in range(second, self._header.l2_entries):
                run = min(end - offset, size - within)
                yield from self._of_entry(self.entry(table, index), offset, within, run)
                offset += run
                within = 0
                if offset >= end:
                    return

    def _of_entry(self, entry: Entry, offset: int, within: int, length: int) -> Iterator[Piece]:
        """The pieces of one cluster, from `within` on."""
        value = entry.value
        if value & layout.COMPRESSED:
            host, stored = self.compressed(value)
            yield Piece(length, Kind.COMPRESSED, host, stored)
            return
        host = value & layout.OFFSET
        if self._header.extended:
            yield from self._of_subclusters(host, entry.bitmap, offset, within, length)
            return
        self._check(host, offset)
        if value & layout.ZERO and self._header.version >= 3:
            yield Piece(length, Kind.ZERO_ALLOCATED if host else Kind.ZERO, host + within if host else 0)
        elif host or (value & layout.COPIED and self._header.incompatible & layout.DATA_FILE):
            yield Piece(length, Kind.DATA, host + within)
        else:
            yield Piece(length, Kind.UNALLOCATED)

    def _check(self, host: int, offset: int) -> None:
        if host % self._header.cluster_size:
            first, second, _ = self.split(offset)
            place = f"(L2 offset: {_hex(self.l2_offset(first))}, L2 index: {_hex(second)})"
            raise CorruptImage(f"Cluster allocation offset {_hex(host)} unaligned {place}")

    def _of_subclusters(self, host: int, bitmap: int, offset: int, within: int, length: int) -> Iterator[Piece]:
        self._check(host, offset)
        size = self._header.cluster_size // layout.SUBCLUSTERS
        end = within + length
        while within < end:
            number = within // size
            run = min(end, (number + 1) * size) - within
            if bitmap >> 32 + number & 1:
                if bitmap >> number & 1:
                    raise CorruptImage(f"Invalid cluster entry found (L2 offset: {_hex(offset)})")
                yield Piece(run, Kind.ZERO_ALLOCATED if host else Kind.ZERO, host + within if host else 0)
            elif bitmap >> number & 1:
                if not host and not self._header.incompatible & layout.DATA_FILE:
                    raise CorruptImage(f"Invalid cluster entry found (L2 offset: {_hex(offset)})")
                yield Piece(run, Kind.DATA, host + within)
            else:
                yield Piece(run, Kind.UNALLOCATED)
            within += run

    def compressed(self, value: int) -> tuple[int, int]:
        """Where the data of a compressed cluster is, and how long it is at most."""
        bits = 62 - (self._header.cluster_bits - 8)
        host = value & (1 << bits) - 1
        sectors = (value >> bits & (1 << self._header.cluster_bits - 8) - 1) + 1
        return host, sectors * layout.SECTOR - (host & layout.SECTOR - 1)

    def host_clusters(self, entry: Entry) -> range:
        """The clusters of the file that an entry of an L2 table uses."""
        bits = self._header.cluster_bits
        if entry.value & layout.COMPRESSED:
            host, stored = self.compressed(entry.value)
            # Both ends are rounded to sectors.
            return range(host >> bits, ((host & -layout.SECTOR) + self._sectors(host, stored) - 1 >> bits) + 1)
        host = entry.value & layout.OFFSET
        return range(host >> bits, (host >> bits) + 1) if host else range(0)

    @staticmethod
    def _sectors(host: int, stored: int) -> int:
        return stored + (host & layout.SECTOR - 1)
