"""What the header of a qcow2 image says (docs/interop/qcow2.rst), and what makes QEMU refuse the image."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.common.refusals import NotModelled
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]

MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQIIB")
_VERSION_2_LENGTH, _VERSION_3_LENGTH = 72, 104
_CLUSTER_BITS = range(9, 22)
_LARGEST_REFCOUNT_ORDER = 6
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_FEATURES = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_LAZY_REFCOUNTS = 1
_SUBCLUSTERS = 32
_COMPRESSIONS = ("zlib", "zstd")
# Types of header extensions, and where the list of them ends.
_END, _BACKING_FORMAT, _FEATURE_NAMES = 0, 0xE2792ACA, 0x6803F857
_LONGEST_BACKING_NAME = 1023
_LONGEST_BACKING_FORMAT = 16
_SNAPSHOT, _SNAPSHOT_MORE = struct.Struct(">QIHHIIQII"), struct.Struct(">QQQ")
_MOST_EXTRA, _LARGEST_SNAPSHOT_TABLE = 1024, 64 << 20
_AES, _LUKS = 1, 2
_FEATURE = struct.Struct(">BB46s")
_LARGEST, _ALL_ONES = (1 << 63) - 1, (1 << 64) - 1
# The most that a table may take, in bytes.
_REFCOUNT_TABLE, _L1_TABLE, _SNAPSHOT_TABLE = 8 << 20, 32 << 20, 65536 * 40


class Image(NamedTuple):
    """An image: `size` is in bytes; `backing` is the name of the image below, and `backing_format` its format."""

    size: int
    cluster_size: int
    specific: dict[str, Any]
    snapshots: list[dict[str, Any]]
    backing: str | None
    backing_format: str | None


def read_image(read: Read, *, read_only: bool) -> Image:
    """Read the header with `read(offset, length)`; what lies behind the end of the file counts as zeros.

    :raise MachineError: QEMU would not open it, or qmpd does not know this kind.
    """
    (
        magic, version, backing_offset, backing_length, cluster_bits, size, crypt, l1_size, l1_offset, refcounts_offset,
        refcounts_clusters, snapshots, snapshots_offset, incompatible, compatible, _, order, length, compression,
    ) = _HEADER.unpack(_padded(read, 0, _HEADER.size))  # fmt: skip
    if magic != MAGIC:
        raise MachineError("Image is not in qcow2 format")
    if version not in (2, 3):
        raise MachineError(f"Unsupported qcow2 version {version}")
    if cluster_bits not in _CLUSTER_BITS:
        raise MachineError(f"Unsupported cluster size: 2^{cluster_bits}")
    cluster_size = 1 << cluster_bits
    if version == 2:
        incompatible, compatible, order, length = 0, 0, 4, _VERSION_2_LENGTH
    elif length < _VERSION_3_LENGTH:
        raise MachineError("qcow2 header too short")
    if length > cluster_size:
        raise MachineError("qcow2 header exceeds cluster size")
    if backing_offset > cluster_size:
        raise MachineError("Invalid backing file offset")
    if length <= _VERSION_3_LENGTH:
        compression = 0
    _check_compression(compression, incompatible)
    end = backing_offset or cluster_size
    if incompatible & ~_KNOWN_FEATURES:
        raise MachineError(_unsupported(read, length, end, incompatible & ~_KNOWN_FEATURES))
    if incompatible & _CORRUPT and not read_only:
        raise MachineError("qcow2: Image is corrupt; cannot be opened read/write")
    extended = bool(incompatible & _EXTENDED_L2)
    if extended and cluster_size // _SUBCLUSTERS < 1 << _CLUSTER_BITS.start:
        raise MachineError(f"Unsupported subcluster size: {cluster_size // _SUBCLUSTERS}")
    if order > _LARGEST_REFCOUNT_ORDER:
        raise MachineError("Reference count entry width too large; may not exceed 64 bits")
    if crypt:
        raise MachineError(_encrypted(crypt))
    if refcounts_clusters == 0:
        raise MachineError("Image does not contain a reference count table")
    for name, offset, entries, entry_size, limit in (
        ("Reference count table", refcounts_offset, refcounts_clusters, cluster_size, _REFCOUNT_TABLE),
        ("Snapshot table", snapshots_offset, snapshots, 40, _SNAPSHOT_TABLE),
        ("Active L1 table", l1_offset, l1_size, 8, _L1_TABLE),
    ):
        _check_table(name, offset, entries, entry_size, limit, cluster_size)
    l1_bits = 2 * cluster_bits - (4 if extended else 3)
    # QEMU adds in 64 bits, and so lets the largest sizes pass here.
    needed = (size + (1 << l1_bits) - 1 & _ALL_ONES) >> l1_bits
    if needed > 0x7FFFFFFF:
        raise MachineError("Image is too big")
    if l1_size < needed:
        raise MachineError("L1 table is too small")
    backing_format = None
    for kind, content in _extensions(read, length, end, strict=True):
        if kind == _BACKING_FORMAT:
            if len(content) >= _LONGEST_BACKING_FORMAT:
                raise MachineError(
                    f"ERROR: ext_backing_format: len={len(content)} too large (>={_LONGEST_BACKING_FORMAT})"
                )
            backing_format = _text(content)
    if incompatible & _DATA_FILE:
        raise NotModelled("images whose data is in another file")
    backing = None
    if backing_offset:
        if backing_length > min(_LONGEST_BACKING_NAME, cluster_size - backing_offset):
            raise MachineError("Backing file name too long")
        backing = _text(_padded(read, backing_offset, backing_length))
    specific: dict[str, Any] = {"compat": "0.10" if version == 2 else "1.1", "compression-type": "zlib"}
    if version == 3:
        specific["compression-type"] = _COMPRESSIONS[compression]
        specific["lazy-refcounts"] = bool(compatible & _LAZY_REFCOUNTS)
    specific["refcount-bits"] = 1 << order
    if version == 3:
        specific["corrupt"] = bool(incompatible & _CORRUPT)
        specific["extended-l2"] = extended
    found = list(_snapshots(read, snapshots_offset, snapshots))
    if size > _LARGEST:
        raise MachineError("Could not refresh total sector count: File too large")
    return Image(size // 512 * 512, cluster_size, specific, found, backing or None, backing_format)


def _padded(read: Read, offset: int, length: int) -> bytes:
    return read(offset, length).ljust(length, b"\0")


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode(errors="surrogateescape")


def _encrypted(method: int) -> str:
    if method == _AES:
        return "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators"
    return "qmpd does not model encrypted images" if method == _LUKS else f"Unsupported encryption method {method}"


def _snapshots(read: Read, offset: int, count: int) -> Iterator[dict[str, Any]]:
    """The snapshots in the image, as QAPI's SnapshotInfo, its members in the order in which they are put in."""
    start = offset
    for number in range(count):
        _, _, id_length, name_length, seconds, nanoseconds, clock, state, more = _SNAPSHOT.unpack(
            _padded(read, offset, _SNAPSHOT.size)
        )
        offset += _SNAPSHOT.size
        if more > _MOST_EXTRA:
            raise MachineError(f"Too much extra metadata in snapshot table entry {number}")
        extra = _padded(read, offset, min(more, _SNAPSHOT_MORE.size)).ljust(_SNAPSHOT_MORE.size, b"\0")
        large_state, _, instructions = _SNAPSHOT_MORE.unpack(extra)
        offset += more
        names = _padded(read, offset, id_length + name_length)
        offset = (offset + id_length + name_length + 7) // 8 * 8
        if offset - start > _LARGEST_SNAPSHOT_TABLE:
            raise MachineError("Snapshot table is too big")
        shown = {
            "id": _text(names[:id_length]),
            "name": _text(names[id_length:]),
            "vm-state-size": large_state if more >= 8 else state,
            "date-sec": seconds,
            "date-nsec": nanoseconds,
            "vm-clock-sec": clock // 1_000_000_000,
            "vm-clock-nsec": clock % 1_000_000_000,
        }
        if more >= _SNAPSHOT_MORE.size and instructions != _ALL_ONES:
            shown["icount"] = instructions
        yield shown


