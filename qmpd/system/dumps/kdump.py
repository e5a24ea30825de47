"""A core dump in the compressed format of kdump, as makedumpfile writes and crash reads it (their IMPLEMENTATION file).

Block 0 has the header, the blocks from 1 on its second part with the CPUs' notes; then come two bitmaps of the pages
that there are, which are the same here, a descriptor for each of these pages, and the pages.  All pages of zeros are
one.  The flattened form, in which QEMU writes it, has each part behind its place and size: it can go through a pipe.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from qmpd.system.dumps import elf
from qmpd.system.dumps.memory import PAGE
from qmpd.system.dumps.plan import Piece, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.system.dumps.memory import GuestMemory

_HEADER = struct.Struct("<8sI390s22sIIIIIIIIII")
_SECOND = struct.Struct("<QIIQQQQQQQQQQQ")
_DESCRIPTOR = struct.Struct("<qIIQ")
_KDUMP, _VERSION = b"KDUMP   ", 6
_ZLIB = 1
_FLAT = struct.Struct(">qq")
_AT_ONCE = 4096


def plan(memory: GuestMemory, cpus: int, *, flat: bool) -> Plan:
    """The file of this memory, in its flattened form where `flat`."""
    pieces = _pieces(memory, cpus)
    if flat:
        return Plan(_flattened(pieces), 0)
    return Plan(pieces, 0)


def _pieces(memory: GuestMemory, cpus: int) -> Iterator[Piece]:
    noted = elf.notes(cpus, wide=True)
    last = max((end for _, end in memory.ranges), default=0) // PAGE
    bits = -(-last // 8)
    map_blocks = -(-bits // PAGE)
    second_blocks = -(-(_SECOND.size + len(noted)) // PAGE)
    count = sum((end - first) // PAGE for first, end in memory.ranges)
    yield Piece(0, _HEADER.pack(
        _KDUMP, _VERSION, b"", b"", _ZLIB, PAGE, second_blocks, 2 * map_blocks, min(last, 0xFFFF_FFFF), 0, 0, 0, 0,
        cpus,
    ), "disk dump header")  # fmt: skip
    second = _SECOND.pack(0, 1, 0, 0, 0, 0, 0, PAGE + _SECOND.size, len(noted), 0, 0, 0, 0, last)
    yield Piece(PAGE, second + noted, "kdump sub header")
    at = (1 + second_blocks) * PAGE
    for _ in range(2):
        yield from _bitmap(memory, at, map_blocks * PAGE)
        at += map_blocks * PAGE
    yield from _pages(memory, at, at + count * _DESCRIPTOR.size)


def _bitmap(memory: GuestMemory, at: int, size: int) -> Iterator[Piece]:
    """A bit for each page that there is, a block at a time."""
    each = PAGE * 8
    for block in range(size // PAGE):
        value = 0
        for first, end in memory.ranges:
            low, high = max(first // PAGE, block * each), min(end // PAGE, (block + 1) * each)
            if low < high:
                value |= ((1 << high - low) - 1) << low - block * each
        yield Piece(at + block * PAGE, value.to_bytes(PAGE, "little"), "dump_bitmap")


def _pages(memory: GuestMemory, at: int, data_at: int) -> Iterator[Piece]:
    """The descriptors, and the pages that are not zeros behind the one that is."""
    zero = zlib.compress(bytes(PAGE))
    yield Piece(data_at, zero, "page data")
    of_zero = _DESCRIPTOR.pack(data_at, len(zero), _ZLIB, 0)
    place = data_at + len(zero)
    for first, end in memory.ranges:
        for start in range(first, end, _AT_ONCE * PAGE):
            stop = min(end, start + _AT_ONCE * PAGE)
            described = [of_zero] * ((stop - start) // PAGE)
            for address in {low - low % PAGE for low, _ in memory.written(start, stop)}:
                page = zlib.compress(memory.page(address))
                yield Piece(place, page, "page data")
                described[(address - start) // PAGE] = _DESCRIPTOR.pack(place, len(page), _ZLIB, 0)
                place += len(page)
            yield Piece(at, b"".join(described), "page desc")
            at += (stop - start) // PAGE * _DESCRIPTOR.size


def _flattened(pieces: Iterator[Piece]) -> Iterator[Piece]:
    head = (b"makedumpfile".ljust(16, b"\0") + _FLAT.pack(1, 1)).ljust(PAGE, b"\0")
    yield Piece(0, head, "start flat header")
    at = PAGE
    for offset, data, what in pieces:
        yield Piece(at, _FLAT.pack(offset, len(data)) + data, what)
        at += _FLAT.size + len(data)
    yield Piece(at, _FLAT.pack(-1, -1), "end flat header")
