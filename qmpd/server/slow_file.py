"""Files that clients name: a disk may be slow, a pipe be read by nobody, and no machine waits for either."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from qmpd.server import log
from qmpd.server.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 20
"""Bytes of a log that wait to be written."""


def write_file(path: str, content: bytes) -> tuple[int, Callable[[], None]]:
    """Write a file in a thread.

    The descriptor can be read when that is done or has failed, and is the caller's; the function raises OSError then
    where it has.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    failure: list[OSError] = []

    def write() -> None:
        try:
            with open(path, "wb") as file:
                file.write(content)
        except OSError as error:
            failure.append(error)
        except ValueError as error:
            failure.append(OSError(0, str(error)))  # it has a name that no file can have
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
