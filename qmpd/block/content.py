"""What is in a node: the bytes that its users read and write.

All of it may take its time, so whoever serves a machine calls it in a thread (`qmpd.block.threads`); but for `size`,
`allocated` and `close`, which are quick.
"""

from __future__ import annotations

from errno import EIO, EPERM
from typing import TYPE_CHECKING, Protocol

from qmpd.block.images.errors import ImageError, failure
from qmpd.block.images.errors import text as error_text
from qmpd.block.images.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

ZEROS = 1 << 20
"""So many zeros are written at once."""


class Content(Storage, Protocol):
    """The bytes of one node.  All offsets and lengths are in bytes; each method may raise OSError or ImageError."""

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes; None where nobody can tell."""

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs these bytes any more; what they read as afterwards is the format's affair."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What a part is: lengths, and whether it is allocated here rather than in the backing file."""

    def close(self) -> None:
        """Let go of what is open."""


class Passing:
    """A filter: what is below, as it is; the base of those that do more."""

    def __init__(self, below: Content) -> None:
        self.below = below

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.below.size

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        return self.below.allocated

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        return self.below.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self.below.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self.below.zero(offset, length, unmap=unmap)

    def truncate(self, size: int) -> None:
        """Make it this long."""
        self.below.truncate(size)

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them."""
        self.below.discard(offset, length)

    def flush(self) -> None:
        """Return when all that was written survives."""
        self.below.flush()

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is allocated."""
        return self.below.pieces(offset, length)

    def close(self) -> None:
        """Nothing is open here."""


class Gone:
    """What cannot be opened any more: every read and write fails."""

    size = 0
    allocated = None

    def _fail(self, *arguments: object, **options: object) -> None:
        raise failure(EIO)

    def read(self, offset: int, length: int) -> bytes:
        """It fails."""
        raise failure(EIO)

    write = zero = discard = truncate = flush = _fail

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """It is there, as far as anybody knows."""
        yield length, True

    def close(self) -> None:
        """Nothing is open."""

    yank = close


def number_of(error: OSError | ImageError) -> int:
    """The error number of what has failed."""
    if isinstance(error, ImageError):
        return error.number
    return error.errno or EIO


def text_of(error: OSError | ImageError) -> str:
    """What the system says of what has failed."""
    return error_text(number_of(error))


def not_permitted() -> OSError:
    """What a node that may not be written raises."""
    return failure(EPERM)
