"""What is to be written of a dump, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Piece(NamedTuple):
    """Bytes, and where in the file they are; `what` they are is told where they cannot be written."""

    offset: int
    data: bytes
    what: str


class Plan(NamedTuple):
    """A file: its pieces, in the order of their places, and its size; zeros are between them."""

    pieces: Iterator[Piece]
    size: int


class Output(Protocol):
    """A file that is written (`qmpd.system.ports.Host.open_output`); each method may raise OSError."""

    def write(self, offset: int, data: bytes) -> None:
        """Write these bytes there, behind all that was written before."""

    def end(self, size: int) -> None:
        """Make it this long: what was not written is zeros."""

    def close(self) -> None:
        """Close it; twice does no harm."""


class Nowhere:
    """What is written where there are no files."""

    def write(self, offset: int, data: bytes) -> None:
        """Nothing."""

    def end(self, size: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
