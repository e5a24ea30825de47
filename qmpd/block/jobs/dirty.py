"""Which parts of a disk are still to be copied: the dirty bitmap that a mirror has for itself."""

from __future__ import annotations

from qmpd.block.bitmaps.bitmap import DirtyBitmap


class Dirty(DirtyBitmap):
    """The dirty chunks of a disk of `size` bytes, `granularity` bytes each; it has no name."""

    __slots__ = ()

    def __init__(self, size: int, granularity: int) -> None:
        super().__init__(None, granularity, size, enabled=False)

    def next(self, offset: int, most: int) -> tuple[int, int] | None:
        """The next dirty part at or behind `offset`, and else the first one: its offset and length, `most` at most.

        None where nothing is dirty.  The length is in whole chunks, but where it ends with the disk.
        """
        most = max(self.granularity, most - most % self.granularity)
        return self.dirty_area(offset, self.size, most) or self.dirty_area(0, self.size, most)

    @property
    def left(self) -> int:
        """How many bytes are dirty, which end with the disk."""
        over = -self.size % self.granularity
        return self.count - (over if over and self.is_dirty(self.size - 1) else 0)
