"""What QEMU's program says on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qmpd.option_language.errors import BareError, OptionError
from qmpd.qapi.refusals import Wordings

if TYPE_CHECKING:
    from qmpd.common.refusals import Refusal
    from qmpd.qapi.release import Release


def as_error(words: Wordings, refusal: Refusal, location: str) -> OptionError:
    """A refusal in these words, at a place on the command line where it has none of its own."""
    message, *lines = words.message(refusal).split("\n")
    place = location if refusal.location is None else refusal.location
    error = OptionError(message, place, (*lines, *words.hint(refusal)))
    error.before = words.before(refusal)
    return error


class Complaints:
    """What goes to standard error, as QEMU puts it there; `-msg timestamp=on` puts the time in front."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.timestamp = False
        # Whether the guest's name stands in front, and that name.
        self.names_guest = False
        self.guest = ""
        # Whose words refusals are told in, once it is known.
        self.release: Release | None = None

    def line(self, text: str) -> None:
        """A message, behind the program's name."""
        from qmpd.server import log

        log.timestamp = self.timestamp
        # A place in a file follows the name without a blank.
        place, _, rest = text.partition(": ") if text.startswith(":") else ("", "", text)
        guest = f"{self.guest} " if self.names_guest and self.guest else ""
        log.name = guest + self.program + place
        log.error(rest)
        log.name = self.program

    def error(self, error: Refusal) -> None:
        """An error, its advice on lines of its own."""
        if isinstance(error, BareError):
            sys.stderr.write(f"{error.message}\n")
            return
        words = Wordings() if self.release is None else self.release.refusals
        for line in words.before(error):
            sys.stderr.write(f"{line}\n")
        for text in filter(None, words.message(error).split("\n")):
            self.line(f"{error.location}: {text}" if error.location else text)
        for hint in words.hint(error):
            sys.stderr.write(f"{hint}\n")
        sys.stderr.flush()
