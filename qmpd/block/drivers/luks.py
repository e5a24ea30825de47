"""A LUKS volume that is alone in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.images.luks.cipher import Encrypted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.content import Content
    from qmpd.block.images.luks.cipher import SectorCipher
    from qmpd.block.images.luks.header import LuksHeader


class Luks(Encrypted):
    """The volume's bytes (`qmpd.block.content.Content`)."""

    __slots__ = ("file", "header")

    def __init__(self, file: Content, header: LuksHeader, cipher: SectorCipher) -> None:
        super().__init__(file, cipher, header.payload)
        self.file = file
        self.header = header

    @property
    def specific(self) -> dict[str, Any]:
        """QAPI's ImageInfoSpecific."""
        return {"type": "luks", "data": self.header.describe()}

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        return self.file.allocated

    def discard(self, offset: int, length: int) -> None:
        """What is encrypted stays where it is."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Nothing is behind it."""
        yield length, True

    def close(self) -> None:
        """What it is in is closed by whoever opened that."""
