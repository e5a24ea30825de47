"""Making what fails shorter, as long as it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def shorten(parts: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """The parts of a failing list that it takes: none of them, nor of the blocks that were tried, can be left out."""
    size = max(1, len(parts) // 2)
    while True:
        position, shorter = 0, False
        while position < len(parts):
            without = parts[:position] + parts[position + size :]
            if without and fails(without):
                parts, shorter = without, True
            else:
                position += size
        if size == 1 and not shorter:
            return parts
        if not shorter:
            size //= 2
        size = max(1, min(size, len(parts) // 2))
