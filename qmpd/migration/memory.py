"""A model of the guest's memory on its way: how much is copied by when, and how much the guest changes meanwhile.

Nothing is moved here: these are figures on the clock's time, in nanoseconds, computed from one look to the next
(`look`), however far apart they are.  So an hour costs no more than a second.

**Speed.**  QEMU counts bytes in windows of 100 ms: within one it copies as fast as it can, up to the window's share of
`max-bandwidth`.  A share is never less than a page, or what goes out at once (10.0 and later look at the limit when a
buffer is full: 32 pages of data, or 32 KiB of anything else).  Zero pages travel as 9 bytes, but looking at them takes
time as well.

**Passes.**  The first pass copies everything, each later one what was dirtied during the one before.  A guest dirties
`dirty_rate` bytes a second of its `working_set`, as long as its time goes on.
"""

from __future__ import annotations

from typing import NamedTuple

PAGE = 4096
ZERO_PAGE, DATA_PAGE = 9, PAGE + 8
"""Bytes that a page of zeros takes in a stream, and any other."""

SECOND = 1_000_000_000
WINDOW = SECOND // 10
_WITHOUT_A_LOOK = SECOND // 20
_ZERO_TIME, _DATA_TIME = 1_000, 4_000
"""Nanoseconds for a page at full speed."""
_OF_SMALL = 1 / 4
"""How much of what may go out at once what is no page of data fills: it is copied to a smaller buffer."""
FULL_SPEED = DATA_PAGE * SECOND // _DATA_TIME
"""Bytes of data in a second, at full speed."""


class Size(NamedTuple):
    """How large a guest's memory is, in pages, and what the guest does to it.

    `data`: pages that hold something.  `dirty_rate` in bytes a second, `working_set` in pages.
    """

    pages: int
    data: int
    dirty_rate: int = 0
    working_set: int = 0


