"""What the decoder gives in place of a message."""

from __future__ import annotations


class ParseError:
    """Input that is no message. `message` is the `desc` of the error that QEMU sends, of class GenericError."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParseError) and other.message == self.message

    def __hash__(self) -> int:
        return hash(self.message)

    def __repr__(self) -> str:
        return f"ParseError({self.message!r})"
