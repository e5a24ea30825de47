"""A core dump as an ELF file (System V ABI, "Object Files"): a note for each CPU, a segment for each range of memory.

For each CPU there are two notes: what any core file has of a process, and QEMU's own (`QEMUCPUState`).  The CPUs'
registers are zeros: there is no CPU that has any.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from qmpd.system.dumps.plan import Piece, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.system.dumps.memory import GuestMemory

_CORE, _CURRENT, _LOAD, _NOTE = 4, 1, 1, 4
_X86_64, _386 = 62, 3
_PRSTATUS = 1
_OWN = 440
"""The bytes of QEMU's own note: a version, its size, and registers."""
_LARGEST_32 = 0xFFFF_FFFF


class _Class(NamedTuple):
    """One of the two kinds of ELF files: the sizes of its parts, and how they are laid out."""

    number: int
    machine: int
    header: struct.Struct
    segment: struct.Struct
    status: int
    is_wide: bool


_WIDE = _Class(2, _X86_64, struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), 336, True)
_NARROW = _Class(1, _386, struct.Struct("<HHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), 144, False)
_IDENT = 16


def notes(cpus: int, *, wide: bool) -> bytes:
    """The notes of these CPUs: a NT_PRSTATUS for each, with its number as that of a process; then QEMU's own."""
    status = _WIDE.status if wide else _NARROW.status
    process = 32 if wide else 24
    found = b""
    for number in range(cpus):
        content = bytearray(status)
        content[process : process + 4] = (number + 1).to_bytes(4, "little")
        found += struct.pack("<III", 5, status, _PRSTATUS) + b"CORE\0\0\0\0" + bytes(content)
    own = struct.pack("<II", 1, _OWN).ljust(_OWN, b"\0")
    return found + cpus * (struct.pack("<III", 5, _OWN, 0) + b"QEMU\0\0\0\0" + own)


def plan(memory: GuestMemory, cpus: int, *, long_mode: bool) -> Plan:
    """The file of this memory; `long_mode`: the first CPU is in it, so that all are taken for 64-bit ones."""
    wide = long_mode or any(end > _LARGEST_32 for _, end in memory.ranges)
    kind = _WIDE if wide else _NARROW
    if wide and not long_mode:
        kind = kind._replace(machine=_386)
    noted = notes(cpus, wide=long_mode)
    count = 1 + len(memory.ranges)
    head = _IDENT + kind.header.size
    noted_at = head + count * kind.segment.size
    at = noted_at + len(noted)
    segments = [_segment(kind, _NOTE, noted_at, 0, len(noted))]
    places: list[tuple[int, int, int]] = []
    for first, end in memory.ranges:
        segments.append(_segment(kind, _LOAD, at, first, end - first))
        places.append((first, end, at))
        at += end - first
    header = _header(kind, head, count)

    def pieces() -> Iterator[Piece]:
        yield Piece(0, header, "elf header")
        yield Piece(head, b"".join(segments), "program header table")
        yield Piece(noted_at, noted, "elf notes")
        for first, end, place in places:
            for address, data in memory.written(first, end):
                yield Piece(place + address - first, data, "memory")

    return Plan(pieces(), at)


def _header(kind: _Class, head: int, count: int) -> bytes:
    ident = b"\x7fELF" + bytes([kind.number, 1, _CURRENT]) + bytes(9)
    return ident + kind.header.pack(
        _CORE, kind.machine, _CURRENT, 0, head, 0, 0, head, kind.segment.size, count, 0, 0, 0
    )


def _segment(kind: _Class, what: int, offset: int, address: int, size: int) -> bytes:
    if kind.is_wide:
        return kind.segment.pack(what, 0, offset, 0, address, size, size, 0)
    return kind.segment.pack(what, offset, 0, address, size, size, 0, 0)
