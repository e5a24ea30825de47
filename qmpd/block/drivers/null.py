"""null-co and null-aio: what is written is lost.  (QEMU's block/null.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Null:
    """Bytes that nobody keeps; they read as zeros, which QEMU promises only with `read-zeroes`."""

    __slots__ = ("size",)

    allocated = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Zeros."""
        return bytes(length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Lose it."""

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """They are zeros already."""

    def discard(self, offset: int, length: int) -> None:
        """Nothing is there."""

    def truncate(self, size: int) -> None:
        """It stays as it is: whoever asks is refused before."""

    def flush(self) -> None:
        """Nothing is there."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """It counts as allocated."""
        yield length, True

    def close(self) -> None:
        """Nothing is open."""
