"""The arguments of a packet, as QEMU's table of commands describes and reads them.

A description is a text of pairs: a letter for the kind, and one for where the argument ends.  Kinds: `n` a hexadecimal
number of 64 bits, `s` a text, `c` a single character, `t` a thread, `-` something that is skipped.  Ends: `?` any of
`,;:=`, `0` the end of the packet, `.` the next character whatever it is, or else the character itself.  What is missing
at the end is left out, so it is up to the command how many arguments it needs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DELIMITERS = ",;:="
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)")
_LIMIT = 1 << 64
_ID_LIMIT = 1 << 32
ALL = _LIMIT - 1
"""The number that stands for all threads, or for all processes: -1."""


class Malformed(Exception):  # noqa: N818 - what the packet is
    """An argument cannot be read; the packet counts as one that is not known."""


class Thread(NamedTuple):
    """A thread as a packet names it: a process and a thread of it, 0 for any, `ALL` for all.

    `readable` is False where the packet names none.
    """

    process: int = 0
    thread: int = 0
    readable: bool = True

    @property
    def is_one(self) -> bool:
        """Whether it is not all of several."""
        return self.readable and ALL not in (self.process, self.thread)


UNREADABLE = Thread(readable=False)


def read_number(text: str, start: int = 0) -> tuple[int, int]:
    """The number that begins at `start`, as C's strtoull reads it in base 16, and where it ends.

    :raise Malformed: there is none, or it has more than 64 bits.
    """
    match = _NUMBER.match(text, start)
    if match is None:
        raise Malformed
    value = int(match[2], 16)
    if value >= _LIMIT:
        raise Malformed
    return (-value if match[1] == "-" else value) % _LIMIT, match.end()


def read_thread(text: str, start: int = 0) -> tuple[Thread, int]:
    """The thread that is named at `start` (`p1.2`, or `2` for one of the first process), and where that ends."""
    process, at = 1, start
    try:
        if text[at : at + 1] == "p":
            process, at = read_number(text, at + 1)
            at += 1
        thread, at = read_number(text, at)
    except Malformed:
        return UNREADABLE, start
    return Thread(_identifier(process), _identifier(thread)), at


def _identifier(number: int) -> int:
    return number if number == ALL else number % _ID_LIMIT


def read(text: str, description: str) -> list[int | str | Thread]:
    """The arguments in `text`.

    :raise Malformed: one that should be a number is none.
    """
    found: list[int | str | Thread] = []
    at = 0
    for kind, end in zip(description[::2], description[1::2], strict=True):
        if at >= len(text):
            break
        value: int | str | Thread
        if kind == "n":
            value, at = read_number(text, at)
        elif kind == "t":
            value, at = read_thread(text, at)
        else:
            # Where a text ends is for whoever takes it to see.
            value = text[at] if kind == "c" else text[at:]
        at = _next(text, at, end)
        if kind != "-":
            found.append(value)
    return found


def _next(text: str, at: int, end: str) -> int:
    """Where the next argument begins."""
    if end == "0":
        return len(text)
    if end == ".":
        return at + 1
    delimiters = _DELIMITERS if end == "?" else end
    while at < len(text) and text[at] not in delimiters:
        at += 1
    return min(at + 1, len(text))
