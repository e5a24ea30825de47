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
    section: struct.Struct
    status: int
    is_wide: bool


_WIDE = _Class(
    2, _X86_64, struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"),
    struct.Struct("<IIQQQQIIQQ"), 336, True,
)  # fmt: skip
_NARROW = _Class(
    1, _386, struct.Struct("<HHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"),
    struct.Struct("<IIIIIIIIII"), 144, False,
)  # fmt: skip
_IDENT = 16
_NAMES, _STRINGS = b"\0.shstrtab\0", 3
_OF_A_POINTER = 8
"""What QEMU tells as the size of the header, where there are sections."""


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


def plan(memory: GuestMemory, cpus: int, *, long_mode: bool, has_sections: bool = False) -> Plan:
    """The file of this memory; `long_mode`: the first CPU is in it, so that all are taken for 64-bit ones.

    `has_sections`: there are two sections, an empty one and the names of both, which come last.
    """
    wide = long_mode or any(end > _LARGEST_32 for _, end in memory.ranges)
    kind = _WIDE if wide else _NARROW
    if wide and not long_mode:
        kind = kind._replace(machine=_386)
    noted = notes(cpus, wide=long_mode)
    count = 1 + len(memory.ranges)
    sections_at = _IDENT + kind.header.size
    head = sections_at + (2 * kind.section.size if has_sections else 0)
    noted_at = head + count * kind.segment.size
    at = noted_at + len(noted)
    segments = [_segment(kind, _NOTE, noted_at, 0, len(noted))]
    places: list[tuple[int, int, int]] = []
    for first, end in memory.ranges:
        segments.append(_segment(kind, _LOAD, at, first, end - first))
        places.append((first, end, at))
        at += end - first
    header = _header(kind, head, count, sections_at if has_sections else 0)
    names_at = at

    def pieces() -> Iterator[Piece]:
        yield Piece(0, header, "elf header")
        if has_sections:
            yield Piece(sections_at, bytes(kind.section.size) + _names_section(kind, names_at), "section header table")
        yield Piece(head, b"".join(segments), "program header table")
        yield Piece(noted_at, noted, "elf notes")
        for first, end, place in places:
            for address, data in memory.written(first, end):
                yield Piece(place + address - first, data, "memory")
        if has_sections:
            yield Piece(names_at, _NAMES, "section data")

    return Plan(pieces(), names_at + (len(_NAMES) if has_sections else 0))


def _header(kind: _Class, head: int, count: int, sections_at: int) -> bytes:
    ident = b"\x7fELF" + bytes([kind.number, 1, _CURRENT]) + bytes(9)
    size, sections = _IDENT + kind.header.size, (0, 0, 0)
    if sections_at:
        size, sections = _OF_A_POINTER, (kind.section.size, 2, 1)
    return ident + kind.header.pack(
        _CORE, kind.machine, _CURRENT, 0, head, sections_at, 0, size, kind.segment.size, count, *sections
    )


def _names_section(kind: _Class, place: int) -> bytes:
    """The header of the section with the names, which is at this place."""
    return kind.section.pack(1, _STRINGS, 0, 0, place, len(_NAMES), 0, 0, 0, 0)


def _segment(kind: _Class, what: int, offset: int, address: int, size: int) -> bytes:
    if kind.is_wide:
        return kind.segment.pack(what, 0, offset, address, address, size, size, 0)
    return kind.segment.pack(what, offset, address, address, size, size, 0, 0)
