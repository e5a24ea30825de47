"""Empty images of the older formats: what `blockdev-create` makes of them.  Each format is as its specification has it.

qcow: QEMU's block/qcow.c; qed: docs/interop/qed_spec.rst; parallels: docs/interop/parallels.rst; vdi: block/vdi.c;
vmdk: VMware's Virtual Disk Format 1.1.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.images.storage import Storage

_SECTOR = 512
_MEBIBYTE = 1 << 20


def _qcow(storage: Storage, size: int, name: str) -> None:
    cluster_bits, l2_bits = 12, 9
    header = struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, size, cluster_bits, l2_bits, 0, 0, 48)
    entries = -(-size // (1 << cluster_bits + l2_bits))
    table = -(-8 * entries // _SECTOR) * _SECTOR
    storage.write(0, header + bytes(table))


def _qed(storage: Storage, size: int, name: str) -> None:
    cluster, table = 65536, 4
    header = struct.pack("<4sIIIQQQQQII", b"QED\0", cluster, table, 1, 0, 0, 0, cluster, size, 0, 0)
    storage.write(0, header.ljust(cluster, b"\0"))
    storage.write(cluster, bytes(cluster * table))


def _parallels(storage: Storage, size: int, name: str) -> None:
    cluster, sectors = _MEBIBYTE, -(-size // _SECTOR)
    entries = -(-size // cluster)
    area = -(-(64 + 4 * entries) // cluster) * cluster
    header = struct.pack(
        "<16sIIIIIQIIIQ", b"WithouFreSpacExt", 2, 16, sectors // (16 * 32), cluster // _SECTOR, entries, sectors, 0,
        area // _SECTOR, 0, 0,
    )  # fmt: skip
    storage.write(0, header + bytes(area - len(header)))


def _vdi(storage: Storage, size: int, name: str) -> None:
    blocks = -(-size // _MEBIBYTE)
    table = -(-4 * blocks // _SECTOR) * _SECTOR
    header = struct.pack(
        "<64sIIIII256sIIIIIIIQIIII16s16s16s16s56x", b"<<< QEMU VM Virtual Disk Image >>>\n", 0xBEDA107F, 0x10001, 0x180,
        1, 0, b"", _SECTOR, _SECTOR + table, 0, 0, 0, _SECTOR, 0, size, _MEBIBYTE, 0, blocks, 0, uuid4().bytes,
        uuid4().bytes, b"", b"",
    )  # fmt: skip
    storage.write(0, header.ljust(_SECTOR, b"\0") + b"\xff" * (4 * blocks) + bytes(table - 4 * blocks))


_DESCRIPTION = """\
# Disk DescriptorFile
version=1
CID={cid:08x}
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW {sectors} SPARSE "{name}"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
ddb.toolsVersion = "2147483647"
"""


def _vmdk(storage: Storage, size: int, name: str) -> None:
    grain, entries, table, description, room = 128, 512, 4, 1, 20
    sectors = -(-size // _SECTOR)
    tables = -(-sectors // (grain * entries))
    directory = -(-4 * tables // _SECTOR)
    first = description + room
    second = first + directory + table * tables
    data = -(-(second + directory + table * tables) // grain) * grain
    header = struct.pack(
        "<4sIIQQQQIQQQB4sH", b"KDMV", 1, 3, sectors, grain, description, room, entries, first, second, data, 0,
        b"\n \r\n", 0,
    )  # fmt: skip
    text = _DESCRIPTION.format(
        cid=uuid4().fields[0], sectors=sectors, name=name, cylinders=sectors // (63 * 16)
    )
    storage.write(0, header.ljust(_SECTOR, b"\0") + text.encode(errors="surrogateescape").ljust(room * _SECTOR, b"\0"))
    for place in (first, second):
        found = [place + directory + number * table for number in range(tables)]
        storage.write(place * _SECTOR, struct.pack(f"<{tables}I", *found).ljust(directory * _SECTOR, b"\0"))
    end = second + directory + table * tables
    storage.write(end * _SECTOR, bytes((data - end) * _SECTOR) if data > end else b"")


EMPTY: Mapping[str, Callable[[Storage, int, str], None]] = {
    "qcow": _qcow, "qed": _qed, "parallels": _parallels, "vdi": _vdi, "vmdk": _vmdk,
}  # fmt: skip
"""What writes an empty image of a format, of so many bytes, into an empty storage, a file of this name."""
