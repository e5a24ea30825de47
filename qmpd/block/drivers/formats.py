"""The formats: raw, which is a part of what is below, and qcow2 with what is behind it."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from qmpd.block.content import Content, Passing
from qmpd.block.images.errors import CorruptImage, ImageError, failure
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import read_header, write_header
from qmpd.block.images.qcow2.image import Qcow2
from qmpd.block.images.qcow2.mapping import Kind
from qmpd.block.images.qcow2.reading import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.images.luks.cipher import SectorCipher
    from qmpd.block.images.luks.header import LuksHeader
    from qmpd.block.images.qcow2.compressing import Compressor
    from qmpd.block.images.qcow2.header import Header
    from qmpd.block.images.qcow2.reading import Parts
    from qmpd.block.images.storage import Storage


class Raw(Passing):
    """What is below from `offset` on, `length` bytes of it; to its end where that is None."""

    def __init__(self, below: Content, offset: int = 0, length: int | None = None) -> None:
        super().__init__(below)
        self.offset = offset
        self.length = length

    def _tell(self, event: str) -> None:
        """Let a blkdebug node below know what is about to be done."""
        node = getattr(self.below, "node", None)
        if node is not None and node.driver == "blkdebug":
            node.content.event(event)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return max(0, self.below.size - self.offset) if self.length is None else self.length

    def _check(self, offset: int, length: int) -> None:
        if self.length is not None and offset + length > self.length:
            raise failure(errno.ENOSPC)

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        self._tell("read_aio")
        return self.below.read(self.offset + offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self._check(offset, len(data))
        self._tell("write_aio")
        self.below.write(self.offset + offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self._check(offset, length)
        self.below.zero(self.offset + offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them."""
        self._check(offset, length)
        self.below.discard(self.offset + offset, length)

    def truncate(self, size: int) -> None:
        """Make it this long.

        :raise OSError: its length was given.
        """
        if self.length is not None:
            raise failure(errno.ENOTSUP)
        self.below.truncate(self.offset + size)

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is allocated."""
        return self.below.pieces(self.offset + offset, length)


class Layered(Content):
    """An image in `file` that shows `backing` where it has nothing itself."""

    def __init__(self, file: Content, *, read_only: bool) -> None:
        self.file = file
        self.read_only = read_only
        self.backing: Content | None = None

    def set_backing(self, backing: Content | None) -> None:
        """Have this behind it from now on."""
        self.backing = backing

    def read_behind(self, offset: int, length: int) -> bytes:
        """What is behind it, zeros where nothing is."""
        there = 0 if self.backing is None else max(0, min(length, self.backing.size - offset))
        return (self.backing.read(offset, there) if self.backing is not None and there else b"").ljust(length, b"\0")

    def move_to(self, file: Content) -> None:
        """Be in another file from now on, which is supposed to hold the same."""
        raise NotImplementedError

    def forget(self, *, read_only: bool) -> None:
        """Be opened anew with the next bytes.

        :raise ImageError: QEMU would not open it.
        """
        raise NotImplementedError

    def name_backing(self, name: bytes | None, kind: bytes | None) -> None:
        """Have the image say what is behind it.

        :raise ImageError, OSError: it cannot be written.
        """
        raise NotImplementedError


def _decrypted(
    file: Storage, data: Storage | None, parts: Parts | None, cipher: SectorCipher
) -> tuple[Storage | None, Parts]:
    """The data file and the parts of an encrypted image: all but the guest's bytes is as it is."""
    from qmpd.block.images.luks.cipher import Encrypted

    def part(name: str) -> Storage:
        storage = file if parts is None else parts(name)
        return Encrypted(storage, cipher) if name == "data" else storage

    return None if data is None else Encrypted(data, cipher), part