def _check_compression(compression: int, incompatible: int) -> None:
    if compression >= len(_COMPRESSIONS):
        raise MachineError(f"qcow2: unknown compression type: {compression}")
    if compression == 0 and incompatible & _COMPRESSION:
        raise MachineError("qcow2: Compression type incompatible feature bit must not be set")
    if compression and not incompatible & _COMPRESSION:
        raise MachineError("qcow2: Compression type incompatible feature bit must be set")


def _check_table(name: str, offset: int, entries: int, entry_size: int, limit: int, cluster_size: int) -> None:
    if entries > limit // entry_size:
        raise MachineError(f"{name} too large")
    if _LARGEST - entries * entry_size < offset or offset % cluster_size:
        raise MachineError(f"{name} offset invalid")


def _extensions(read: Read, offset: int, end: int, *, strict: bool) -> Iterator[tuple[int, bytes]]:
    """The header extensions: their types and contents; `strict`: one that is too long is refused."""
    while offset < end:
        kind, length = struct.unpack(">II", _padded(read, offset, 8))
        offset += 8
        if offset > end or length > end - offset:
            if strict:
                raise MachineError("Header extension too large")
            return
        if kind == _END:
            return
        yield kind, _padded(read, offset, length)
        offset += (length + 7) // 8 * 8


def _unsupported(read: Read, offset: int, end: int, unknown: int) -> str:
    """The refusal of features, by the names that the image has for them."""
    named: list[str] = []
    for kind, content in _extensions(read, offset, end, strict=False):
        if kind != _FEATURE_NAMES:
            continue
        for place in range(0, len(content) // _FEATURE.size * _FEATURE.size, _FEATURE.size):
            of, bit, name = _FEATURE.unpack_from(content, place)
            if not name.strip(b"\0"):
                break
            if of == 0 and bit < 64 and unknown >> bit & 1:
                named.append(_text(name))
                unknown &= ~(1 << bit)
    if unknown:
        named.append(f"Unknown incompatible feature: {unknown:x}")
    return f"Unsupported qcow2 feature(s): {', '.join(named)}"
