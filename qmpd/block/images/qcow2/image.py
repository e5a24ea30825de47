"""One open image: writing, zeros, discard, resizing."""

from __future__ import annotations

import contextlib
import errno
from functools import partial
from typing import TYPE_CHECKING

from qmpd.block.images.errors import CorruptImage, ImageError
from qmpd.block.images.qcow2 import layout, overlaps
from qmpd.block.images.qcow2.check import repair
from qmpd.block.images.qcow2.giving_back import give_back
from qmpd.block.images.qcow2.header import write_header
from qmpd.block.images.qcow2.mapping import EMPTY, Entry, Kind, check_l1
from qmpd.block.images.qcow2.reading import ReadImage, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.images.qcow2.mapping import Table
    from qmpd.block.images.qcow2.reading import Parts
    from qmpd.block.images.storage import Storage


class Qcow2(ReadImage):
    """An open image."""

    __slots__ = ("keeps_room", "passes_on", "passes_snapshots")

    def __init__(
        self, storage: Storage, *, read_only: bool, data: Storage | None = None, parts: Parts | None = None
    ) -> None:
        """Open it; one that was not closed is repaired first where it is to be written.

        :raise ImageError: QEMU would not open it.
        :raise OSError: it cannot be read.
        """
        super().__init__(storage, read_only=read_only, data=data, parts=parts)
        # Whether clusters that the guest needs no more stay its own (`discard-no-unref`).
        self.keeps_room = False
        # Whether the file system is to have the room back that the guest gives back (`pass-discard-request`).
        self.passes_on: Callable[[], bool] = bool
        # The same of what snapshots alone have used (`pass-discard-snapshot`).
        self.passes_snapshots: Callable[[], bool] = bool
        if not read_only:
            self.refcounts.check_tables = partial(overlaps.check, self)
            self._become_writable()

    def _become_writable(self) -> None:
        header = self.header
        if header.incompatible & layout.DIRTY:
            repair(self)
            header.incompatible &= ~layout.DIRTY
            write_header(header, self.storage)
        if header.version >= 3 and header.autoclear & ~layout.KNOWN_AUTOCLEAR:
            header.autoclear &= layout.KNOWN_AUTOCLEAR
            write_header(header, self.storage)

    # Writing

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write the guest's bytes.

        :raise CorruptImage: the image contradicts itself there.
        :raise OSError: they cannot be written.
        """
        view = memoryview(data)
        end = offset + len(view)
        at = offset
        while at < end:
            first, second, _ = self.mapping.split(at)
            stop = min(end, (first + 1) * self.header.l1_reach)
            table = self.mapping.writable_table(first)
            self._write_in_table(table, second, at, view[at - offset : stop - offset])
            at = stop

    def _write_in_table(self, table: Table, index: int, offset: int, view: memoryview) -> None:
        """Write what is all within the reach of one L2 table."""
        size = self.header.cluster_size
        end = offset + len(view)
        at = offset
        while at < end:
            entry = self.mapping.entry(table, index)
            alone = self._is_alone(entry)
            # Clusters that need the same are done together.
            count = 1
            stop = (at // size + 1) * size
            while stop < end:
                following = self.mapping.entry(table, index + count)
                if self._is_alone(following) != alone or (alone and not self._follows(entry, following, count)):
                    break
                count += 1
                stop += size
            stop = min(stop, end)
            part = view[at - offset : stop - offset]
            if alone:
                self._overwrite(table, index, count, at, part)
            else:
                self._write_new(table, index, count, at, part)
            index += count
            at = stop

    def _is_alone(self, entry: Entry) -> bool:
        """Whether a cluster is there and nobody else's, so that it can be written where it is."""
        return bool(entry.value & layout.COPIED) and not entry.value & layout.COMPRESSED

    def _follows(self, first: Entry, entry: Entry, count: int) -> bool:
        place = (first.value & layout.OFFSET) + count * self.header.cluster_size
        return entry.value & layout.OFFSET == place

    def _overwrite(self, table: Table, index: int, count: int, offset: int, part: memoryview) -> None:
        """Write into clusters that are there already."""
        size = self.header.cluster_size
        entries = [self.mapping.entry(table, index + each) for each in range(count)]
        host = entries[0].value & layout.OFFSET
        begin, end = offset % size, offset % size + len(part)
        if self.header.extended:
            self._overwrite_subclusters(table, index, entries, offset, part)
            return
        head = tail = b""
        if entries[0].value & layout.ZERO and begin:
            head = bytes(begin)
        if entries[-1].value & layout.ZERO and end % size:
            tail = bytes(-end % size)
        whole = b"".join([head, part, tail]) if head or tail else part
        self._write_data(host + begin - len(head), whole)
        if any(entry.value & layout.ZERO for entry in entries):
            self.mapping.set_entries(table, index, [Entry(entry.value & ~layout.ZERO) for entry in entries])

    def _overwrite_subclusters(
        self, table: Table, index: int, entries: list[Entry], offset: int, part: memoryview
    ) -> None:
        size = self.header.cluster_size
        sub = size // layout.SUBCLUSTERS
        begin, end = offset, offset + len(part)
        # Subclusters that are written in part and were not there are filled up with what shows there.
        head = self._shown_in(begin // sub * sub, begin, entries[0])
        last_start = end // sub * sub
        tail = self._shown_in(end, last_start + sub, entries[-1]) if end % sub else b""
        if head or tail:
            part = memoryview(b"".join([head, part, tail]))
            begin, end = begin - len(head), end + len(tail)
        self._data.write((entries[0].value & layout.OFFSET) + begin - offset // size * size, part)
        changed = []
        for number, entry in enumerate(entries):
            base = (offset // size + number) * size
            mask = _bits(max(begin - base, 0) // sub, -(-min(end - base, size) // sub))
            changed.append(Entry(entry.value, (entry.bitmap | mask) & ~(mask << 32)))
        if changed != entries:
            self.mapping.set_entries(table, index, changed)

    def _shown_in(self, begin: int, end: int, entry: Entry) -> bytes:
        """What shows in a part of one subcluster that is not there yet; nothing where it is there."""
        if begin == end:
            return b""
        number = begin % self.header.cluster_size // (self.header.cluster_size // layout.SUBCLUSTERS)
        return b"" if entry.bitmap >> number & 1 else self.read(begin, end - begin)

    def _write_new(self, table: Table, index: int, count: int, offset: int, part: memoryview) -> None:
        """Write clusters that are not there yet, or are shared, or compressed: they get a new place."""
        size = self.header.cluster_size
        old = [self.mapping.entry(table, index + each) for each in range(count)]
        unit = self.header.zeroed_unit
        begin, end = offset, offset + len(part)
        # Where the first and the last cluster are written in part, the rest of them is what shows there.
        low = self._copied_from(old[0], begin, unit)
        high = self._copied_to(old[-1], end, unit)
        head = self.read(low, begin - low) if low < begin else b""
        tail = self.read(end, high - end) if end < high else b""
        whole = b"".join([head, part, tail]) if head or tail else part
        base = offset // size * size
        place = self._place(base, count, data=True)
        try:
            self._put(table, index, old, place, base, low, high, whole, unit)
        except OSError:
            # What was taken is given back, as far as the disk lets it be.
            self.refcounts.give_up_allocated()
            with contextlib.suppress(OSError, ImageError):
                self._release([Entry(place + number * size) for number in range(count)])
            raise
        self._release(old)

    def _write_data(self, host: int, data: bytes | memoryview) -> None:
        """Write the guest's data into the file, unless tables are there."""
        if not self.external:
            overlaps.check(self, host, len(data))
        self._data.write(host, data)

    def _put(
        self, table: Table, index: int, old: list[Entry], place: int, base: int, low: int, high: int,
        whole: bytes | memoryview, unit: int,
    ) -> None:  # fmt: skip
        """Write clusters to their new place, and then the entries that point there."""
        size, count = self.header.cluster_size, len(old)
        self._write_data(place + low - base, whole)
        self.refcounts.write_allocated()
        entries = []
        for number in range(count):
            start = base + number * size
            bitmap = 0
            if self.header.extended:
                mask = _bits(max(low - start, 0) // unit, min(-(-(high - start) // unit), layout.SUBCLUSTERS))
                bitmap = mask | old[number].bitmap & ~mask & ~(mask << 32)
            entries.append(Entry(place + number * size | layout.COPIED, bitmap))
        self.mapping.set_entries(table, index, entries)

    def _copied_from(self, entry: Entry, begin: int, unit: int) -> int:
        size = self.header.cluster_size
        if self.header.extended and (entry.value & layout.COMPRESSED or entry.value & layout.OFFSET):
            return begin // size * size
        return begin // unit * unit

    def _copied_to(self, entry: Entry, end: int, unit: int) -> int:
        size = self.header.cluster_size
        if self.header.extended and (entry.value & layout.COMPRESSED or entry.value & layout.OFFSET):
            return -(-end // size) * size
        return -(-end // unit) * unit

    def _place(self, offset: int, count: int, *, data: bool = False) -> int:
        """Room in the file for the guest's clusters from `offset` on (`data`: see `Refcounts.allocate`)."""
        if self.external:
            return offset
        return self.refcounts.allocate(count, data=data) << self.header.cluster_bits

    def _release(self, entries: list[Entry], *, asked: bool = False) -> None:
        """Give back what these entries used; `asked`: the guest needs it no more."""
        give_back(self, entries, self._data if self.external else None, passed=asked and self.passes_on())
        self._compressed = None

    # Room

    def allocate(self, offset: int, length: int) -> None:
        """Give a part of the disk that is not there yet its room, without writing data; whole clusters.

        :raise OSError: the tables cannot be written.
        """
        size = self.header.cluster_size
        for first, index, count in self._runs(offset // size * size, -(-(offset + length) // size) * size):
            table = self.mapping.writable_table(first)
            place = self._place(first * self.header.l1_reach + index * size, count)
            bitmap = 0xFFFF_FFFF if self.header.extended and self.below is nothing else 0
            entries = [Entry(place + each * size | layout.COPIED, bitmap) for each in range(count)]
            self.mapping.set_entries(table, index, entries)

    def write_host(self, host: int, data: bytes) -> None:
        """Write where the guest's data is, whatever the tables say of it.

        :raise OSError: it cannot be written.
        """
        self._data.write(host, data)

    def extend_host(self, size: int) -> None:
        """Let the file where the guest's data is be at least this long.

        :raise OSError: it cannot be done.
        """
        if self._data.size < size:
            self._data.truncate(size)

    # Zeros

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let a part of the disk be zeros, without writing them where the format can say so.

        A cluster of which only a part is meant, and whose rest is zeros as well, is zeros as a whole then.

        :param unmap: the room that whole clusters take may be given back.
        :raise OSError: it cannot be written.
        """
        unit = self.header.zeroed_unit
        end = offset + length
        if self.header.version < 3 and self.below is not nothing:
            self.write(offset, bytes(length))
            return
        first, last = -(-offset // unit) * unit, end // unit * unit
        if first > end:
            self._zero_part(offset, end, unmap=unmap)
            return
        if offset < first:
            self._zero_part(offset, first, unmap=unmap)
        if first < last:
            self._zero_units(first, last, unmap=unmap)
        if last < end and end >= self.size:
            # The guest has nothing behind it.
            self._zero_units(last, last + unit, unmap=unmap)
        elif last < end:
            self._zero_part(last, end, unmap=unmap)

    def _zero_units(self, begin: int, end: int, *, unmap: bool) -> None:
        """Let whole units be zeros."""
        size = self.header.cluster_size
        first, last = min(end, -(-begin // size) * size), end // size * size
        if first < end >= self.size:
            # The guest has nothing behind it: the last cluster is zeros as a whole.
            last = -(-end // size) * size
        if begin < first:
            self._zero_subclusters(begin, first)
        if first < last:
            self._zero_clusters(first, last, unmap=unmap)
        rest = max(first, last)
        if rest < end:
            self._zero_subclusters(rest, end)

    def _zero_subclusters(self, begin: int, end: int) -> None:
        """Let some subclusters of one cluster be zeros; the room that they have is kept."""
        first, index, inside = self.mapping.split(begin)
        table = self.mapping.writable_table(first)
        entry = self.mapping.entry(table, index)
        if entry.value & layout.COMPRESSED:
            self.write(begin, bytes(end - begin))
            return
        unit = self.header.zeroed_unit
        bits = (1 << (end - begin) // unit) - 1 << inside // unit
        zeroed = Entry(entry.value, (entry.bitmap | bits << 32) & ~bits)
        if zeroed != entry:
            self.mapping.set_entries(table, index, [zeroed])

    def _zero_part(self, begin: int, end: int, *, unmap: bool) -> None:
        """Let a part of one unit be zeros."""
        size = self.header.zeroed_unit
        start = begin // size * size
        stop = start + size
        if (
            self._reads_as_zeros(start, begin)
            and self._reads_as_zeros(end, min(stop, self.size))
            and not any(piece.kind in (Kind.DATA, Kind.COMPRESSED) for piece in self.pieces(start, size))
        ):
            self._zero_units(start, stop, unmap=unmap)
        else:
            self.write(begin, bytes(end - begin))

    def _reads_as_zeros(self, begin: int, end: int) -> bool:
        """Whether a part of the disk is known to be zeros, without reading it."""
        for piece in self.pieces(begin, max(0, end - begin)):
            if piece.kind in (Kind.DATA, Kind.COMPRESSED):
                return False
            if piece.kind is Kind.UNALLOCATED and not self.below_is_zero(begin, piece.length):
                return False
            begin += piece.length
        return True

    def _zero_clusters(self, begin: int, end: int, *, unmap: bool) -> None:
        if self.header.version < 3:
            # It cannot say that a cluster is zeros, but what is not there and has nothing behind it is.
            self.discard(begin, end - begin, wholly=True)
            return
        for first, index, count in self._runs(begin, end):
            table = self.mapping.writable_table(first)
            old = [self.mapping.entry(table, index + each) for each in range(count)]
            new, freed = [], []
            for entry in old:
                keep = self._is_alone(entry) and (not unmap or self._keeps(entry))
                value = entry.value & (layout.OFFSET | layout.COPIED) if keep else 0
                if self.external:
                    value = entry.value & (layout.OFFSET | layout.COPIED)
                zeroed = Entry(value, 0xFFFF_FFFF << 32) if self.header.extended else Entry(value | layout.ZERO)
                new.append(zeroed)
                if zeroed != entry and not keep:
                    freed.append(entry)
            if new != old:
                self.mapping.set_entries(table, index, new)
                self._release(freed, asked=True)

    def _runs(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Whole clusters by L2 table: the table's index, the first cluster's, and how many there are."""
        size = self.header.cluster_size
        while begin < end:
            first, index, _ = self.mapping.split(begin)
            count = min((end - begin) // size, self.header.l2_entries - index)
            yield first, index, count
            begin += count * size

    def discard(self, offset: int, length: int, *, wholly: bool = False) -> None:
        """Give back the room of whole clusters: they read as zeros then, or as what is below where `wholly`.

        :raise OSError: it cannot be written.
        """
        size = self.header.cluster_size
        begin, end = -(-offset // size) * size, (offset + length) // size * size
        if offset + length == self.size:
            end = -(-self.size // size) * size
        if self.header.version < 3 and self.below is not nothing and not wholly:
            return
        for first, index, count in self._runs(begin, max(begin, end)):
            # As with QEMU there is a table afterwards even where nothing was.
            table = self.mapping.writable_table(first)
            old = [self.mapping.entry(table, index + each) for each in range(count)]
            new = [self._discarded(entry, wholly=wholly) for entry in old]
            if new != old:
                self.mapping.set_entries(table, index, new)
                pairs = [each for each in zip(old, new, strict=True) if each[0] != each[1]]
                self._release([old for old, new in pairs if not new.value & layout.OFFSET], asked=True)

    def _discarded(self, entry: Entry, *, wholly: bool) -> Entry:
        if wholly:
            return EMPTY
        allocated = bool(entry.value & (layout.COMPRESSED | layout.OFFSET))
        if not allocated and (self.below is nothing or self._is_zero(entry)):
            return entry
        kept = entry.value & (layout.OFFSET | layout.COPIED) if self._keeps(entry) else 0
        if self.header.extended:
            return Entry(kept, 0xFFFF_FFFF << 32)
        return Entry(kept | layout.ZERO if self.header.version >= 3 else 0)

    def _keeps(self, entry: Entry) -> bool:
        return self.keeps_room and self.header.version >= 3 and not entry.value & layout.COMPRESSED

    def _is_zero(self, entry: Entry) -> bool:
        if self.header.extended:
            return entry.bitmap == 0xFFFF_FFFF << 32
        return bool(entry.value & layout.ZERO)

    # The whole

    def resize(self, size: int, *, with_bitmaps: bool = False) -> None:
        """Let the guest's disk be this large.  What is cut off is gone; what is added reads as zeros.

        As with QEMU the rest of what was the last cluster is an exception: it may have what a larger disk had there.

        :param with_bitmaps: the image's bitmaps are in memory, and are stored anew.

        :raise ImageError: the image cannot be made so large, or must not.
        :raise OSError: it cannot be written.
        """
        header = self.header
        if size % layout.SECTOR:
            raise ImageError("The new size must be a multiple of 512")
        if header.snapshots and header.version < 3:
            # Such an image does not always say how large its snapshots are.
            raise ImageError("Can't resize a v2 image which has snapshots", errno.ENOTSUP)
        if header.bitmaps is not None and not with_bitmaps and size != header.size:
            raise ImageError("Cannot resize an image with bitmaps", errno.ENOTSUP)
        old = header.size
        whole = -(-old // header.cluster_size) * header.cluster_size
        if header.version < 3 and whole < size and self.below_size > old:
            # It cannot say that a cluster is zeros, and what is behind it would show.
            raise ImageError("Failed to zero out new clusters: Operation not supported", errno.ENOTSUP)
        check_l1(-(-size // header.l1_reach))
        if size < old:
            begin = -(-size // header.cluster_size) * header.cluster_size
            end = -(-old // header.cluster_size) * header.cluster_size
            self.discard(begin, end - begin, wholly=True)
        header.size = size
        if size < old:
            self.mapping.drop_l2_tables(header.needed_l1)
        if header.needed_l1 > header.l1_size:
            self.mapping.grow_l1(header.needed_l1)
        write_header(header, self.storage)
        if self.external:
            self._data.truncate(size)
        if size <= old:
            self._cut_file()
            return
        if self.below_size > old:
            # What the backing file has there must not show. The rest of what is there in part is written.
            unit = header.zeroed_unit
            start = min(size, -(-old // unit) * unit)
            if start < size:
                self._zero_units(start, -(-size // unit) * unit, unmap=False)
            if old < start:
                self.write(old, bytes(start - old))

    def _cut_file(self) -> None:
        """Let the file end with the last cluster that is used."""
        size = self.header.cluster_size
        last = -(-self.storage.size // size)
        while last and not self.refcounts.get(last - 1):
            last -= 1
        if last * size < self.storage.size:
            self.storage.truncate(last * size)

    def flush(self) -> None:
        """Return when all that was written is where it survives.

        :raise OSError: it cannot be done.
        """
        if self.external:
            self._data.flush()
        self.storage.flush()

    def make_corrupt(self, error: CorruptImage) -> None:
        """Mark the image as one that contradicts itself, so that nobody writes to it any more."""
        if self._corrupt or self.read_only or not error.fatal or self.header.version < 3:
            return
        self._corrupt = True
        self.header.incompatible |= layout.CORRUPT
        write_header(self.header, self.storage)


def _bits(first: int, end: int) -> int:
    return (1 << end) - (1 << first) if end > first else 0
