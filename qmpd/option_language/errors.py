"""What is wrong with a command line, in QEMU's words."""

from __future__ import annotations

from qmpd.common.refusals import Worded

# The location of an error that QEMU reports without one, whichever option it comes from.
NOWHERE = ""


class OptionError(Worded):
    """An option that cannot be taken.

    `message` is QEMU's sentence, `location` the option as it was typed (`-m foo`) or None where QEMU
    names none, `hint` the lines of advice that QEMU prints after the message.
    """

    def __init__(self, message: str, location: str | None = None, hint: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.location = location

    def __str__(self) -> str:
        """The message behind its location, as QEMU prints it behind the program's name."""
        return self.message if not self.location else f"{self.location}: {self.message}"


class BareError(OptionError):
    """An error that QEMU prints without its name and a location, ending the program."""


class OptionList(OptionError):  # noqa: N818 - it is no failure
    """An option's argument was one that makes QEMU print a list, the message, and end with this status."""

    def __init__(self, text: str, status: int, lines: tuple[str, ...] = ()) -> None:
        """`lines` are for standard error."""
        super().__init__(text, hint=lines)
        self.status = status
