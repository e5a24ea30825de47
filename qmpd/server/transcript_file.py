"""`-transcript FILE`: each entry of the transcript as a line of JSON, written when it happens.

The machine does not wait for the file (`qmpd.server.writer`).  Where the file is too slow entries are left out;
standard error is told, and so is the file, by an entry of kind `lost` in their place.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from qmpd.control.recorder import EntryKind
from qmpd.control.spelling import spell
from qmpd.server import log
from qmpd.server.listener import ListenError
from qmpd.server.writer import Writer

if TYPE_CHECKING:
    from qmpd.control.recorder import Recorder

MOST = 16 << 20
"""Bytes that wait to be written."""

PATIENCE = 2.0
"""Seconds that the file is given to take the rest when the machine has ended."""

_WAY = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class TranscriptFile:
    """A file that follows a recorder."""

    __slots__ = ("_lost", "_recorder", "_tell", "_writer", "path")

    def __init__(self, path: str, recorder: Recorder) -> None:
        """Open the file, and write what has been recorded by now; an existing one is written anew.

        :raise ListenError: it cannot be written.
        """
        try:
            descriptor = _opened(path)
        except OSError as error:
            raise ListenError(f"Cannot write the transcript {path}: {error.strerror}") from None
        self._begin(path, recorder, Writer(descriptor, MOST, lambda: os.open(path, _WAY, 0o666)))
        recorder.follow(self._write, from_start=True)

    @classmethod
    def inherit(cls, path: str, descriptor: int, recorder: Recorder) -> TranscriptFile:
        """The file of another process, which has handed it over with all that was recorded by now in it."""
        transcript = cls.__new__(cls)
        transcript._begin(path, recorder, Writer(descriptor, MOST))
        recorder.follow(transcript._write)
        return transcript

    def _begin(self, path: str, recorder: Recorder, writer: Writer) -> None:
        self.path = path
        self._recorder = recorder
        self._writer: Writer | None = writer
        # How many entries were left out since one was written, and the last of them.
        self._lost = 0
        self._tell: dict[str, Any] = {}

    @property
    def descriptor(self) -> int | None:
        """The open file's number; None where it is not open."""
        return None if self._writer is None else self._writer.descriptor

    def settle(self, patience: float) -> bool:
        """Wait until all is written, for `patience` seconds; whether it is."""
        return self._writer is None or (self._writer.settle(patience) and not self._lost)

    def _write(self, entry: dict[str, Any]) -> None:
        writer = self._writer
        if writer is None:
            return  # what is followed from the start comes to its end before it hears of that
        if self._lost and writer.relieved and writer.write(self._notice()):
            self._lost = 0
        if not self._lost and writer.write(f"{spell(entry)}\n".encode()):
            return
        if writer.error is not None:
            self.close()
            return
        if not self._lost:
            first = entry["number"]
            log.error(f"the transcript {self.path} is not taken fast enough: entries from {first} on are missing")
        self._lost += 1
        self._tell = entry

    def _notice(self) -> bytes:
        """An entry in the place of those that were left out, with the number and the time of the last."""
        members = {name: self._tell[name] for name in ("number", "time", "timestamp")}
        return f"{spell({**members, 'kind': str(EntryKind.LOST), 'count': self._lost})}\n".encode()

    def close(self) -> None:
        """Write no more."""
        self._recorder.unfollow(self._write)
        writer, self._writer = self._writer, None
        if writer is None:
            return
        complete = writer.error is None and (not self._lost or writer.write(self._notice()))
        if writer.close(PATIENCE) and complete:
            return
        if writer.error is not None:
            log.error(f"the transcript {self.path} ends here: {writer.error.strerror}")
            return
        missing = f"{self._lost} entries and {writer.waiting} bytes" if self._lost else f"{writer.waiting} bytes"
        log.error(f"the transcript {self.path} is not complete: {missing} were not taken in time")


def _opened(path: str) -> int | None:
    """The open file; None for a pipe that nobody reads yet.

    :raise OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, _WAY | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    # From here on it is a thread that waits.
    os.set_blocking(descriptor, True)
    return descriptor
