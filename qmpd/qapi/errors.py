"""The errors that `qmpd.qapi` raises."""

from __future__ import annotations

from qmpd.common.refusals import Refusal
from qmpd.common.suggestions import suggestion


class ArgumentError(Refusal):
    """A command's arguments do not fit its declaration."""

    __slots__ = ()


class UnknownRelease(Exception):  # noqa: N818 - the name says what happened
    """No release has the name that was asked for; the text lists those that are known."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"unknown release '{name}': known are {', '.join(known) or 'none'}, or the path of a folder")
        self.name = name
        self.known = known


class UnknownExtension(Exception):  # noqa: N818 - the name says what happened
    """No extension has the name that was asked for; the text lists those that there are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown extension '{name}'{suggestion(name, known)}")
        self.name = name
        self.known = known


class BadRelease(Exception):  # noqa: N818 - the name says what is wrong
    """A release folder (or a twin's file) cannot be read; the text says which file and why."""
