"""The pid file of `-pidfile`: locked while the server runs, removed when it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

# struct flock of Linux: type, whence, start, length, pid.  A lock of the open file description, as QEMU's:
# it excludes QEMU and is excluded by it.
_WRITE_LOCK = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class PidFileError(Exception):
    """The pid file cannot be made; the text is QEMU's."""


class PidFile:
    """A locked file that holds this process's id."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, refusal: str = "Could not create '{path}': {reason}") -> None:
        """Create the file, lock it and write the process's id.

        `refusal` is the release's text for a file that cannot be opened.

        :raise PidFileError: it cannot be created or written, or another process has locked it.
        """
        # The process may change its folder before it removes the file.
        self.path = os.path.abspath(path) if path else path
        while True:
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                reason = refusal.format(path=path, reason=error.strerror)
                raise PidFileError(f"cannot create PID file: {reason}") from error
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WRITE_LOCK)
                if self._names(descriptor):
                    break
            except OSError as error:
                os.close(descriptor)
                raise PidFileError(f"cannot create PID file: Cannot lock pid file: {error.strerror}") from error
            # Its last owner removed it between the two calls: what is locked has no name any more.
            os.close(descriptor)
        self.descriptor = descriptor
        try:
            self.write()
        except OSError as error:
            self.remove()
            raise PidFileError(f"cannot create PID file: Failed to write pid file: {error.strerror}") from error

    @classmethod
    def inherit(cls, path: str, descriptor: int) -> PidFile:
        """The pid file of another process, which has handed over its open file, and the lock with it."""
        pid_file = cls.__new__(cls)
        pid_file.path = path
        pid_file.descriptor = descriptor
        return pid_file

    def write(self) -> None:
        """Write this process's id, over what stands there.

        :raise OSError: it cannot be written; the disk is full.
        """
        text = b"%d\n" % os.getpid()
        if os.pwrite(self.descriptor, text, 0) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(self.descriptor, len(text))

    def _names(self, descriptor: int) -> bool:
        """Whether the path leads to this open file."""
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        here = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def remove(self) -> None:
        """Remove the file, unless its path has come to lead to another one, and give up the lock."""
        try:
            if self._names(self.descriptor):
                os.unlink(self.path)
        except OSError:
            pass  # its folder is gone or closed to us: nothing is left to remove
        self.release()

    def release(self) -> None:
        """Close the file and leave it as it is; the lock stays with whoever else has it open."""
        os.close(self.descriptor)