class Qcow2Content(Layered):
    """A qcow2 image.  The header is read at once, all else when the first bytes are asked for."""

    def __init__(self, file: Content, data: Content | None, *, read_only: bool) -> None:
        """:raise ImageError: QEMU would not open it."""
        super().__init__(file, read_only=read_only)
        self.data = data
        self.discards = False
        # Whether something was written since it was flushed.
        self._is_changed = False
        self.keeps_room = False
        # Whether what the guest gives back is given back to the file system, too.
        self.passes_on: Callable[[], bool] = bool
        self.passes_snapshots: Callable[[], bool] = bool
        self.header: Header = read_header(file, read_only=read_only)
        # How the guest's bytes are encrypted, where they are.
        self.encryption: tuple[LuksHeader, SectorCipher] | None = None
        self._image: Qcow2 | None = None
        self._compressor: tuple[Qcow2, Compressor] | None = None
        self.tell_corrupt: Callable[[CorruptImage, bool], None] | None = None
        # Whether it was told that it contradicts itself, and whether it is not to be used any more.
        self._was_told = self._is_broken = False

    @property
    def image(self) -> Qcow2:
        """The image, open.

        :raise ImageError: it cannot be.
        :raise OSError: it cannot be read.
        """
        if self._is_broken:
            raise failure(errno.ENOMEDIUM)
        if self._image is None:
            data: Storage | None = self.data
            parts = self._parts()
            if self.encryption is not None:
                data, parts = _decrypted(self.file, data, parts, self.encryption[1])
            self._image = Qcow2(self.file, read_only=self.read_only, data=data, parts=parts)
            self._image.keeps_room = self.keeps_room
            self._image.passes_on, self._image.passes_snapshots = self.passes_on, self.passes_snapshots
            self.header = self._image.header
            self._look_behind()
        return self._image

    def _parts(self) -> Parts | None:
        """The parts of the file as they are read and written where somebody below wants to know which."""
        node = getattr(self.file, "node", None)
        events = None if node is None or node.driver != "blkdebug" else node.content
        if events is None:
            return None
        from qmpd.block.drivers.blkdebug import PARTS, Tagged

        file = self.file

        def part(name: str) -> Storage:
            return Tagged(file, events, *PARTS[name])

        return part

    def _look_behind(self) -> None:
        backing, image = self.backing, self._image
        if image is None:
            return
        if backing is None:
            image.below, image.below_size, image.below_is_zero = nothing, 0, image.is_behind_below
            return
        image.below = self.read_behind
        image.below_size = backing.size
        image.below_is_zero = self._is_zero_behind

    def _is_zero_behind(self, offset: int, length: int) -> bool:
        backing = self.backing
        if backing is None or offset >= backing.size:
            return True
        if isinstance(backing, Qcow2Content):
            return backing.is_zero(offset, min(length, backing.size - offset))
        return False

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether a part is known to be zeros, without reading it."""
        for piece in self.image.pieces(offset, length):
            if piece.kind in (Kind.DATA, Kind.COMPRESSED):
                return False
            if piece.kind is Kind.UNALLOCATED and not self._is_zero_behind(offset, piece.length):
                return False
            offset += piece.length
        return True

    def set_backing(self, backing: Content | None) -> None:
        """Have this behind it from now on."""
        self.backing = backing
        self._look_behind()

    def move_to(self, file: Content) -> None:
        """Be in another file from now on, which is supposed to hold the same."""
        self.file = file
        self._image = None

    def forget(self, *, read_only: bool) -> None:
        """Be opened anew with the next bytes.

        :raise ImageError: QEMU would not open it.
        """
        self.header = read_header(self.file, read_only=read_only)
        self.read_only = read_only
        self._image = None
        if not read_only and self.header.autoclear & ~layout.KNOWN_AUTOCLEAR:
            # What nobody here knows of would not be kept up to date: that is said at once, not with the first write.
            with contextlib.suppress(OSError):
                self.header = self.image.header

    def name_backing(self, name: bytes | None, kind: bytes | None) -> None:
        """Have the image say what is behind it.

        :raise ImageError, OSError: it cannot be written.
        """
        header = self.image.header if not self.read_only else self.header
        before = header.backing, header.backing_format
        header.backing, header.backing_format = name, kind
        try:
            write_header(header, self.file)
        except ImageError:
            header.backing, header.backing_format = before
            raise

    @property
    def size(self) -> int:
        """How many bytes there are, in whole sectors."""
        return self.header.size // 512 * 512

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        if self.data is None:
            return self.file.allocated
        return (self.file.allocated or 0) + (self.data.allocated or 0)

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        try:
            return self.image.read(offset, length)
        except CorruptImage as error:
            self._corrupt(error)
            raise

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self._is_changed = True
        try:
            self.image.write(offset, data)
        except CorruptImage as error:
            self._corrupt(error)
            raise

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self._is_changed = True
        try:
            self.image.zero(offset, length, unmap=unmap)
        except CorruptImage as error:
            self._corrupt(error)
            raise

    def write_compressed(self, offset: int, data: bytes) -> None:
        """Write whole clusters compressed."""
        if self._compressor is None or self._compressor[0] is not self.image:
            from qmpd.block.images.qcow2.compressing import Compressor

            self._compressor = self.image, Compressor(self.image)
        self._compressor[1].write(offset, data)

    def discard(self, offset: int, length: int) -> None:
        """Give their clusters back."""
        self._is_changed = True
        try:
            self.image.discard(offset, length)
        except CorruptImage as error:
            self._corrupt(error)
            raise

    def _corrupt(self, error: CorruptImage) -> None:
        """The image contradicts itself: that is told once, and nobody writes to it any more where it is bad."""
        fatal = error.fatal and not self.read_only
        if self.tell_corrupt is not None and not self._is_broken and (fatal or not self._was_told):
            self._was_told = True
            self.tell_corrupt(error, fatal)
        if fatal and not self._is_broken:
            self.image.make_corrupt(error)
            self._is_broken = True

    def truncate(self, size: int) -> None:
        """Make it this long; the node has its bitmaps."""
        self.image.resize(size, with_bitmaps=True)

    def flush(self) -> None:
        """Return when all that was written survives."""
        if self._image is not None:
            self._image.flush()
        self._is_changed = False

    @property
    def is_to_be_flushed(self) -> bool:
        """Whether there is something to flush before it is closed, below which may fail: a file keeps all by itself."""
        node = getattr(self.file, "node", None)
        return self._is_changed and node is not None and (bool(node.children) or bool(node.faults))

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is allocated in this image."""
        for piece in self.image.pieces(offset, length):
            yield piece.length, piece.kind is not Kind.UNALLOCATED

    def close(self) -> None:
        """What it is in is closed by whoever opened that."""
        self._image = None
