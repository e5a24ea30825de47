"""QED images, with what is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.formats import Layered
from qmpd.block.images.qed import Header, Qed, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.content import Content


class QedContent(Layered):
    """A QED image.  The header is read at once, all else when the first bytes are asked for."""

    def __init__(self, file: Content, *, read_only: bool) -> None:
        """:raise ImageError: QEMU would not open it."""
        super().__init__(file, read_only=read_only)
        self.header: Header = read_header(file)
        self._image: Qed | None = None

    @property
    def image(self) -> Qed:
        """The image, open."""
        if self._image is None:
            self._image = Qed(self.file, self.header, self.read_behind, read_only=self.read_only)
        return self._image

    def move_to(self, file: Content) -> None:
        """Be in another file from now on, which is supposed to hold the same."""
        self.file = file
        self._image = None

    def forget(self, *, read_only: bool) -> None:
        """Be opened anew with the next bytes.

        :raise ImageError: QEMU would not open it.
        """
        self.header = read_header(self.file)
        self.read_only = read_only
        self._image = None

    def name_backing(self, name: bytes | None, kind: bytes | None) -> None:
        """Have it say what is behind it.

        :raise ImageError, OSError: it cannot be written.
        """
        self.header.set_backing(name, kind)
        self.header.write(self.file)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.header.size

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        return self.file.allocated

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        return self.image.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self.image.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self.image.zero(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """What was written stays: the format gives nothing back."""

    def truncate(self, size: int) -> None:
        """Make it this long."""
        self.image.resize(size)

    def flush(self) -> None:
        """Return when all that was written survives."""
        self.file.flush()

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is allocated in this image."""
        for part, entry in self.image.pieces(offset, length):
            yield part, bool(entry)

    def close(self) -> None:
        """What it is in is closed by whoever opened that."""
        self._image = None
