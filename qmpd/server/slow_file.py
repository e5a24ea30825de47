"""Files that clients name: a disk may be slow, a pipe be read by nobody, and no machine waits for either."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING

from qmpd.server import log
from qmpd.server.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 20
"""Bytes of a log that wait to be written."""


def _shorten(number: int) -> None:
    """Leave nothing in an open file; where it goes on stays as it is.

    :raise OSError: it cannot be done; the error names the file, as those do where one cannot be opened.
    """
    try:
        os.ftruncate(number, 0)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"/dev/fd/{number}") from None


def _remove(path: str) -> None:
    """Take away a file that has not come about, as QEMU does; a device, which it takes away, too, is left alone."""
    with contextlib.suppress(OSError):
        if stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFREG, stat.S_IFLNK):
            os.unlink(path)


def write_file(path: str | int, content: Callable[[], bytes]) -> tuple[int, Callable[[], None]]:
    """Write a file in a thread, which makes the content; one that is open, by its number, is closed then.

    The descriptor can be read when that is done or has failed, and is the caller's; the function raises OSError then
    where it has, which names the file where that could not be opened.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    failure: list[OSError] = []

    def write() -> None:
        try:
            with open(path, "wb", buffering=0) as file:
                if isinstance(path, int):
                    _shorten(path)
                rest = memoryview(content())
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            failure.append(error)
            if error.filename is None and isinstance(path, str):
                _remove(path)
        except ValueError as error:
            failure.append(OSError(0, str(error), path))  # it has a name that no file can have
        finally:
            os.close(tell)

    def outcome() -> None:
        if failure:
            raise failure[0]

    threading.Thread(target=write, name="file", daemon=True).start()
    return told, outcome


def appender(path: str) -> Callable[[bytes], None]:
    """What writes behind what is in a file."""
    writer = Writer(None, MOST, lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666))
    lost = False

    def append(data: bytes) -> None:
        nonlocal lost
        taken = writer.write(data)
        if not taken and not lost:
            reason = "it does not take them in time" if writer.error is None else writer.error.strerror
            log.error(f"{path}: something is missing: {reason}")
        lost = not taken

    return append