class Memory:
    """The memory of one guest that moves.

    To be read: `zero` and `data`, the pages that were copied so far, each as often as it was; `left`, the pages that
    are still to be copied; `passes`; `throttle`, in percent; `sent`, the bytes that were copied; `dirty_rate`, the
    pages that the guest has changed in a second of the last pass.
    """

    def __init__(self, size: Size, now: int, machine_time: int, least: int) -> None:
        """`least` are the bytes of data that go out before the limit is looked at; 0: it is looked at for each page."""
        self._size = size
        self._least = least
        self._limit = 0
        self._left_zero = size.pages - size.data
        self._left_data = size.data
        self._epoch = self._looked = now
        # What was copied since the epoch: the windows' shares count from there.
        self._copied = 0.0
        # The shares of one page of zeros, and of one of data, that were copied beside.
        self._begun = (0.0, 0.0)
        self._dirty_since = machine_time
        self._began = now
        self.zero = self.data = 0
        self.sent = 0
        self.passes = 1
        self.throttle = 0
        self.dirty_rate = 0
        self.sent_in_pass = 0
        self.resent = 0

    # Speed

    def set_limit(self, limit: int, now: int) -> None:
        """Copy no more than so many bytes a second from now on; 0: as fast as it can be done."""
        if limit != self._limit:
            self.look(now)
            self._limit = limit
            self._epoch, self._copied = now, 0.0

    @property
    def speed(self) -> int:
        """Bytes of data in a second, about."""
        return FULL_SPEED if not self._limit else min(FULL_SPEED, max(self._limit, 1))

    @property
    def left(self) -> int:
        """The pages that are still to be copied."""
        return self._left_zero + self._left_data

    def _bytes(self, zero: float, data: float) -> float:
        return zero * ZERO_PAGE + data * DATA_PAGE

    @property
    def bytes_left(self) -> int:
        """The bytes that those take."""
        return int(self._bytes_left)

    @property
    def _bytes_left(self) -> float:
        return self._bytes(self._left_zero, self._left_data)

    @property
    def _full(self) -> float:
        """Bytes in a nanosecond at full speed, for the mixture of pages that is left."""
        time = self._left_zero * _ZERO_TIME + self._left_data * _DATA_TIME
        return self._bytes_left / time if time else 1.0

    @property
    def _share(self) -> float:
        """Bytes that a window may have; 0: as many as it can."""
        if not self._limit:
            return 0.0
        average = self._bytes_left / self.left if self.left else DATA_PAGE
        return max(self._limit * WINDOW / SECOND, self._buffer or average, average)

    @property
    def _buffer(self) -> float:
        """What goes out before the limit is looked at, in bytes, for the mixture of pages that is left; 0: a page."""
        if not self._least:
            return 0.0
        fills = self._left_data * PAGE / self._least + self._left_zero * ZERO_PAGE / (self._least * _OF_SMALL)
        return self._bytes_left / fills if fills else 0.0

    def _copied_by(self, time: int) -> float:
        """The bytes that may be copied until so many nanoseconds after the epoch."""
        share, full = self._share, self._full
        if not share:
            return full * time
        windows, rest = divmod(time, WINDOW)
        return share * windows + min(share, full * rest)

    def _time_of(self, copied: float) -> int:
        """The nanoseconds after the epoch at which so many bytes may have been copied."""
        share, full = self._share, self._full
        if not share:
            return int(copied / full) + 1
        windows = max(0, -int(-copied // share) - 1)
        return windows * WINDOW + int((copied - windows * share) / full) + 1

    # Time

    def look(self, now: int) -> None:
        """Let it be now: copy what could be copied by now."""
        if now <= self._looked:
            return
        allowed = self._copied_by(now - self._epoch)
        self._looked = now
        left = self._bytes_left
        could = allowed - self._copied
        if left <= 0 or could <= 0:
            return
        if could >= left:
            self._take(self._left_zero, self._left_data)
            self._copied += left
            self._begun = (0.0, 0.0)
            return
        part = could / left
        zero, data = self._left_zero * part + self._begun[0], self._left_data * part + self._begun[1]
        self._begun = (zero % 1, data % 1)
        self._take(int(zero), int(data))
        self._copied += could

    def _take(self, zero: int, data: int) -> None:
        self._left_zero -= zero
        self._left_data -= data
        self.zero += zero
        self.data += data
        size = zero * ZERO_PAGE + data * DATA_PAGE
        self.sent += size
        self.sent_in_pass += size

    def time_left(self, now: int, until: int = 0) -> int:
        """The nanoseconds until no more than `until` pages are left; 0 where that is so."""
        if self.left <= until or not self.left:
            return 0
        part = 1 - until / self.left
        return max(1, self._epoch + self._time_of(self._copied + self._bytes_left * part) - now)

    def time_of_pages(self, now: int, pages: int) -> int:
        """The nanoseconds until so many pages more are copied, of those that are left."""
        return self.time_left(now, max(0, self.left - pages))

    def window_left(self, now: int) -> int:
        """The nanoseconds until more is copied than now: the next window, or as long as QEMU copies without a look."""
        return WINDOW - (now - self._epoch) % WINDOW if self._limit else _WITHOUT_A_LOOK

    @property
    def total(self) -> int:
        """How many bytes of memory there are."""
        return self._size.pages * PAGE

    @property
    def copied(self) -> int:
        """How many bytes of memory were copied so far, each as often as it was."""
        return (self.zero + self.data) * PAGE

    @property
    def may_end_early(self) -> bool:
        """Whether it has been copied for a window, after which the speed is known."""
        return self._looked - self._began >= WINDOW

    # Dirt

    def keep_dirty(self, pages: int) -> None:
        """Have so many pages copied at least, as if the guest had written to them."""
        missing = min(pages, self._size.pages) - self.left
        if missing > 0:
            self._left_data += missing
            self.resent += missing

    def dirtied(self, machine_time: int) -> int:
        """The pages that the guest has changed since they were looked for, at this time of the machine."""
        rate = self._size.dirty_rate * (100 - self.throttle) // 100
        return min(self._size.working_set, rate * max(0, machine_time - self._dirty_since) // SECOND // PAGE)

    def find_dirt(self, now: int, machine_time: int) -> int:
        """Have what the guest has changed copied, too; the pages that it changed.  A new pass begins."""
        self.look(now)
        found = self.dirtied(machine_time)
        gone = machine_time - self._dirty_since
        self.dirty_rate = found * SECOND // gone if gone > 0 else 0
        self._dirty_since = machine_time
        used = self._used_in_window(now)
        self._left_data = min(self._left_data + found, self._size.pages - self._left_zero)
        # What the window could have had by now is gone.
        self._copied = max(used, min(self._share or used, self._full * (now - self._epoch)))
        self.passes += 1
        self.resent += found
        self.sent_in_pass = 0
        return found

    def _used_in_window(self, now: int) -> float:
        """What the present window has had; the epoch is its beginning from now on."""
        share = self._share
        if not share:
            self._epoch, used = now, 0.0
        else:
            windows = (now - self._epoch) // WINDOW
            self._epoch += windows * WINDOW
            used = max(0.0, self._copied - share * windows)
        return used

    def start_again(self, now: int) -> None:
        """Go on after a time in which nothing could be copied."""
        self._epoch = self._looked = now
        self._copied = 0.0
