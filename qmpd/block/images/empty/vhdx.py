"""Empty images of VHDX (Microsoft's MS-VHDX; QEMU's block/vhdx.c).

The first mebibyte has what the image is, two headers and two tables of regions; behind that are the log, the table of
blocks (BAT), the region of metadata, and some room before the first block.
"""

from __future__ import annotations

import struct
from array import array
from random import getrandbits
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from qmpd.block.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.images.storage import Storage

    Write = Callable[[Storage], None]

_KIBIBYTE, _MEBIBYTE, _GIBIBYTE, _TEBIBYTE = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_SECTOR = 512
_LARGEST, _LARGEST_BLOCK = 64 * _TEBIBYTE, 256 * _MEBIBYTE
# Disks that are larger than that have blocks of this size, where nobody says which.
_BLOCKS = (
    (32 * _TEBIBYTE, 64 * _MEBIBYTE), (100 * _GIBIBYTE, 32 * _MEBIBYTE), (_GIBIBYTE, 16 * _MEBIBYTE),
)  # fmt: skip
_USUAL_BLOCK = 8 * _MEBIBYTE
_HEADERS, _REGIONS = (64 * _KIBIBYTE, 128 * _KIBIBYTE), (192 * _KIBIBYTE, 256 * _KIBIBYTE)
_HEADER, _TABLE = 4 * _KIBIBYTE, 64 * _KIBIBYTE
# So much of the disk has its sectors in one entry of the table that tells which of them are there.
_CHUNK = (1 << 23) * _SECTOR
_ROOM = 4 * _MEBIBYTE
_ZERO, _PRESENT = 2, 6
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_ITEMS = (
    "caa16737-fa36-4d43-b3b6-33f0aa44e76b", "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
    "beca12ab-b2e6-4523-93ef-c309e000c746", "8141bf1d-a96f-4709-ba47-f233a8faab5f",
    "cda348c7-445d-4471-9cc9-e9885251c556",
)  # fmt: skip
"""The items of metadata: parameters of the file, the disk's size, its id, its logical and its physical sectors."""
_OF_DISK, _REQUIRED = 2, 4


class _Layout(NamedTuple):
    """What an image is to be; sizes in bytes."""

    size: int
    log: int
    block: int
    zero_blocks: bool
    fixed: bool

    @property
    def bat(self) -> int:
        """Where the table of blocks is."""
        return _MEBIBYTE + self.log

    @property
    def bat_size(self) -> int:
        """How much room it has: the entries of blocks, and one more for each chunk of them."""
        blocks = -(-self.size // self.block)
        # A disk without blocks is given a table as QEMU gives it one, whose count is below zero.
        chunks = (blocks - 1 & 0xFFFFFFFF) // (_CHUNK // self.block)
        return -(-8 * (blocks + chunks) // _MEBIBYTE) * _MEBIBYTE

    @property
    def metadata(self) -> int:
        """Where the metadata are."""
        return self.bat + self.bat_size

    @property
    def data(self) -> int:
        """Where the first block is."""
        return self.metadata + _MEBIBYTE + _ROOM


def vhdx(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: an image has no such size, log or blocks."""
    size, log = int(options["size"]), int(options.get("log-size", _MEBIBYTE))
    if size > _LARGEST:
        raise ImageError("Image size too large; max of 64TB")
    if log > 0xFFFFFFFF:
        raise ImageError("Log size must be smaller than 4 GB")
    if log < _MEBIBYTE or log % _MEBIBYTE:
        raise ImageError("Log size must be a multiple of 1 MB")
    usual = next((block for least, block in _BLOCKS if size > least), _USUAL_BLOCK)
    block = int(options.get("block-size", usual))
    if block < _MEBIBYTE or block % _MEBIBYTE:
        raise ImageError("Block size must be a multiple of 1 MB")
    if block & (block - 1):
        raise ImageError("Block size must be a power of two")
    if block > _LARGEST_BLOCK:
        raise ImageError(f"Block size must not exceed {_LARGEST_BLOCK}")
    layout = _Layout(
        size, log, block, bool(options.get("block-state-zero", True)), options.get("subformat") == "fixed"
    )
    return lambda storage: _write(storage, layout)


def _write(storage: Storage, layout: _Layout) -> None:
    storage.write(0, b"vhdxfile" + "qmpd".encode("utf-16-le"))
    number, ids = getrandbits(32), uuid4().bytes_le + uuid4().bytes_le
    for more, place in enumerate(_HEADERS):
        header = struct.pack("<4sIQ", b"head", 0, number + more) + ids + bytes(16)
        header += struct.pack("<HHIQ", 0, 1, layout.log, _MEBIBYTE)
        storage.write(place, _summed(header.ljust(_HEADER, b"\0")))
    regions = struct.pack("<4sIII", b"regi", 0, 2, 0)
    regions += struct.pack("<16sQII", _BAT.bytes_le, layout.bat, layout.bat_size, 0)
    regions += struct.pack("<16sQII", _METADATA.bytes_le, layout.metadata, _MEBIBYTE, 0)
    table = _summed(regions.ljust(_TABLE, b"\0"))
    for place in _REGIONS:
        storage.write(place, table)
    storage.truncate(layout.data + (layout.size // _SECTOR * _SECTOR if layout.fixed else 0))
    if layout.fixed or layout.zero_blocks:
        storage.write(layout.bat, _blocks(layout).ljust(layout.bat_size, b"\0"))
    storage.write(layout.metadata, _metadata(layout))


def _blocks(layout: _Layout) -> bytes:
    """The table of blocks: each is zeros, or is there from the start; after each chunk comes one that says nothing."""
    entries = array("Q")
    each = _CHUNK // layout.block
    for number in range(-(-(layout.size // _SECTOR * _SECTOR) // layout.block)):
        if number and not number % each:
            entries.append(0)
        entries.append(_ZERO if layout.zero_blocks else layout.data + number * layout.block | _PRESENT)
    return entries.tobytes()


def _metadata(layout: _Layout) -> bytes:
    values = (
        struct.pack("<II", layout.block, int(layout.fixed)), struct.pack("<Q", layout.size), uuid4().bytes_le,
        struct.pack("<I", _SECTOR), struct.pack("<I", _SECTOR),
    )  # fmt: skip
    table = struct.pack("<8sHH20x", b"metadata", 0, len(values))
    place = _TABLE
    for number, (name, value) in enumerate(zip(_ITEMS, values, strict=True)):
        bits = _REQUIRED | (_OF_DISK if number else 0)
        table += struct.pack("<16sIIII", UUID(name).bytes_le, place, len(value), bits, 0)
        place += len(value)
    return table.ljust(_TABLE, b"\0") + b"".join(values)


def _summed(structure: bytes) -> bytes:
    """A structure with its checksum where it belongs."""
    return structure[:4] + struct.pack("<I", _crc32c(structure)) + structure[8:]


def _remainder(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_REMAINDERS = tuple(map(_remainder, range(256)))


def _crc32c(data: bytes) -> int:
    """Castagnoli's checksum."""
    found = 0xFFFFFFFF
    for byte in data:
        found = found >> 8 ^ _REMAINDERS[(found ^ byte) & 0xFF]
    return found ^ 0xFFFFFFFF
