"""The guest's memory as dumps find it: zeros, but for what a debugger has written."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from qmpd.guest.phases import GuestPhase
from qmpd.hardware.memory import MemoryLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.guest.course import Guest
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import MachineSettings

PAGE = 4096
_FOUR_GIBIBYTES = 4 << 30
_FIRMWARE = 256 << 10
_VIDEO, _ROMS, _LOW_FIRMWARE, _MEBIBYTE = 0xA0000, 0xC0000, 0xE0000, 0x100000
_VIDEO_MEMORY = (0xFD000000, 0xFE000000)
"""Where SeaBIOS puts the memory of QEMU's standard graphics card."""
_CARD = "VGA"

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

    def touched(self, begin: int, length: int) -> int:
        """How many bytes QEMU counts of a part that begins at a negative address, which it takes for a large one."""
        word = 1 << 64
        most = (begin + length) % word
        sizes = [min(end, most) - (begin if begin < 0 else max(first, begin)) for first, end in self.ranges]
        return sum(max(0, each) for each in sizes)

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
    def guest(self) -> Guest | None:
        """What runs on it."""

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


def dumped(system: Machine) -> GuestMemory:
    """The memory of a machine in the pieces in which a dump finds it.

    Before the firmware has run a PC has its read-only memory below one MiB, which then is memory like all other; a
    graphics card has a window there, and its own memory where the firmware has put it (hw/pci-host/pam.c).
    """
    memory = of(system)
    if not system.settings.board.has_pci or not memory.ranges:
        return memory
    first, *others = memory.ranges
    top = first[1]
    has_card, has_run = _CARD in system.inventory.drivers(), _is_shadowed(system.guest)
    if has_run:
        cuts = [_ROMS] if has_card else []
    else:
        cuts = [_ROMS, _LOW_FIRMWARE, _MEBIBYTE]
    ranges = list(pairwise([0, *(each for each in cuts if each < top), top]))
    if has_card and top > _ROMS:
        ranges[0] = (0, _VIDEO)
    if has_card and has_run:
        others = [_VIDEO_MEMORY, *others]
    return GuestMemory([*ranges, *others], system.memory_pages)


def _is_shadowed(guest: Guest | None) -> bool:
    """Whether the firmware has made memory of its read-only memory, since the last reset."""
    if guest is None or guest.phase in (GuestPhase.RESET, GuestPhase.FIRMWARE_RESTART):
        return False
    return guest.phase is not GuestPhase.FIRMWARE or guest.firmware_has_run
