"""New images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import Header, write_header
from qmpd.block.images.qcow2.image import Qcow2

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.images.storage import Storage

PREALLOCATIONS = ("off", "metadata", "falloc", "full")
# So many clusters an image has at least.
_LEAST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a new image is like; sizes in bytes.  `backing` and `backing_format` are names, `data_file` one as well."""

    size: int
    version: int = 3
    cluster_size: int = 65536
    refcount_bits: int = 16
    lazy_refcounts: bool = False
    extended_l2: bool = False
    compression: str = "zlib"
    preallocation: str = "off"
    backing: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    data_file_raw: bool = False


def check(options: Options) -> None:
    """Refuse what no image can be.

    :raise ImageError: it cannot.
    """
    size = options.cluster_size
    if size & (size - 1) or not 1 << layout.SMALLEST_CLUSTER_BITS <= size <= 1 << layout.LARGEST_CLUSTER_BITS:
        raise ImageError("Cluster size must be a power of two between 512 and 2048k")
    if options.backing_format is not None and options.backing is None:
        raise ImageError("Backing format cannot be used without backing file")
    bits = options.refcount_bits
    if bits & (bits - 1) or not 0 < bits <= 64:
        raise ImageError("Refcount width must be a power of two and may not exceed 64 bits")
    if options.version < 3:
        if bits != 16:
            raise ImageError(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                "(use version=v3 or greater)"
            )
        if options.lazy_refcounts:
            raise ImageError(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)"
            )
        if options.extended_l2:
            raise ImageError(
                "Extended L2 entries are only supported with compatibility level 1.1 and above "
                "(use version=v3 or greater)"
            )
        if options.data_file is not None:
            raise ImageError(
                "External data files are only supported with compatibility level 1.1 and above "
                "(use version=v3 or greater)"
            )
        if options.compression != "zlib":
            raise ImageError(
                "Non-zlib compression type is only supported with compatibility level 1.1 and above "
                "(use version=v3 or greater)"
            )
    if options.extended_l2 and size < 16384:
        raise ImageError("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes")
    if options.size % layout.SECTOR:
        raise ImageError("Image size must be a multiple of 512 bytes")
    if options.backing is not None and options.preallocation != "off" and not options.extended_l2:
        raise ImageError("Backing file and preallocation can only be used at the same time if extended_l2 is on")
    if options.data_file_raw and options.backing is not None:
        raise ImageError("Backing file and data-file-raw cannot be used at the same time")


def needed_l1(options: Options) -> int:
    """How many entries its first table needs."""
    incompatible = layout.EXTENDED_L2 if options.extended_l2 else 0
    return Header(options.version, _bits(options), options.size, incompatible=incompatible).needed_l1


def _bits(options: Options) -> int:
    return options.cluster_size.bit_length() - 1


def create(
    storage: Storage, options: Options, *, data: Storage | None = None,
    luks: tuple[int, Callable[[Storage, int], None]] | None = None,
) -> Qcow2:  # fmt: skip
    """Make a new image in an empty storage, and open it, without what decrypts it where it is encrypted.

    :param luks: how many bytes a header of LUKS takes, and what writes it.

    :raise ImageError: an image cannot be like that.
    :raise OSError: it cannot be written.
    """
    check(options)
    before = storage.size
    header = Header(options.version, _bits(options), 0, refcount_order=options.refcount_bits.bit_length() - 1)
    if options.version < 3:
        header.length = layout.LENGTH_2
    if options.compression == "zstd":
        header.compression = layout.COMPRESSIONS.index("zstd")
        header.incompatible |= layout.COMPRESSION
    if options.extended_l2:
        header.incompatible |= layout.EXTENDED_L2
    if options.lazy_refcounts:
        header.compatible |= layout.LAZY_REFCOUNTS
    if options.data_file is not None:
        header.incompatible |= layout.DATA_FILE
        header.data_file = options.data_file.encode(errors="surrogateescape")
        if options.data_file_raw:
            header.autoclear |= layout.AUTOCLEAR_RAW_DATA
    header.refcount_offset, header.refcount_clusters = options.cluster_size, 1
    write_header(header, storage)
    # The table of reference counts, and its first block, which counts the header, the table and itself.
    storage.write(
        options.cluster_size, (2 * options.cluster_size).to_bytes(8, "big").ljust(options.cluster_size, b"\0")
    )
    storage.write(2 * options.cluster_size, bytes(options.cluster_size))
    image = Qcow2(storage, read_only=False, data=data)
    image.refcounts.change(0, 3, 1)
    if options.backing is not None:
        header = image.header
        header.backing = options.backing.encode(errors="surrogateescape")
        if options.backing_format is not None:
            header.backing_format = options.backing_format.encode()
    if luks is not None:
        _encrypt(image, *luks)
    _set_size(image, options.size)
    if options.preallocation != "off" or options.data_file_raw:
        # What is in a data file that can be read as it is has to show in the image, too.
        _preallocate(image, options, before)
    elif data is not None:
        data.truncate(options.size)
    return image


def _encrypt(image: Qcow2, length: int, write: Callable[[Storage, int], None]) -> None:
    header = image.header
    clusters = -(-length // header.cluster_size)
    place = image.refcounts.allocate(clusters) << header.cluster_bits
    image.refcounts.write_allocated()
    image.storage.write(place, bytes(clusters * header.cluster_size))
    write(image.storage, place)
    header.encryption, header.luks = layout.LUKS, (place, length)
    write_header(header, image.storage)


def _set_size(image: Qcow2, size: int) -> None:
    image.header.size = size
    image.mapping.grow_l1(max(image.header.needed_l1, 1 if size else 0))
    write_header(image.header, image.storage)


def _preallocate(image: Qcow2, options: Options, before: int) -> None:
    """Give all of the guest's clusters their room; it holds zeros.

    :raise ImageError: the file, which had `before` bytes, would have to become shorter.
    """
    size = options.cluster_size
    step = 64 << 20
    for offset in range(0, options.size, step):
        image.allocate(offset, min(step, options.size - offset))
    end = max((piece.host + piece.length for piece in image.pieces(0, options.size)), default=0)
    if options.preallocation in ("falloc", "full") and not image.external and before > max(end, _LEAST * size):
        raise ImageError(
            "Could not resize image: Failed to resize underlying file: Cannot use preallocation for shrinking files"
        )
    if options.preallocation == "full":
        for piece in image.pieces(0, options.size):
            for place in range(0, piece.length, 1 << 20):
                image.write_host(piece.host + place, bytes(min(1 << 20, piece.length - place)))
    else:
        image.extend_host(end)
