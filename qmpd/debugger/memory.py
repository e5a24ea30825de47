"""The memory that a debugger reads and writes: zeros, but for what it has written itself.

There is no guest memory, no firmware and no device behind it.  Where a real machine has nothing at all, nothing can be
read here either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAGE = 4096
Range = tuple[int, int]
"""The first address, and the one behind the last."""


class Memory:
    """What was written to a machine's memory; `size` bounds how much of it is kept, in bytes."""

    __slots__ = ("_mapped", "_most", "_pages")

    def __init__(self, mapped: Iterable[Range], size: int, pages: dict[int, bytearray] | None = None) -> None:
        """`mapped` is where there is memory, or a device; `pages` what was written before, by the pages' numbers."""
        self._mapped = _merged(mapped)
        self._most = size // _PAGE + 1
        self._pages: dict[int, bytearray] = {} if pages is None else pages

    def is_mapped(self, address: int, length: int) -> bool:
        """Whether there is something at each of these addresses."""
        return any(first <= address and address + length <= end for first, end in self._mapped)

    def read(self, address: int, length: int) -> bytes:
        """What was written there, zeros where nothing was."""
        found = bytearray(length)
        for number, start, at, count in _pieces(address, length):
            page = self._pages.get(number)
            if page is not None:
                found[at : at + count] = page[start : start + count]
        return bytes(found)

    def write(self, address: int, data: bytes) -> bool:
        """Keep what is written; False where that would be more than there is memory."""
        pieces = list(_pieces(address, len(data)))
        if len(self._pages.keys() | {number for number, *_ in pieces}) > self._most:
            return False
        for number, start, at, count in pieces:
            page = self._pages.setdefault(number, bytearray(_PAGE))
            page[start : start + count] = data[at : at + count]
        return True


def pages(address: int, length: int) -> Iterable[tuple[int, int]]:
    """The addresses page by page: the first of each piece, and how long it is."""
    for _, _, at, count in _pieces(address, length):
        yield address + at, count


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """The ranges in order, those that touch made one."""
    found: list[Range] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found


def _pieces(address: int, length: int) -> Iterable[tuple[int, int, int, int]]:
    """For each page: its number, where in it the piece starts, where in the whole, and how long it is."""
    at = 0
    while at < length:
        number, start = divmod(address + at, _PAGE)
        count = min(_PAGE - start, length - at)
        yield number, start, at, count
        at += count
