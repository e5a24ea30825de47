"""The dirty bitmaps that go along with a machine, as its two sides see them (`qmpd.system.moved_bitmaps`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADS, CONTENT = "bitmap-heads", "bitmap"
"""The sections of a stream that name them all, and that have what is in one of them."""

SPEED = 384 << 20
"""Bytes of bitmaps that are sent in a second, at most, be they all zeros; measured on 7.2 and 10.0."""


class Content(NamedTuple):
    """What is in a bitmap, as a plain value; how many bytes it has, and how many of them are sent, about."""

    value: list[Any]
    size: int
    sent: int


class LeavingBitmaps(Protocol):
    """Those of a machine that goes."""

    @property
    def size(self) -> int:
        """How many bytes they have, if none of them is left out."""

    def heads(self) -> list[list[Any]]:
        """What there is to come."""

    def contents(self) -> Iterator[Content]:
        """What is in them, one after another, as it is now."""

    def are_stored(self, really: bool) -> None:
        """Whether they are stored in their images when those are closed, or another machine's."""

    def release(self) -> None:
        """The migration is over, whatever came of it."""


class ArrivingBitmaps(Protocol):
    """Those of a machine that comes."""

    def begin(self, heads: Any) -> None:
        """These will come.

        :raise BadStream: one is there already, or these are none.
        """

    def take(self, value: Any) -> None:
        """What is in one of them has come.

        :raise BadStream: it is nothing of that kind.
        """

    def go_on(self) -> None:
        """The machine goes on."""

    def drop(self) -> None:
        """Those that are not whole do not come any more."""
