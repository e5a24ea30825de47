"""The header of an image, its extensions, and what makes QEMU refuse it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.images.storage import Storage


@dataclass(slots=True)
class Header:
    """What the first cluster says.  Offsets and sizes are in bytes, but for `l1_size`, which counts entries.

    `extensions` are those that are kept as they are: their types and contents, in their order.
    """

    version: int
    cluster_bits: int
    size: int
    l1_size: int = 0
    l1_offset: int = 0
    refcount_offset: int = 0
    refcount_clusters: int = 0
    snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = layout.LENGTH_NOW
    compression: int = 0
    encryption: int = 0
    backing: bytes | None = None
    backing_format: bytes | None = None
    data_file: bytes | None = None
    bitmaps: tuple[int, int, int] | None = None
    """How many persistent bitmaps there are, how long their directory is, and where."""
    luks: tuple[int, int] | None = None
    """Where a header of LUKS is, and how many bytes it takes."""
    feature_names: bytes | None = None
    extensions: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def cluster_size(self) -> int:
        """How large a cluster is."""
        return 1 << self.cluster_bits

    @property
    def extended(self) -> bool:
        """Whether entries of L2 tables have a bitmap of subclusters."""
        return bool(self.incompatible & layout.EXTENDED_L2)

    @property
    def may_have_bitmaps(self) -> bool:
        """Whether a writer who does not know bitmaps would tell that it has been here."""
        return self.version >= 3

    @property
    def zeroed_unit(self) -> int:
        """How many bytes can be said to be zeros: a cluster's, or a subcluster's."""
        return self.cluster_size // (layout.SUBCLUSTERS if self.extended else 1)

    @property
    def entry_size(self) -> int:
        """How large an entry of an L2 table is."""
        return 16 if self.extended else 8

    @property
    def l2_entries(self) -> int:
        """How many entries an L2 table has."""
        return self.cluster_size // self.entry_size

    @property
    def l1_reach(self) -> int:
        """How many of the guest's bytes one entry of the L1 table stands for."""
        return self.l2_entries << self.cluster_bits

    @property
    def needed_l1(self) -> int:
        """How many entries of the L1 table the guest's disk takes."""
        return -(-self.size // self.l1_reach)

    @property
    def zstd(self) -> bool:
        """Whether compressed clusters are Zstandard's, and not zlib's."""
        return self.compression == layout.COMPRESSIONS.index("zstd")


def read_header(storage: Storage, *, read_only: bool) -> Header:
    """Read and check the header.

    :raise ImageError: QEMU would not open the image.
    """
    head = storage.read(0, layout.LENGTH_NOW)
    (
        magic, version, backing_offset, backing_length, cluster_bits, size, encryption, l1_size, l1_offset,
        refcount_offset, refcount_clusters, snapshots, snapshots_offset,
    ) = layout.HEADER_2.unpack_from(head)  # fmt: skip
    if magic != layout.MAGIC:
        raise ImageError("Image is not in qcow2 format")
    if version not in (2, 3):
        raise ImageError(f"Unsupported qcow2 version {version}")
    if not layout.SMALLEST_CLUSTER_BITS <= cluster_bits <= layout.LARGEST_CLUSTER_BITS:
        raise ImageError(f"Unsupported cluster size: 2^{cluster_bits}")
    header = Header(
        version, cluster_bits, size, l1_size, l1_offset, refcount_offset, refcount_clusters, snapshots,
        snapshots_offset, encryption=encryption,
    )  # fmt: skip
    if version == 2:
        header.length = layout.LENGTH_2
    else:
        (
            header.incompatible, header.compatible, header.autoclear, header.refcount_order, header.length,
        ) = layout.HEADER_3.unpack_from(head, layout.LENGTH_2)  # fmt: skip
        if header.length < layout.LENGTH_3:
            raise ImageError("qcow2 header too short")
    if header.length > header.cluster_size:
        raise ImageError("qcow2 header exceeds cluster size")
    if backing_offset > header.cluster_size:
        raise ImageError("Invalid backing file offset")
    if header.length > layout.LENGTH_3:
        header.compression = head[layout.COMPRESSION_TYPE_AT]
    _check_compression(header)
    end = backing_offset or header.cluster_size
    unknown = header.incompatible & ~layout.KNOWN_INCOMPATIBLE
    if unknown:
        raise ImageError(_unsupported(storage, header.length, end, unknown))
    if header.incompatible & layout.CORRUPT and not read_only:
        raise ImageError("qcow2: Image is corrupt; cannot be opened read/write")
    subcluster = header.cluster_size // layout.SUBCLUSTERS
    if header.extended and subcluster < 1 << layout.SMALLEST_CLUSTER_BITS:
        raise ImageError(f"Unsupported subcluster size: {subcluster}")
    if header.refcount_order > layout.LARGEST_REFCOUNT_ORDER:
        raise ImageError("Reference count entry width too large; may not exceed 64 bits")
    _check_encryption(encryption)
    _check_tables(header)
    _read_extensions(header, storage, end)
    _read_backing(header, storage, backing_offset, backing_length)
    if size > layout.LARGEST:
        raise ImageError("Could not refresh total sector count: File too large")
    return header


def _check_compression(header: Header) -> None:
    feature = header.incompatible & layout.COMPRESSION
    if header.compression >= len(layout.COMPRESSIONS):
        raise ImageError(f"qcow2: unknown compression type: {header.compression}")
    if header.compression == 0 and feature:
        raise ImageError("qcow2: Compression type incompatible feature bit must not be set")
    if header.compression and not feature:
        raise ImageError("qcow2: Compression type incompatible feature bit must be set")


def _check_encryption(method: int) -> None:
    if method == layout.AES:
        raise ImageError("Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators")
    if method not in (0, layout.LUKS):
        raise ImageError(f"Unsupported encryption method {method}")


def _check_tables(header: Header) -> None:
    if header.refcount_clusters == 0:
        raise ImageError("Image does not contain a reference count table")
    for name, offset, entries, entry_size, limit in (
        (
            "Reference count table", header.refcount_offset, header.refcount_clusters, header.cluster_size,
            layout.LARGEST_REFCOUNT_TABLE,
        ),
        ("Snapshot table", header.snapshots_offset, header.snapshots, 40, layout.MOST_SNAPSHOTS * 40),
        ("Active L1 table", header.l1_offset, header.l1_size, 8, layout.LARGEST_L1_TABLE),
    ):  # fmt: skip
        check_table(name, offset, entries, entry_size, limit, header.cluster_size)
    # QEMU adds in 64 bits, and so lets the largest sizes pass here.
    needed = (header.size + header.l1_reach - 1 & layout.ALL_ONES) // header.l1_reach
    if needed > 0x7FFFFFFF:
        raise ImageError("Image is too big")
    if header.l1_size < needed:
        raise ImageError("L1 table is too small")


def check_table(name: str, offset: int, entries: int, entry_size: int, limit: int, cluster_size: int) -> None:
    """Refuse a table that cannot be where, or as large as, it says.

    :raise ImageError: it cannot.
    """
    if entries > limit // entry_size:
        raise ImageError(f"{name} too large")
    if layout.LARGEST - entries * entry_size < offset or offset % cluster_size:
        raise ImageError(f"{name} offset invalid")


def _read_extensions(header: Header, storage: Storage, end: int) -> None:
    for kind, content in _extensions(storage, header.length, end, strict=True):
        if kind == layout.BACKING_FORMAT:
            if len(content) >= layout.LONGEST_BACKING_FORMAT:
                most = layout.LONGEST_BACKING_FORMAT
                raise ImageError(f"ERROR: ext_backing_format: len={len(content)} too large (>={most})")
            header.backing_format = content.partition(b"\0")[0]
        elif kind == layout.DATA_FILE_NAME:
            header.data_file = content.partition(b"\0")[0]
        elif kind == layout.BITMAPS:
            _read_bitmaps(header, content)
        elif kind == layout.ENCRYPTION:
            _read_encryption(header, content)
        elif kind == layout.FEATURES:
            header.feature_names = content
        else:
            header.extensions.append((kind, content))


def _read_encryption(header: Header, content: bytes) -> None:
    if header.encryption != layout.LUKS:
        raise ImageError("CRYPTO header extension only expected with LUKS encryption method")
    expected = layout.ENCRYPTION_EXTENSION.size
    if len(content) != expected:
        raise ImageError(f"CRYPTO header extension size {len(content)}, but expected size {expected}")
    offset, length = layout.ENCRYPTION_EXTENSION.unpack(content)
    if offset % header.cluster_size:
        size = header.cluster_size
        raise ImageError(f"Encryption header offset '{offset}' is not a multiple of cluster size '{size}'")
    header.luks = offset, length


def _read_bitmaps(header: Header, content: bytes) -> None:
    if len(content) != layout.BITMAPS_EXTENSION.size:
        raise ImageError("bitmaps_ext: Invalid extension length")
    if not header.autoclear & layout.AUTOCLEAR_BITMAPS:
        # A writer that did not know of bitmaps has been here: they are void.
        return
    count, reserved, size, offset = layout.BITMAPS_EXTENSION.unpack(content)
    if reserved:
        raise ImageError("bitmaps_ext: Reserved field is not zero")
    if count > layout.MOST_BITMAPS:
        raise ImageError(f"bitmaps_ext: image has {count} bitmaps, exceeding the QEMU supported maximum of 65535")
    if count == 0:
        raise ImageError("found bitmaps extension with zero bitmaps")
    if offset % header.cluster_size:
        raise ImageError("bitmaps_ext: invalid bitmap directory offset")
    if size > layout.MOST_BITMAPS * 1024:
        raise ImageError(
            f"bitmaps_ext: bitmap directory size ({size}) exceeds the maximum supported size "
            f"({layout.MOST_BITMAPS * 1024})"
        )
    header.bitmaps = count, size, offset


def _read_backing(header: Header, storage: Storage, offset: int, length: int) -> None:
    if offset:
        if length > min(layout.LONGEST_BACKING_NAME, header.cluster_size - offset):
            raise ImageError("Backing file name too long")
        header.backing = storage.read(offset, length).partition(b"\0")[0] or None


def _extensions(storage: Storage, offset: int, end: int, *, strict: bool) -> Iterator[tuple[int, bytes]]:
    """The header's extensions: their types and contents; `strict`: one that is too long is refused."""
    while offset < end:
        kind, length = layout.EXTENSION.unpack(storage.read(offset, layout.EXTENSION.size))
        offset += layout.EXTENSION.size
        if offset > end or length > end - offset:
            if strict:
                raise ImageError("Header extension too large")
            return
        if kind == layout.END:
            return
        yield kind, storage.read(offset, length)
        offset += (length + 7) // 8 * 8


def _unsupported(storage: Storage, offset: int, end: int, unknown: int) -> str:
    """The refusal of features, by the names that the image has for them."""
    named: list[str] = []
    for kind, content in _extensions(storage, offset, end, strict=False):
        if kind != layout.FEATURES:
            continue
        for place in range(0, len(content) // layout.FEATURE.size * layout.FEATURE.size, layout.FEATURE.size):
            of, bit, name = layout.FEATURE.unpack_from(content, place)
            if not name.strip(b"\0"):
                break
            if of == 0 and bit < 64 and unknown >> bit & 1:
                named.append(name.partition(b"\0")[0].decode(errors="surrogateescape"))
                unknown &= ~(1 << bit)
    if unknown:
        named.append(f"Unknown incompatible feature: {unknown:x}")
    return f"Unsupported qcow2 feature(s): {', '.join(named)}"


def encode_header(header: Header) -> bytes:
    """The first cluster, up to the end of the backing file's name.

    :raise ImageError: not all of it fits into a cluster.
    """
    extensions = list(header.extensions)
    if header.backing_format is not None:
        extensions.append((layout.BACKING_FORMAT, header.backing_format))
    if header.data_file is not None:
        extensions.append((layout.DATA_FILE_NAME, header.data_file))
    if header.luks is not None:
        extensions.append((layout.ENCRYPTION, layout.ENCRYPTION_EXTENSION.pack(*header.luks)))
    if header.version >= 3 and header.cluster_size > layout.NO_FEATURE_NAMES:
        extensions.append((layout.FEATURES, b"".join(layout.FEATURE.pack(*each) for each in layout.FEATURE_NAMES)))
    if header.bitmaps is not None:
        count, size, offset = header.bitmaps
        extensions.append((layout.BITMAPS, layout.BITMAPS_EXTENSION.pack(count, 0, size, offset)))
    tail = b"".join(
        layout.EXTENSION.pack(kind, len(content)) + content.ljust((len(content) + 7) // 8 * 8, b"\0")
        for kind, content in extensions
    ) + layout.EXTENSION.pack(layout.END, 0)
    backing = header.backing or b""
    length = header.length
    place = length + len(tail) if backing else 0
    head = layout.HEADER_2.pack(
        layout.MAGIC, header.version, place, len(backing), header.cluster_bits, header.size, header.encryption,
        header.l1_size, header.l1_offset, header.refcount_offset, header.refcount_clusters, header.snapshots,
        header.snapshots_offset,
    )  # fmt: skip
    if header.version >= 3:
        head += layout.HEADER_3.pack(
            header.incompatible, header.compatible, header.autoclear, header.refcount_order, length
        )
        head += bytes([header.compression]).ljust(max(length - layout.LENGTH_3, 0), b"\0")[: length - layout.LENGTH_3]
    encoded = head + tail + backing
    if len(encoded) > header.cluster_size:
        raise ImageError("Failed to write header: No space left on device")
    return encoded


def write_header(header: Header, storage: Storage) -> None:
    """Write the first cluster anew, whole.

    :raise ImageError: not all of it fits into a cluster.
    :raise OSError: it cannot be written.
    """
    storage.write(0, encode_header(header).ljust(header.cluster_size, b"\0"))
