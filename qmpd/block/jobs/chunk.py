"""What came of one part of the work of a job that copies images from end to end."""

from __future__ import annotations

from typing import NamedTuple


class Chunk(NamedTuple):
    """Its length, and whether it was copied; the number of an error, and whether it was at reading."""

    length: int
    copied: bool
    error: int = 0
    reading: bool = False


def length_of(chunk: Chunk) -> int:
    """How long it is."""
    return chunk.length
