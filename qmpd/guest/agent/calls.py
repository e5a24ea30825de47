"""How a program of the guest is called, and what it does then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

OUT, ERR = 1, 2


class Call(NamedTuple):
    """How a program is called: its path, arguments, environment and standard input."""

    path: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    input: bytes = b""


class Ending(NamedTuple):
    """What a program does: what it prints, in pieces of `OUT` and `ERR`; its exit status, or the signal that ends it.

    `seconds` pass until it ends, on the machine's own time.
    """

    printed: tuple[tuple[int, bytes], ...] = ()
    status: int = 0
    signal: int | None = None
    seconds: float = 0.0

    def stream(self, *numbers: int) -> bytes:
        """What it prints to these streams, in order."""
        return b"".join(piece for number, piece in self.printed if number in numbers)


Program = Callable[[Call], Ending]


def printing(text: str, status: int = 0) -> Ending:
    """The end of a program that prints a text."""
    return Ending(((OUT, text.encode()),), status)
