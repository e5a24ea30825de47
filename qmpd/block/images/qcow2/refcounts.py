"""Who uses which cluster of the file: reference counts, finding free clusters, giving clusters back."""

from __future__ import annotations

import errno
import sys
from array import array
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

from qmpd.block.images.errors import CorruptImage, ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import write_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.images.qcow2.header import Header
    from qmpd.block.images.storage import Storage

CACHE = 4 << 20
"""Bytes of reference count blocks that are kept in memory."""

# The type of array elements for each width of a count that is a whole number of bytes.
_TYPES = {3: "B", 4: "H", 5: "I", 6: "Q"}
# So many counts are looked at in the first place, and at most at once.
_PIECE, _MOST = 64, 1 << 14


class Block:
    """One reference count block: so many counts, of so many bits each, as they are in the file."""

    __slots__ = ("_data", "_order")

    def __init__(self, data: bytes, order: int) -> None:
        self._data = bytearray(data)
        self._order = order

    def get(self, index: int) -> int:
        """The count of a cluster."""
        if self._order >= 3:
            width = 1 << self._order - 3
            return int.from_bytes(self._data[index * width : (index + 1) * width], "big")
        bits = 1 << self._order
        place = index * bits
        return self._data[place >> 3] >> (place & 7) & (1 << bits) - 1

    def set(self, index: int, count: int) -> None:
        """Set the count of a cluster."""
        if self._order >= 3:
            width = 1 << self._order - 3
            self._data[index * width : (index + 1) * width] = count.to_bytes(width, "big")
            return
        bits = 1 << self._order
        place = index * bits
        kept = self._data[place >> 3] & ~((1 << bits) - 1 << (place & 7))
        self._data[place >> 3] = kept | count << (place & 7)

    def slice(self, first: int, last: int) -> tuple[int, bytes]:
        """The bytes that hold the counts from `first` to `last`, and where in the block they begin."""
        bits = 1 << self._order
        begin, end = first * bits >> 3, ((last + 1) * bits + 7) >> 3
        return begin, bytes(self._data[begin:end])

    def __len__(self) -> int:
        """How many counts there are."""
        return (len(self._data) << 3) >> self._order

    def counts(self, first: int = 0, last: int | None = None) -> list[int] | array[int]:
        """The counts from `first` on, up to the one before `last`."""
        last = len(self) if last is None else last
        kind = _TYPES.get(self._order)
        if kind is None:
            in_byte = 8 >> self._order
            begin = first // in_byte
            apart = _apart(self._order)
            found = [count for byte in self._data[begin : -(-last // in_byte)] for count in apart[byte]]
            return found[first - begin * in_byte : last - begin * in_byte]
        width = 1 << self._order - 3
        counts = array(kind, bytes(self._data[first * width : last * width]))
        if sys.byteorder == "little":
            counts.byteswap()
        return counts

    def free_run(self, start: int, wanted: int) -> tuple[int, int]:
        """The first run of free clusters from `start` on: its beginning and its length, at most `wanted`."""
        total, piece, begin = len(self), _PIECE, -1
        while start < total:
            # Most often what is wanted is where one begins to look, so that not the whole block is read.
            counts = self.counts(start, min(total, start + piece))
            place = 0
            if begin < 0:
                if 0 not in counts:
                    start, piece = start + len(counts), min(piece * 4, _MOST)
                    continue
                place = counts.index(0)
                begin = start + place
            end = next((index for index in range(place, len(counts)) if counts[index]), len(counts))
            if start + end - begin >= wanted:
                return begin, wanted
            if end < len(counts):
                return begin, start + end - begin
            start, piece = start + len(counts), min(piece * 4, _MOST)
        return (total, 0) if begin < 0 else (begin, total - begin)


@cache
def _apart(order: int) -> list[tuple[int, ...]]:
    """The counts in each byte, where several are in one."""
    bits = 1 << order
    return [tuple(byte >> place & (1 << bits) - 1 for place in range(0, 8, bits)) for byte in range(256)]


class Refcounts:
    """The reference counts of an image."""

    __slots__ = ("_cache", "_header", "_hint", "_most", "_storage", "_table", "_unwritten", "check_tables", "per_block")

    def __init__(self, storage: Storage, header: Header) -> None:
        """Read the table.

        :raise OSError: it cannot be read.
        """
        self._storage = storage
        self._header = header
        self._table = array("Q", storage.read(header.refcount_offset, header.refcount_clusters << header.cluster_bits))
        if sys.byteorder == "little":
            self._table.byteswap()
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self._most = max(2, CACHE >> header.cluster_bits)
        self._hint = 0
        # Counts that have changed in memory alone: the blocks and the first and last place in them.
        self._unwritten: list[tuple[int, Block, int, int]] = []
        self.per_block = (header.cluster_size << 3) >> header.refcount_order
        # Refuses to write over the image's tables; it is given a place in the file, and how many bytes.
        self.check_tables: Callable[[int, int], None] | None = None

    @property
    def largest(self) -> int:
        """The largest count that an entry can hold."""
        return (1 << (1 << self._header.refcount_order)) - 1

    def blocks(self) -> list[int]:
        """Where the blocks are, the missing ones left out."""
        return [entry & ~layout.REFCOUNT_TABLE_RESERVED for entry in self._table if entry]

    def _block(self, index: int) -> Block | None:
        """A block; None where there is none, so that all its counts are 0."""
        if not self._has_block(index):
            return None
        block = self._cache.get(index)
        if block is not None:
            self._cache.move_to_end(index)
            return block
        offset = self._table[index] & ~layout.REFCOUNT_TABLE_RESERVED
        if offset % self._header.cluster_size:
            raise CorruptImage(f"Refblock offset {offset:#x} unaligned (reftable index: {index:#x})")
        block = Block(self._storage.read(offset, self._header.cluster_size), self._header.refcount_order)
        self._keep(index, block)
        return block

    def _has_block(self, index: int) -> bool:
        return index < len(self._table) and bool(self._table[index])

    def _keep(self, index: int, block: Block) -> None:
        self._cache[index] = block
        if len(self._cache) > self._most:
            self._cache.popitem(last=False)

    def get(self, cluster: int) -> int:
        """How often a cluster is used.

        :raise CorruptImage: the table points to nowhere.
        """
        block = self._block(cluster // self.per_block)
        return 0 if block is None else block.get(cluster % self.per_block)

    def change(
        self, first: int, count: int, by: int, *, later: bool = False, freed: list[int] | None = None
    ) -> None:  # fmt: skip
        """Use clusters once more (`by` 1), or once less (-1); `later`: see `write_allocated`.

        `freed` gets those that nobody uses any more.

        :raise CorruptImage: a count would go below 0.
        :raise ImageError: a count would become too large.
        :raise OSError: the counts cannot be written.
        """
        end = first + count
        while first < end:
            index, begin = divmod(first, self.per_block)
            stop = min(self.per_block, begin + end - first)
            if by > 0:
                self._ensure(index)
            block = self._block(index)
            if block is None:
                raise CorruptImage(f"Refcount of cluster {first} is 0 already", fatal=False)
            for each in range(begin, stop):
                changed = block.get(each) + by
                if changed < 0:
                    raise CorruptImage(f"Refcount of cluster {index * self.per_block + each} is 0 already", fatal=False)
                if changed > self.largest:
                    raise ImageError("Reference count overflow", errno.EINVAL)
                block.set(each, changed)
                if changed == 0:
                    self._hint = min(self._hint, index * self.per_block + each)
                    if freed is not None:
                        freed.append(index * self.per_block + each)
            if later:
                self._unwritten.append((index, block, begin, stop - 1))
            else:
                self._write(index, block, begin, stop - 1)
            first += stop - begin

    def write_allocated(self) -> None:
        """Write the counts of the clusters that were taken as `data`; before an entry of a table points to them.

        :raise OSError: they cannot be written.
        """
        for each in self._unwritten:
            self._write(*each)
        self._unwritten.clear()

    def give_up_allocated(self) -> None:
        """The clusters that were taken as `data` are given back at once; nothing has to be written first."""
        self._unwritten.clear()

    def _write(self, index: int, block: Block, first: int, last: int) -> None:
        place, data = block.slice(first, last)
        self._storage.write((self._table[index] & ~layout.REFCOUNT_TABLE_RESERVED) + place, data)

    def set_all(self, counts: dict[int, int]) -> None:
        """Let the counts be these and all others 0; for a repair."""
        for index in range(len(self._table)):
            block = self._block(index)
            if block is not None:
                base = index * self.per_block
                for each in range(self.per_block):
                    block.set(each, min(counts.get(base + each, 0), self.largest))
                self._write(index, block, 0, self.per_block - 1)
        for cluster, count in sorted(counts.items()):
            if count and self._block(cluster // self.per_block) is None:
                self._ensure(cluster // self.per_block)
            missing = count - self.get(cluster)
            if missing > 0:
                self.change(cluster, 1, missing)
        self._hint = 0

    def begin_anew(self, place: int, used: int) -> None:
        """Count from nothing: the table that the header names now, one cluster of zeros, gets one block.

        `place` is the block's cluster; the first clusters, `used` of them, are used once each.

        :raise OSError: the counts cannot be written.
        """
        header = self._header
        self._table = array("Q", bytes(header.cluster_size))
        self._table[0] = place << header.cluster_bits
        self._cache.clear()
        self._unwritten.clear()
        self._keep(0, Block(bytes(header.cluster_size), header.refcount_order))
        self._write_entry(0)
        self.change(0, used, 1)
        self._hint = 0

    # Finding room

    def allocate(self, count: int, *, data: bool = False) -> int:
        """Use so many free clusters, one behind the other; the first of them.

        :param data: they are the guest's, which is written first, and `write_allocated` is called then.
        :raise OSError: the counts cannot be written.
        """
        if count >= self.per_block:
            # Each block would be in the way of such a run.
            return self._allocate_behind(count)
        first = self._find(count)
        while missing := [index for index in self._indices(first, count) if not self._has_block(index)]:
            # A block that has to be made may be put where the room was found.
            for index in missing:
                self._ensure(index, first + count)
            first = self._find(count)
        self.change(first, count, 1, later=data)
        self._hint = first + count
        return first

    def _indices(self, first: int, count: int) -> range:
        return range(first // self.per_block, (first + count - 1) // self.per_block + 1)

    def _find(self, wanted: int) -> int:
        """The first run of so many free clusters."""
        start = run = self._hint
        length = 0
        while length < wanted:
            index, place = divmod(start, self.per_block)
            block = self._block(index)
            if block is None:
                length += self.per_block - place
                start += self.per_block - place
                continue
            begin, found = block.free_run(place, wanted - length)
            if length and begin != place:
                length = 0
            if length == 0:
                run = index * self.per_block + begin
            length += found
            start = index * self.per_block + begin + found
            if length < wanted and begin + found < self.per_block:
                length = 0
        return run

    def _ensure(self, index: int, behind: int = 0) -> None:
        """Have a block for these clusters: it is put at their beginning, where nothing else can be yet.

        `behind` is the cluster behind what is being taken: QEMU looks for room for the block from there on, which finds
        tables where the image says that nothing of it is counted.
        """
        if index >= len(self._table):
            self._grow(index)
        if self._table[index]:
            return
        if index == 0:
            self._refuse_first(behind)
        header = self._header
        block = Block(bytes(header.cluster_size), header.refcount_order)
        block.set(0, 1)
        cluster = index * self.per_block
        _, data = block.slice(0, self.per_block - 1)
        self._storage.write(cluster << header.cluster_bits, data)
        self._table[index] = cluster << header.cluster_bits
        self._keep(index, block)
        self._write_entry(index)

    def _refuse_first(self, behind: int) -> None:
        """The block that counts the image's own header is missing.

        :raise CorruptImage: always.
        """
        size = self._header.cluster_size
        if behind and self.check_tables is not None:
            self.check_tables(behind * size, size)
            self.check_tables(0, size)
        raise CorruptImage("Preventing invalid allocation of refcount block at offset 0")

    def _write_entry(self, index: int) -> None:
        entry = self._table[index].to_bytes(8, "big")
        self._storage.write(self._header.refcount_offset + index * 8, entry)

    def _allocate_behind(self, count: int) -> int:
        """Use clusters behind all that is counted yet, with the blocks that count them in front."""
        while True:
            index = 1 + max(number for number, entry in enumerate(self._table) if entry)
            blocks = self._blocks_for(count)
            if index + blocks <= len(self._table):
                break
            self._grow(index + blocks - 1)
        for number in self._make_blocks(self._table, index, blocks, count):
            self._write_entry(number)
        self._hint = index * self.per_block + blocks + count
        return index * self.per_block + blocks

    def _blocks_for(self, count: int) -> int:
        """How many blocks it takes to count so many clusters and the blocks themselves."""
        blocks = 1
        while blocks * self.per_block < blocks + count:
            blocks = -(-(blocks + count) // self.per_block)
        return blocks

    def _make_blocks(self, table: array[int], index: int, blocks: int, count: int) -> range:
        """Make blocks that lie one behind the other at the beginning of what they count, with `count` clusters behind.

        They count themselves and these clusters.
        """
        header = self._header
        start, used = index * self.per_block, blocks + count
        for number in range(blocks):
            block = Block(bytes(header.cluster_size), header.refcount_order)
            for each in range(min(self.per_block, used - number * self.per_block)):
                block.set(each, 1)
            table[index + number] = start + number << header.cluster_bits
            self._storage.write(table[index + number], block.slice(0, self.per_block - 1)[1])
            self._keep(index + number, block)
        return range(index, index + blocks)

    def _grow(self, index: int) -> None:
        """Move the table to where there is room for this entry and half as many again: behind all that is counted."""
        header = self._header
        entries = header.cluster_size // 8
        first = len(self._table)
        clusters = -(-max(index + 2, first * 3 // 2) // entries)
        while first + self._blocks_for(clusters) > clusters * entries:
            clusters += 1
        if clusters << header.cluster_bits > layout.LARGEST_REFCOUNT_TABLE:
            raise ImageError("Image is too big", errno.EFBIG)
        old = header.refcount_offset >> header.cluster_bits, header.refcount_clusters
        blocks = self._blocks_for(clusters)
        table = array("Q", self._table)
        table.extend([0] * (clusters * entries - len(table)))
        self._make_blocks(table, first, blocks, clusters)
        header.refcount_offset = first * self.per_block + blocks << header.cluster_bits
        header.refcount_clusters = clusters
        swapped = array("Q", table)
        if sys.byteorder == "little":
            swapped.byteswap()
        self._storage.write(header.refcount_offset, swapped.tobytes())
        write_header(header, self._storage)
        self._table = table
        self.change(*old, -1)
