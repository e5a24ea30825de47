"""Where the bytes of an image are: a file, or what stands in for one."""

from __future__ import annotations

from typing import Protocol


class Storage(Protocol):
    """A run of bytes that can be read and written anywhere.  All offsets and lengths are in bytes."""

    @property
    def size(self) -> int:
        """How long it is now."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on; zeros stand for what is behind the end, so there are always `length`.

        :raise OSError: it cannot be read.
        """

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write the bytes; it grows where they reach beyond its end.

        :raise OSError: they cannot be written, or not all of them.
        """

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let these bytes be zeros; the room that they take may be given back where `unmap`.

        :raise OSError: it cannot be done.
        """

    def truncate(self, size: int) -> None:
        """Make it this long.

        :raise OSError: it cannot be done.
        """

    def flush(self) -> None:
        """Return when all that was written is where it survives.

        :raise OSError: it cannot be done.
        """
