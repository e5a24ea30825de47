"""Headers of qcow2 images: what QEMU makes of them (its texts were taken from QEMU 7.2 with these very headers)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2.header import Header, read_header
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.block.images.qcow2.snapshot_table import read_snapshots
from tests.block.images import MemoryStorage

FEATURE_NAMES = struct.pack(">II", 0x6803F857, 96) + b"".join(
    struct.pack(">BB46s", 0, bit, name) for bit, name in ((5, b"foo"), (6, b"bar baz"))
)


def header(
    *, version: int = 3, backing: tuple[int, int] = (0, 0), bits: int = 16, size: int = 1 << 20, crypt: int = 0,
    l1: tuple[int, int] = (1, 3 << 16), refcounts: tuple[int, int] = (1 << 16, 1), snapshots: tuple[int, int] = (0, 0),
    incompatible: int = 0, order: int = 4, length: int = 104, rest: bytes = b"",
) -> bytes:  # fmt: skip
    return (
        struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, *backing, bits, size, crypt, *l1, *refcounts, *snapshots)
        + struct.pack(">QQQII", incompatible, 0, 0, order, length)
        + rest
    )


def read(content: bytes, *, read_only: bool = False) -> Header:
    return read_header(MemoryStorage(content), read_only=read_only)


def test_a_plain_image() -> None:
    found = read(header(size=1000))
    assert (found.version, found.size, found.cluster_size, found.refcount_order) == (3, 1000, 65536, 4)
    assert (found.incompatible, found.compression, found.snapshots, found.backing) == (0, 0, 0, None)


def test_what_is_below() -> None:
    rest = struct.pack(">II", 0xE2792ACA, 3) + b"raw" + bytes(5) + bytes(8) + b"base.img\0xyz"
    image = read(header(backing=(104 + 24, 12), rest=rest))
    assert (image.backing, image.backing_format) == (b"base.img", b"raw")


def test_snapshots_are_listed() -> None:
    table = struct.pack(">QIHHIIQII", 0, 0, 1, 2, 7, 8, 3_000_000_009, 0, 24) + struct.pack(">QQQ", 5, 0, 11) + b"1s1"
    content = header(snapshots=(1, 1 << 18)).ljust(1 << 18, b"\0") + table
    image = ReadImage(MemoryStorage(content), read_only=True)
    assert [each.describe() for each in read_snapshots(image)] == [
        {"id": "1", "name": "s1", "vm-state-size": 5, "date-sec": 7, "date-nsec": 8, "vm-clock-sec": 3,
         "vm-clock-nsec": 9, "icount": 11}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"version": 1}, "Unsupported qcow2 version 1"),
        ({"bits": 8}, "Unsupported cluster size: 2^8"),
        ({"bits": 40}, "Unsupported cluster size: 2^40"),
        ({"length": 100}, "qcow2 header too short"),
        ({"length": 1 << 20}, "qcow2 header exceeds cluster size"),
        ({"backing": (1 << 40, 10)}, "Invalid backing file offset"),
        ({"backing": (200, 2000)}, "Backing file name too long"),
        ({"backing": (200, 0xFFFFFFFF)}, "Backing file name too long"),
        ({"incompatible": 32}, "Unsupported qcow2 feature(s): Unknown incompatible feature: 20"),
        ({"incompatible": 32 | 64 | 1 << 63, "rest": FEATURE_NAMES},
         "Unsupported qcow2 feature(s): foo, bar baz, Unknown incompatible feature: 8000000000000000"),
        ({"incompatible": 2}, "qcow2: Image is corrupt; cannot be opened read/write"),
        ({"incompatible": 16, "bits": 12}, "Unsupported subcluster size: 128"),
        ({"length": 112, "rest": b"\1" + bytes(7)}, "qcow2: Compression type incompatible feature bit must be set"),
        ({"length": 112, "rest": b"\2" + bytes(7), "incompatible": 8}, "qcow2: unknown compression type: 2"),
        ({"length": 112, "rest": bytes(8), "incompatible": 8},
         "qcow2: Compression type incompatible feature bit must not be set"),
        ({"order": 7}, "Reference count entry width too large; may not exceed 64 bits"),
        ({"order": 1 << 31}, "Reference count entry width too large; may not exceed 64 bits"),
        ({"crypt": 1}, "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators"),
        ({"crypt": 5}, "Unsupported encryption method 5"),
        ({"refcounts": (1 << 16, 0)}, "Image does not contain a reference count table"),
        ({"refcounts": (3, 1)}, "Reference count table offset invalid"),
        ({"refcounts": (1 << 16, 1 << 20)}, "Reference count table too large"),
        ({"snapshots": (1 << 20, 1)}, "Snapshot table too large"),
        ({"snapshots": (3, 1)}, "Snapshot table offset invalid"),
        ({"l1": (1, 1000)}, "Active L1 table offset invalid"),
        ({"l1": (1 << 30, 0)}, "Active L1 table too large"),
        ({"size": 1 << 40}, "L1 table is too small"),
        ({"size": 1 << 62}, "Image is too big"),
        ({"size": (1 << 64) - 1}, "Could not refresh total sector count: File too large"),
        ({"rest": struct.pack(">II", 0xE2792ACA, 0xFFFFFF)}, "Header extension too large"),
        ({"rest": struct.pack(">II", 0xE2792ACA, 20)}, "ERROR: ext_backing_format: len=20 too large (>=16)"),
    ],
)  # fmt: skip
def test_what_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ImageError) as raised:
        read(header(**fields))
    assert raised.value.message == text


def test_a_corrupt_image_can_be_read() -> None:
    assert read(header(incompatible=2), read_only=True).incompatible == 2


def test_what_ends_early_is_filled_with_zeros() -> None:
    with pytest.raises(ImageError, match=r"Unsupported cluster size: 2\^0"):
        read(b"QFI\xfb\0\0\0\3")
    with pytest.raises(ImageError, match="Image is not in qcow2 format"):
        read(b"")


class Counting(MemoryStorage):
    """Counts how many bytes are asked for."""

    asked = 0

    def read(self, offset: int, length: int) -> bytes:
        self.asked += length
        return super().read(offset, length)


# A header may tell of many snapshots; how long that takes is not what is looked at.
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 111), st.integers(0, 255)), max_size=8), st.binary(max_size=200))
def test_no_header_does_harm(changes: list[tuple[int, int]], rest: bytes) -> None:
    content = bytearray(header(length=112, rest=bytes(8) + rest))
    for place, value in changes:
        content[place] = value
    storage = Counting(bytes(content))
    try:
        image = read_header(storage, read_only=False)
    except ImageError:
        pass
    else:
        assert image.size < 1 << 63
    assert storage.asked < 1 << 30
