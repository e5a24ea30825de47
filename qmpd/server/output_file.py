"""Files that are written for clients in a thread: dumps of the guest's memory."""

from __future__ import annotations

import errno
import os

_ZEROS = 1 << 20


def open_output(path: str, mode: int) -> FileOutput:
    """Make a file, or write it anew.

    :raise OSError: it cannot be opened; ENXIO where it is a pipe that nobody reads.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        number = os.open(path, flags, mode)
    except ValueError:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    os.set_blocking(number, True)
    return FileOutput(number)


class FileOutput:
    """An open file (`qmpd.system.dumps.plan.Output`); one that has no places, as a pipe, gets its zeros, too."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._at = 0
        try:
            os.lseek(number, 0, os.SEEK_CUR)
            self._has_places = True
        except OSError:
            self._has_places = False

    def write(self, offset: int, data: bytes) -> None:
        """Write these bytes there."""
        if self._has_places:
            os.lseek(self._number, offset, os.SEEK_SET)
        else:
            if offset < self._at:
                raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
            self._fill(offset)
        self._put(data)
        self._at = offset + len(data)

    def _fill(self, offset: int) -> None:
        while self._at < offset:
            count = min(_ZEROS, offset - self._at)
            self._put(bytes(count))
            self._at += count

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._number, view) :]

    def end(self, size: int) -> None:
        """Make it this long."""
        if not self._has_places:
            self._fill(size)
        elif size > self._at:
            os.ftruncate(self._number, size)

    def close(self) -> None:
        """Close it; twice does no harm."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)
