"""Empty images of qcow (QEMU's block/qcow.c), qed (docs/interop/qed_spec.rst), parallels (docs/interop/parallels.rst)
and vdi (block/vdi.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qmpd.block.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.images.storage import Storage

    Write = Callable[[Storage], None]

_SECTOR = 512
_MEBIBYTE = 1 << 20
_WORD, _LONG = (1 << 32) - 1, (1 << 64) - 1


def qcow(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: an image has no such size, or is not encrypted so."""
    size, backing = int(options["size"]), options.get("backing-file")
    encryption = options.get("encrypt")
    if size == 0:
        raise ImageError("Image size is too small, cannot be zero length")
    if encryption is not None and encryption["format"] != "qcow":
        raise ImageError("Unsupported encryption format")
    name = b"" if backing is None else str(backing).encode(errors="surrogateescape")
    # What is behind it is copied by sectors, so as to copy nothing else.
    cluster_bits, l2_bits = (12, 9) if backing is None else (9, 12)
    has_name = bool(name) and name != b"fat:"
    end = -(-(48 + has_name * len(name)) // 8) * 8
    # A disk that needs more tables than that has none, and is opened by nobody.
    entries = -(-size >> cluster_bits + l2_bits) & _WORD
    table = -(-8 * entries // _SECTOR) * _SECTOR
    header = struct.pack(
        ">4sIQIIQBBHIQ", b"QFI\xfb", 1, 48 if has_name else 0, len(name) if has_name else 0, 0, size & _LONG,
        cluster_bits, l2_bits, 0, int(encryption is not None), end,
    )  # fmt: skip

    def write(storage: Storage) -> None:
        storage.write(0, (header + has_name * name).ljust(end, b"\0"))
        storage.zero(end, table)

    return write


_QED_CLUSTERS, _QED_TABLES = (4096, 1 << 26), (1, 16)


def _is_power_within(number: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= number <= bounds[1] and not number & (number - 1)


def qed(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: an image has no such size, clusters or tables."""
    size, cluster = int(options["size"]), int(options.get("cluster-size", 65536))
    tables = int(options.get("table-size", 4))
    if not _is_power_within(cluster, _QED_CLUSTERS):
        least, most = _QED_CLUSTERS
        raise ImageError(f"QED cluster size must be within range [{least}, {most}] and power of 2")
    if not _is_power_within(tables, _QED_TABLES):
        raise ImageError(f"QED table size must be within range [{_QED_TABLES[0]}, {_QED_TABLES[1]}] and power of 2")
    entries = tables * cluster // 8
    largest = entries * entries * cluster & _LONG
    if size % _SECTOR or size > largest:
        raise ImageError(f"QED image size must be a non-zero multiple of cluster size and less than {largest} bytes")
    name = str(options.get("backing-file") or "").encode(errors="surrogateescape")
    features = 0
    if name:
        features = 1 | (4 if options.get("backing-fmt") == "raw" else 0)
    header = struct.pack(
        "<4sIIIQQQQQII", b"QED\0", cluster, tables, 1, features, 0, 0, cluster, size, 64 if name else 0, len(name)
    )

    def write(storage: Storage) -> None:
        storage.truncate(0)
        storage.write(0, header + name)
        storage.zero(cluster, cluster * tables)

    return write


_PARALLELS_MOST = 1 << 32


def parallels(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: an image has no such size or clusters."""
    size, cluster = int(options["size"]), int(options.get("cluster-size", _MEBIBYTE))
    if cluster >= ((1 << 63) - 1) // _PARALLELS_MOST:
        raise ImageError("Cluster size is too large")
    if size >= _PARALLELS_MOST * cluster:
        raise ImageError("Image size is too large for this cluster size")
    if size % _SECTOR:
        raise ImageError("Image size must be a multiple of 512 bytes")
    if cluster % _SECTOR:
        raise ImageError("Cluster size must be a multiple of 512 bytes")
    sectors, entries = size // _SECTOR, -(-size // cluster)
    area = -(-(64 + 4 * entries) // cluster) * cluster
    header = struct.pack(
        "<16sIIIIIQIIIQ", b"WithouFreSpacExt", 2, 16, sectors // (16 * 32) & _WORD, cluster // _SECTOR,
        entries & _WORD, sectors, 0, area // _SECTOR & _WORD, 0, 0,
    )  # fmt: skip

    def write(storage: Storage) -> None:
        storage.write(0, header)
        storage.zero(len(header), area - len(header))

    return write


_VDI_LARGEST = 0x1FFFFF8000000
_ENTRIES_AT_ONCE = 1 << 18


def check_vdi(options: Mapping[str, Any]) -> None:
    """:raise ImageError: an image has no such room from the start."""
    if options.get("preallocation", "off") not in ("off", "metadata"):
        raise ImageError("Preallocation mode not supported for vdi")


def vdi(options: Mapping[str, Any]) -> Write:
    """:raise ImageError: an image has no such size."""
    size = int(options["size"])
    if size > _VDI_LARGEST:
        raise ImageError(f"Unsupported VDI image size (size is 0x{size:x}, max supported is 0x{_VDI_LARGEST:x})")
    is_static = options.get("preallocation") == "metadata"
    blocks = -(-size // _MEBIBYTE)
    table = -(-4 * blocks // _SECTOR) * _SECTOR
    header = struct.pack(
        "<64sIIIII256sIIIIIIIQIIII16s16s16s16s56x", b"<<< QEMU VM Virtual Disk Image >>>\n", 0xBEDA107F, 0x10001, 0x180,
        1 + is_static, 0, b"", _SECTOR, _SECTOR + table, 0, 0, 0, _SECTOR, 0, size, _MEBIBYTE, 0, blocks,
        blocks if is_static else 0, uuid4().bytes, uuid4().bytes, b"", b"",
    )  # fmt: skip

    def write(storage: Storage) -> None:
        storage.write(0, header.ljust(_SECTOR, b"\0"))
        for first in range(0, blocks, _ENTRIES_AT_ONCE):
            count = min(_ENTRIES_AT_ONCE, blocks - first)
            entries = struct.pack(f"<{count}I", *range(first, first + count)) if is_static else b"\xff" * (4 * count)
            storage.write(_SECTOR + 4 * first, entries)
        if table > 4 * blocks:
            storage.write(_SECTOR + 4 * blocks, bytes(table - 4 * blocks))
        if is_static:
            storage.truncate(_SECTOR + table + blocks * _MEBIBYTE)

    return write
