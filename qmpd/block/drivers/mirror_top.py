"""mirror_top and commit_top: the nodes that a job puts on top of what it copies.  (block/mirror.c, block/commit.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.block.content import Passing

if TYPE_CHECKING:
    from qmpd.block.content import Content


class Copier(Protocol):
    """Whoever copies what is written; called in a thread of the disks."""

    def wrote(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """These bytes were written."""

    def cleared(self, offset: int, length: int, *, unmap: bool) -> None:
        """These bytes are zeros now, or nobody's."""


class MirrorTop(Passing):
    """What is below, whose writes are told to a job."""

    def __init__(self, below: Content) -> None:
        super().__init__(below)
        self.copier: Copier | None = None

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write, and tell."""
        try:
            super().write(offset, data)
        finally:
            if self.copier is not None:
                self.copier.wrote(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros, and tell."""
        try:
            super().zero(offset, length, unmap=unmap)
        finally:
            if self.copier is not None:
                self.copier.cleared(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        """Let go, and tell."""
        try:
            super().discard(offset, length)
        finally:
            if self.copier is not None:
                self.copier.cleared(offset, length, unmap=True)


class CommitTop(Passing):
    """What is below; nobody writes to it."""
