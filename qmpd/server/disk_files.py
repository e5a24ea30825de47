"""The files of disks: where the bytes of images are."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# <linux/falloc.h>
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_NOT_THERE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL)


def _fallocate() -> Callable[[int, int, int, int], int]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call: Callable[[int, int, int, int], int] = libc.fallocate
    return call


class FileStorage:
    """An open file (`qmpd.block.images.storage.Storage`).  It does not own the descriptor until `close`."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """How long it is now."""
        return os.lseek(self.descriptor, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on; zeros stand for what is behind the end.

        :raise OSError: it cannot be read.
        """
        data = os.pread(self.descriptor, length, offset)
        while len(data) < length:
            more = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not more:
                return data.ljust(length, b"\0")
            data += more
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write the bytes.

        :raise OSError: they cannot be written, or not all of them.
        """
        written = os.pwrite(self.descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self.descriptor, memoryview(data)[written:], offset + written)

    def zero(self, offset: int, length: int) -> None:
        """Let these bytes be zeros, and give back their room where the file system can.

        :raise OSError: it cannot be done.
        """
        inside = min(length, max(0, self.size - offset))
        if inside and _fallocate()(self.descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, inside) != 0:
            number = ctypes.get_errno()
            if number not in _NOT_THERE:
                raise OSError(number, os.strerror(number))
            for place in range(offset, offset + inside, 1 << 20):
                self.write(place, bytes(min(1 << 20, offset + inside - place)))
        if inside < length:
            self.truncate(offset + length)

    def truncate(self, size: int) -> None:
        """Make it this long.

        :raise OSError: it cannot be done.
        """
        os.ftruncate(self.descriptor, size)

    def flush(self) -> None:
        """Return when all that was written is on the disk.

        :raise OSError: it cannot be done.
        """
        os.fdatasync(self.descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
