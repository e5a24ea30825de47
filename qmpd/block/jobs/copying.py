"""What a mirror reads and writes: which parts, and in which pieces; in a thread of the disks.  (block/mirror.c.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.content import number_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.jobs import chain
from qmpd.block.jobs.block_job import BlockOptions

if TYPE_CHECKING:
    from qmpd.block.jobs.dirty import Dirty
    from qmpd.block.nodes import BlockNode

BUFFER = 16 << 20
"""So much is copied in a round where nothing else is said."""
REQUESTS = 16
"""So many requests are in a round at most."""
FAR = 1 << 30
"""So many bytes are passed over in a round at most, where they are zeros."""
LARGEST = 1 << 20
"""So large a request is at most, unless the round's buffer is larger than that many."""


@dataclass(slots=True)
class MirrorOptions(BlockOptions):
    """`sync`: `full`, `top` (what is above `base`) or `none`.  `granularity` and `buffer`: 0 for the default.

    `backing`: what becomes of what is behind the target at the end: it is left (`leave`), is that of the source
    (`source`), or is opened as the target says (`open`).  `zero_target`: what the source does not have is to be zeros
    there; `looks_for_zeros`: see first whether it is.
    """

    target: BlockNode | None = None
    sync: str = "full"
    base: BlockNode | None = None
    granularity: int = 0
    buffer: int = 0
    on_source_error: str = "report"
    on_target_error: str = "report"
    unmap: bool = True
    copy_mode: str = "background"
    filter_name: str = ""
    replaces: str | None = None
    backing: str = "leave"
    zero_target: bool = False
    looks_for_zeros: bool = False


class Request(NamedTuple):
    """What came of one request; `counted` is what the limit of speed counts of it."""

    offset: int
    length: int
    counted: int
    error: int = 0
    reading: bool = False


class Copy:
    """Copies what is dirty of one node to another, `buffer` bytes at once."""

    __slots__ = ("_counts_zeros", "_options", "_source", "_target", "buffer", "dirty", "place")

    def __init__(self, options: MirrorOptions, source: BlockNode, target: BlockNode, buffer: int, dirty: Dirty) -> None:
        self._options = options
        self._source = source
        self._target = target
        self.place = 0
        self._counts_zeros = False
        self.buffer = buffer
        self.dirty = dirty

    def find_dirty(self) -> None:
        """Everything that the source has, above the base; in a thread."""
        options, target = self._options, self._target.port
        assert target is not None
        if options.base is None and options.zero_target and not self._is_zero():
            if not self.can_zero():
                self.dirty.set(0, self.dirty.size)
                return
            target.zero(0, self.dirty.size)
        contents = [each.port for each in chain.images(self._source, options.base) if each.port is not None]
        offset = 0
        while offset < self.dirty.size:
            count, found = chain.allocated_above(contents, offset, self.dirty.size - offset)
            if not count:
                break
            if found:
                self.dirty.set(offset, count)
            offset += count

    def _is_zero(self) -> bool:
        """Whether the target is known to be all zeros, in the releases that look."""
        if not self._options.looks_for_zeros:
            return False
        count, is_data = chain.data_run(self._target, 0, self.dirty.size)
        return count == self.dirty.size and not is_data

    @property
    def is_whole(self) -> bool:
        """Whether all of the source is to be copied, which shows without a look at it."""
        if "backing" not in DRIVERS[chain.unfiltered(self._source).driver].children:
            return True
        return self._options.zero_target and not self._options.looks_for_zeros and not self.can_zero()

    def can_zero(self) -> bool:
        """Whether the target can be made all zeros for nothing."""
        return self._target.discard == "unmap" and DRIVERS[self._target.driver].grows

    def counts_zeros(self) -> bool:
        """Whether a limit of speed counts what is written as zeros: it is for nothing where that makes a hole."""
        return not self.can_zero() and not self._is_zero()

    def copy_some(self, most: int, *, limited: bool) -> list[Request]:
        """One round, of what is dirty in one piece: `most` bytes at most, of which `buffer` are read and written.

        `limited`: a limit of speed counts.
        """
        self._counts_zeros = limited and self.counts_zeros()
        done: list[Request] = []
        offset, length = self.dirty.next(self.place, most) or (0, 0)
        buffer, requests = self.buffer, REQUESTS
        while length > 0 and buffer > 0 and requests > 0:
            request = self._copy_first(offset, length, buffer)
            done.append(request)
            offset, length = offset + request.length, length - request.length
            if request.counted:
                buffer, requests = buffer - request.length, requests - 1
        for request in done:
            if request.error:
                self.dirty.set(request.offset, request.length)
        self.place = offset
        return done

    def _copy_first(self, offset: int, length: int, most: int) -> Request:
        """Copy the first part of a dirty one: such as is alike, of which `most` bytes are counted at most."""
        try:
            count, is_data = chain.data_run(self._source, offset, length)
        except (OSError, ImageError):
            count, is_data = length, True
        if is_data:
            most = min(most, max(self.buffer // REQUESTS, LARGEST))
        if is_data or self._counts_zeros:
            count = min(count, most)
        granularity = self.dirty.granularity
        count = min(max(count - count % granularity, granularity), self.dirty.size - offset, length)
        self.dirty.reset(offset, count)
        return self._copy(offset, count, is_data=is_data)

    def _copy(self, offset: int, length: int, *, is_data: bool) -> Request:
        source, target = self._source.port, self._target.port
        assert source is not None
        assert target is not None
        data = b""
        if is_data:
            try:
                data = source.read(offset, length)
            except (OSError, ImageError) as error:
                return Request(offset, length, length, number_of(error), reading=True)
        try:
            if is_data:
                target.write(offset, data)
            else:
                target.zero(offset, length, unmap=self._options.unmap)
        except (OSError, ImageError) as error:
            return Request(offset, length, length, number_of(error))
        return Request(offset, length, length if is_data or self._counts_zeros else 0)


def moved(requests: list[Request]) -> int:
    """How many bytes of the disk a round has moved."""
    return sum(request.length for request in requests if not request.error)
