"""What clients of an export ask for as block status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.exports.protocol import HOLE, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.block.status import Part

    Extents = list[tuple[int, int]]


def allocation(found: Iterator[Part]) -> Iterator[tuple[int, int]]:
    """What `base:allocation` tells of parts."""
    for part in found:
        yield part.length, (0 if part.holds_data else HOLE) | (ZERO if part.is_zero else 0)


def depths(found: Iterator[Part]) -> Iterator[tuple[int, int]]:
    """What `qemu:allocation-depth` tells of them."""
    for part in found:
        yield part.length, part.depth


def joined(extents: Iterable[tuple[int, int]], most: int) -> Extents:
    """Neighbours of which the same is told as one, and no more than `most` of them."""
    found: Extents = []
    for length, told in extents:
        if found and found[-1][1] == told:
            found[-1] = found[-1][0] + length, told
        elif len(found) == most:
            break
        else:
            found.append((length, told))
    return found
