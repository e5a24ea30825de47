"""One dirty bitmap: what was written of a node since it was made, or cleared.  (QEMU's block/dirty-bitmap.c.)"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from qmpd.block.bitmaps.bits import Bits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_WORD_BITS = 64
_PLAIN = (
    "name", "granularity", "size", "enabled", "persistent", "busy", "inconsistent", "read_only", "stored", "purpose",
)  # fmt: skip


class DirtyBitmap:
    """A bitmap of a node.  All offsets, lengths and sizes are in bytes; a bit stands for `granularity` of them.

    `name` is None for one that a job has made for itself.  `enabled`: it notes writes.  `busy`: somebody works with it.
    `inconsistent`: whoever had the image open before has not stored it, so that it says nothing.  `read_only`: it came
    from an image that is not to be written.  `stored`: it is to be written to the image when that is closed, where it
    is `persistent`.  `successor` notes what is written while a job works with this one.  `purpose` is what a node needs
    one for that it has made for itself, and `carried` whether another process has left that.  `is_awaited`: what is in
    it is still to come, with a migration, so that it is not to be stored.

    Disk threads note writes, and the main loop reads: each call is safe in either.
    """

    __slots__ = (*_PLAIN, "_bits", "_lock", "carried", "is_awaited", "successor")

    name: str | None
    granularity: int
    size: int
    enabled: bool
    persistent: bool
    busy: bool
    inconsistent: bool
    read_only: bool
    stored: bool
    purpose: str

    def __init__(self, name: str | None, granularity: int, size: int, *, enabled: bool = True) -> None:
        self.name = name
        self.granularity = granularity
        self.size = size
        self.enabled = enabled
        self.persistent = False
        self.busy = False
        self.inconsistent = False
        self.read_only = False
        self.stored = True
        self.purpose = ""
        self.carried = False
        self.is_awaited = False
        self.successor: DirtyBitmap | None = None
        self._bits = Bits()
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How many bytes are dirty, in whole pieces of its granularity."""
        return self._bits.count * self.granularity

    @property
    def bits(self) -> int:
        """How many bits it has."""
        return -(-self.size // self.granularity)

    def set(self, offset: int, length: int) -> None:
        """This part is dirty."""
        if length > 0:
            with self._lock:
                self._bits.set(offset // self.granularity, -(-(offset + length) // self.granularity))

    def reset(self, offset: int, length: int) -> None:
        """This part is not dirty: whole pieces of its granularity, the last of which may end with the bitmap."""
        end = offset + length
        last = self.bits if end >= self.size else end // self.granularity
        with self._lock:
            self._bits.clear(-(-offset // self.granularity), last)

    def is_dirty(self, offset: int) -> bool:
        """Whether the piece of this offset is."""
        with self._lock:
            return offset // self.granularity in self._bits

    def dirty_area(self, start: int, end: int, most: int) -> tuple[int, int] | None:
        """The first dirty part between `start` and `end`: its offset and its length, `most` bytes at most."""
        unit = self.granularity
        with self._lock:
            first = self._bits.first_from(start // unit)
            if first is None or first * unit >= end:
                return None
            offset = max(first * unit, start)
            limit = min(end, offset + most)
            stop = min(self._bits.first_missing(first, -(-limit // unit)) * unit, limit)
        return offset, stop - offset

    def areas(self) -> Iterator[tuple[int, int]]:
        """All dirty parts, as their offsets and ends, which may be behind the end of the bitmap; a copy's."""
        with self._lock:
            bits = self._bits.copy()
        for first, end in bits.runs():
            yield first * self.granularity, end * self.granularity

    def run(self, start: int, end: int) -> tuple[int, bool]:
        """How many bytes from `start` on, at most up to `end`, are alike, and whether they are dirty."""
        unit = self.granularity
        with self._lock:
            first = start // unit
            if first in self._bits:
                return min(self._bits.first_missing(first, -(-end // unit)) * unit, end) - start, True
            following = self._bits.first_from(first)
            return (end if following is None else min(following * unit, end)) - start, False

    def next_dirty(self, start: int) -> int | None:
        """The offset of the first dirty piece from `start` on; None without one."""
        with self._lock:
            first = self._bits.first_from(start // self.granularity)
        return None if first is None else first * self.granularity

    # The whole

    def take(self) -> Bits:
        """Leave nothing dirty; what was."""
        with self._lock:
            old, self._bits = self._bits, Bits()
        return old

    def put_back(self, bits: Bits) -> None:
        """Have again what `take` or `copy_bits` has given, and nothing else."""
        with self._lock:
            self._bits = bits

    def copy_bits(self) -> Bits:
        """What is dirty now."""
        with self._lock:
            return self._bits.copy()

    def merge(self, other: DirtyBitmap) -> None:
        """What is dirty in the other one is dirty here, too."""
        bits = other.copy_bits()
        with self._lock:
            if other.granularity == self.granularity:
                self._bits.update(bits)
                return
            for first, end in bits.runs():
                begin, stop = first * other.granularity, min(end * other.granularity, self.size)
                self._bits.set(begin // self.granularity, -(-stop // self.granularity))

    def resize(self, size: int) -> None:
        """The node is this large now; what is behind its end is not dirty."""
        with self._lock:
            before, self.size = self.bits, size
            if self.bits < before:
                self._bits.clear(self.bits, before)

    def digest(self) -> str:
        """The SHA-256 of its bits, in whole words, as QEMU holds them."""
        words = max(1, -(-self.bits // _WORD_BITS))
        with self._lock:
            return self._bits.digest(words * _WORD_BITS // 8)

    def read_bits(self, first: int, count: int) -> bytes:
        """`count` bytes of its bits from the byte `first` on, the lowest bit of the first byte first."""
        with self._lock:
            return self._bits.to_bytes(first, count)

    def next_bits(self, first: int) -> int | None:
        """The first byte of its bits, from this one on, that is not zero; None without one."""
        with self._lock:
            found = self._bits.first_from(first * 8)
        return None if found is None else found // 8

    def write_bits(self, first: int, content: bytes) -> None:
        """Put these bits in; those behind the bitmap's end do not count."""
        with self._lock:
            self._bits.put_bytes(first, content)
            self._bits.clear(self.bits, max(self.bits, (first + len(content)) * 8))

    # For another process

    def snapshot(self) -> dict[str, Any]:
        """What it is, in plain data."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        return {**found, "areas": [list(area) for area in self.areas()]}

    @classmethod
    def restore(cls, plain: Mapping[str, Any]) -> DirtyBitmap:
        """The bitmap that `snapshot` has described."""
        found = cls(plain["name"], plain["granularity"], plain["size"])
        for name in _PLAIN:
            setattr(found, name, plain[name])
        for begin, end in plain["areas"]:
            found.set(begin, end - begin)
        found.carried = True
        return found


def note_write(bitmaps: Iterable[DirtyBitmap], offset: int, length: int, size: int) -> None:
    """A node was written; it is `size` bytes long now."""
    for bitmap in bitmaps:
        if bitmap.size != size:
            bitmap.resize(size)
        if bitmap.enabled:
            bitmap.set(offset, length)
