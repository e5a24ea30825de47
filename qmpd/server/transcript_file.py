"""`-transcript FILE`: each entry of the transcript as a line of JSON, written when it happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from qmpd.server import log
from qmpd.server.listener import ListenError

if TYPE_CHECKING:
    from qmpd.control.transcript import Recorder


class TranscriptFile:
    """A file that follows a recorder."""

    __slots__ = ("_file", "_recorder", "path")

    def __init__(self, path: str, recorder: Recorder) -> None:
        """Open the file, and write what has been recorded by now; an existing one is written anew.

        :raise ListenError: it cannot be written.
        """
        self.path = path
        self._recorder = recorder
        try:
            self._file: TextIO = open(path, "w", encoding="ascii", buffering=1)  # noqa: SIM115 - open until `close`
        except OSError as error:
            raise ListenError(f"Cannot write the transcript {path}: {error.strerror}") from None
        recorder.follow(self._write, from_start=True)

    @classmethod
    def inherit(cls, path: str, descriptor: int, recorder: Recorder) -> TranscriptFile:
        """The file of another process, which has handed it over with all that was recorded by now in it."""
        transcript = cls.__new__(cls)
        transcript.path = path
        transcript._recorder = recorder
        transcript._file = open(descriptor, "a", encoding="ascii", buffering=1)  # noqa: SIM115 - open until `close`
        recorder.follow(transcript._write)
        return transcript

    @property
    def descriptor(self) -> int:
        """The open file's number."""
        return self._file.fileno()

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file.closed:
            return  # what is followed from the start comes to its end before it hears of that
        try:
            self._file.write(json.dumps(entry) + "\n")
        except OSError as error:
            log.error(f"the transcript {self.path} ends here: {error.strerror}")
            self.close()

    def close(self) -> None:
        """Write no more."""
        self._recorder.unfollow(self._write)
        try:
            self._file.close()
        except OSError as error:
            log.error(f"the transcript {self.path} is not complete: {error.strerror}")
