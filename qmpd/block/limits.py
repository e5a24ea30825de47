"""Limits of input and output, and which of them go together (QEMU's util/throttle.c).

Drives have them, groups of drives, and the objects that are such groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 10**15
"""The most bytes or requests a second that can be said."""

LARGEST_DISK = (1 << 63) - (1 << 30)
"""The most bytes that a disk can have."""

UNITS = ("bps", "iops")
WAYS = ("total", "read", "write")
PAIRS = tuple((unit, way) for unit in UNITS for way in WAYS)


def check_size(size: int) -> None:
    """Refuse a size that no disk can have.

    :raise Refusal: none can.
    """
    if size >= 1 << 63:
        raise Refusal("size-negative-image")
    if size > LARGEST_DISK:
        raise Refusal("size-beyond", size=size, most=LARGEST_DISK)


class Limits:
    """The limits of one group: `average`, `peak` (a second) and `burst` (seconds), each by unit and way.

    `size` is how many bytes of a request count as one; 0 means that each request counts as one.
    """

    __slots__ = ("average", "burst", "peak", "size")

    def __init__(self, read: Callable[[str, str, str], int | None], size: int = 0) -> None:
        """`read` is asked for each unit, way and part (empty, `max` and `max-length`); None where nothing is said."""
        self.average = {(unit, way): read(unit, way, "") or 0 for unit, way in PAIRS}
        self.peak = {(unit, way): read(unit, way, "max") or 0 for unit, way in PAIRS}
        lengths = {(unit, way): read(unit, way, "max-length") for unit, way in PAIRS}
        self.burst = {pair: 1 if length is None else length for pair, length in lengths.items()}
        self.size = size

    def check(self) -> None:
        """See whether they go together.

        :raise Refusal: they do not.
        """
        for limits in (self.average, self.peak):
            for unit in UNITS:
                if limits[unit, "total"] and (limits[unit, "read"] or limits[unit, "write"]):
                    raise Refusal("limits-total-and-parts")
        if self.size and not any(self.average["iops", way] for way in WAYS):
            raise Refusal("limits-size-alone")
        for pair in PAIRS:
            self._check(self.average[pair], self.peak[pair], self.burst[pair])

    @staticmethod
    def _check(average: int, peak: int, burst: int) -> None:
        if not (0 <= average <= LARGEST and 0 <= peak <= LARGEST):
            raise Refusal("limits-too-large", limit=LARGEST)
        if not burst:
            raise Refusal("limits-burst-zero")
        if burst > 1 and not peak:
            raise Refusal("limits-burst-alone")
        if peak and burst > LARGEST // peak:
            raise Refusal("limits-burst-too-long")
        if peak and not average:
            raise Refusal("limits-peak-alone")
        if peak and peak < average:
            raise Refusal("limits-peak-too-low")
