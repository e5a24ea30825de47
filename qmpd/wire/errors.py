"""What the decoder gives in place of a message."""

from __future__ import annotations


class ParseError:
    """Input that is no message. `message` is the `desc` of the error that QEMU sends, of class GenericError.

    `stray`: no token could be made of it.
    """

    __slots__ = ("message", "stray")

    def __init__(self, message: str, *, stray: bool = False) -> None:
        self.message = message
        self.stray = stray

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParseError) and other.message == self.message

    def __hash__(self) -> int:
        return hash(self.message)

    def __repr__(self) -> str:
        return f"ParseError({self.message!r})"
