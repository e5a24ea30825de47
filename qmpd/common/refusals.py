"""What refuses a request: raised by the rule that refuses, spelled by the door through which the request came.

A rule says by a code which of the refusals it is, and gives the values that its words tell of.  The words are data, as
they differ between releases: `schemas/refusals.json`, and the file of the same name in a release's folder
(`qmpd.qapi.refusals`).
"""

from __future__ import annotations

from typing import Self


class Refusal(Exception):  # noqa: N818 - the word that the whole project has for it
    """A request is refused, for the reason `code`; `values` are what the words tell of.

    A value that is a refusal itself is told in its own words.  `location` is where on a command line the request
    stands, as QEMU names it (`-m foo`); None where nobody has said it yet.  It `advises` where the lines of advice
    that belong to it are to be told.
    """

    __slots__ = ("advises", "code", "location", "values")

    def __init__(self, code: str, /, **values: object) -> None:
        super().__init__(code, values)
        self.code = code
        self.values = values
        self.location: str | None = None
        self.advises = True

    def __str__(self) -> str:
        """The code and the values, for those who debug; what a user reads is the release's."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{self.code} ({told})" if told else self.code

    def at(self, location: str) -> Self:
        """The same refusal at `location`, unless it has one."""
        if self.location is None:
            self.location = location
        return self


class Worded(Refusal):
    """A refusal that has its words already: captured ones, or qmpd's own.

    `message` is the sentence, `hint` the lines of advice that follow it where a person reads it, `before` those that a
    program prints first; `error_class` is its class in QMP.
    """

    __slots__ = ("before", "hint", "message")
    error_class = "GenericError"

    def __init__(self, message: str, hint: tuple[str, ...] = ()) -> None:
        super().__init__("")
        self.message = message
        self.hint = hint
        self.before: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The sentence."""
        return self.message


class NotModelled(Worded):
    """QEMU would have done what was asked for, or refused it for a reason of its own, which qmpd does not know.

    `what` completes the sentence "qmpd does not model ...".
    """

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        super().__init__(f"qmpd does not model {what}")
        self.what = what
