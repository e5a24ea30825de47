"""The guest's memory as dumps find it: zeros, but for what a debugger has written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.hardware.memory import MemoryLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import MachineSettings

PAGE = 4096
_FOUR_GIBIBYTES = 4 << 30
_FIRMWARE = 256 << 10

Range = tuple[int, int]
"""The first address, and the one behind the last."""


class GuestMemory:
    """The ranges that have memory, in order, and the pages that hold something, by number."""

    def __init__(self, ranges: list[Range], pages: Mapping[int, bytes | bytearray]) -> None:
        self.ranges = ranges
        self._pages = pages

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(end - first for first, end in self.ranges)

    def part(self, begin: int, length: int) -> GuestMemory:
        """What of it lies in a part of the addresses."""
        cut = [(max(first, begin), min(end, begin + length)) for first, end in self.ranges]
        return GuestMemory([(first, end) for first, end in cut if first < end], self._pages)

    def has(self, address: int, length: int) -> bool:
        """Whether there is memory at each of these addresses."""
        return any(first <= address and address + length <= end for first, end in self.ranges)

    def written(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """What a range holds beside zeros: addresses and bytes, in order."""
        for number in sorted(self._pages):
            start = number * PAGE
            low, high = max(start, first), min(start + PAGE, end)
            if low < high:
                yield low, bytes(self._pages[number][low - start : high - start])

    def page(self, address: int) -> bytes:
        """One whole page."""
        return bytes(self._pages.get(address // PAGE, b"")).ljust(PAGE, b"\0")

    def holds(self, address: int) -> bool:
        """Whether the page at this address may be other than zeros."""
        return address // PAGE in self._pages


class Machine(Protocol):
    """Who has memory (`qmpd.system.system.System`)."""

    @property
    def settings(self) -> MachineSettings:
        """What it was started with."""

    @property
    def inventory(self) -> Inventory:
        """What it consists of."""

    @property
    def memory_pages(self) -> dict[int, bytearray]:
        """The pages that hold something."""


def of(system: Machine) -> GuestMemory:
    """The memory of a machine; a machine without CPUs has none that counts."""
    if not system.settings.board.has_cpus:
        return GuestMemory([], system.memory_pages)
    try:
        layout = system.inventory.layout
    except LookupError:
        layout = MemoryLayout(system.settings.memory, None)
    ranges = [(0, layout.below), (_FOUR_GIBIBYTES - _FIRMWARE, _FOUR_GIBIBYTES)]
    if layout.above:
        ranges.append((_FOUR_GIBIBYTES, _FOUR_GIBIBYTES + layout.above))
    return GuestMemory(ranges, system.memory_pages)
