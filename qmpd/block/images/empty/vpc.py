"""Empty images of VHD, which QEMU calls vpc (Microsoft's Virtual Hard Disk Image Format Specification; block/vpc.c)."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qmpd.block.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.images.storage import Storage

    Write = Callable[[Storage], None]

_SECTOR = 512
_BLOCK = 1 << 21
_EPOCH = 946_684_800
"""The year 2000, from which times are counted."""
_GREATEST = (65535, 16, 255)
_LARGEST = 2040 << 30
_NOWHERE = (1 << 64) - 1
_DYNAMIC, _FIXED = 3, 2


def vpc(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: no disk has that size."""
    size, forced = int(options["size"]), bool(options.get("force-size"))
    geometry = _GREATEST if forced else _geometry_for(size)
    cylinders, heads, sectors = geometry
    total = cylinders * heads * sectors
    if geometry == _GREATEST:
        total = size // _SECTOR
        if size // _SECTOR > _LARGEST // _SECTOR:
            raise ImageError("Disk size is too large, max size is 2040 GiB")
    if total * _SECTOR != size:
        raise ImageError("The requested image size cannot be represented in CHS geometry")
    is_dynamic = options.get("subformat", "dynamic") == "dynamic"
    footer = _summed(
        struct.pack(
            ">8sIIQI4sHH4sQQHBBII16s", b"conectix", 2, 0x10000, _SECTOR if is_dynamic else _NOWHERE,
            int(time.time()) - _EPOCH & 0xFFFFFFFF, b"qem2" if forced else b"qemu", 5, 3, b"Wi2k", size, size,
            cylinders, heads, sectors, _DYNAMIC if is_dynamic else _FIXED, 0, uuid4().bytes,
        ).ljust(_SECTOR, b"\0"),
        64,
    )  # fmt: skip

    def write_fixed(storage: Storage) -> None:
        storage.truncate(size + _SECTOR)
        storage.write(size, footer)

    def write_dynamic(storage: Storage) -> None:
        entries = -(-size // _BLOCK)
        table = -(-4 * entries // _SECTOR) * _SECTOR
        header = struct.pack(">8sQQIII", b"cxsparse", _NOWHERE, 3 * _SECTOR, 0x10000, entries, _BLOCK)
        storage.write(0, footer + _summed(header.ljust(2 * _SECTOR, b"\0"), 36) + b"\xff" * table + footer)

    return write_dynamic if is_dynamic else write_fixed


def _summed(structure: bytes, place: int) -> bytes:
    """A structure with the checksum of all its bytes at a place."""
    return structure[:place] + struct.pack(">I", ~sum(structure) & 0xFFFFFFFF) + structure[place + 4 :]


def _geometry_for(size: int) -> tuple[int, int, int]:
    """The first geometry that has room for so many bytes: cylinders, heads, and sectors of a track."""
    found, more = (0, 0, 0), 0
    while size > found[0] * found[1] * found[2] * _SECTOR and found != _GREATEST:
        found = _geometry(size // _SECTOR + more)
        more += 1
    return found


def _geometry(sectors: int) -> tuple[int, int, int]:
    """The geometry of a disk with so many sectors, or somewhat fewer, as the specification has it."""
    sectors = min(sectors, _GREATEST[0] * _GREATEST[1] * _GREATEST[2])
    if sectors > 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    each, tracks = 17, sectors // 17
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        heads, each, tracks = 16, 31, sectors // 31
    if tracks >= heads * 1024:
        heads, each, tracks = 16, 63, sectors // 63
    return tracks // heads, heads, each
