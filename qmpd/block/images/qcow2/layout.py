"""The tables of the specification: header, extensions, entries, features."""

from __future__ import annotations

import struct

MAGIC = b"QFI\xfb"

# magic, version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method, l1_size, l1_table_offset,
# refcount_table_offset, refcount_table_clusters, nb_snapshots, snapshots_offset
HEADER_2 = struct.Struct(">4sIQIIQIIQQIIQ")
# incompatible_features, compatible_features, autoclear_features, refcount_order, header_length
HEADER_3 = struct.Struct(">QQQII")
LENGTH_2, LENGTH_3, LENGTH_NOW = 72, 104, 112
COMPRESSION_TYPE_AT = 104
INCOMPATIBLE_AT, COMPATIBLE_AT, AUTOCLEAR_AT = 72, 80, 88

SMALLEST_CLUSTER_BITS, LARGEST_CLUSTER_BITS = 9, 21
LARGEST_REFCOUNT_ORDER = 6
SUBCLUSTERS = 32

# Incompatible features.
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
# Compatible features.
LAZY_REFCOUNTS = 1
# Features that a writer who does not know them clears.
AUTOCLEAR_BITMAPS, AUTOCLEAR_RAW_DATA = 1, 2
KNOWN_AUTOCLEAR = AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA
# The names in the table of features: kind (0 incompatible, 1 compatible, 2 autoclear), bit, name.
FEATURE_NAMES = (
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
)
FEATURE = struct.Struct(">BB46s")
# In clusters of up to so many bytes QEMU leaves the table of features out: it needs the room.
NO_FEATURE_NAMES = 4096

# Header extensions.
EXTENSION = struct.Struct(">II")
END, BACKING_FORMAT, FEATURES, BITMAPS, ENCRYPTION, DATA_FILE_NAME = (
    0, 0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441,
)  # fmt: skip
# offset of the LUKS header, its length
ENCRYPTION_EXTENSION = struct.Struct(">QQ")
# number of bitmaps, reserved, size of the directory in bytes, its offset
BITMAPS_EXTENSION = struct.Struct(">IIQQ")

COMPRESSIONS = ("zlib", "zstd")
AES, LUKS = 1, 2

# Entries of tables.
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET = 0x00FF_FFFF_FFFF_FE00
L1_RESERVED, L2_RESERVED = 0x7F00_0000_0000_01FF, 0x3F00_0000_0000_01FE
REFCOUNT_TABLE_RESERVED = 0x1FF
SECTOR = 512

# The most that a table may take, in bytes.
LARGEST_REFCOUNT_TABLE, LARGEST_L1_TABLE = 8 << 20, 32 << 20
MOST_SNAPSHOTS, LARGEST_SNAPSHOT_TABLE, MOST_EXTRA = 65536, 64 << 20, 1024
LONGEST_BACKING_NAME, LONGEST_BACKING_FORMAT = 1023, 16

# l1_table_offset, l1_size, id_str_size, name_size, date_sec, date_nsec, vm_clock_nsec, vm_state_size, extra_data_size
SNAPSHOT = struct.Struct(">QIHHIIQII")
# vm_state_size_large, disk_size, icount
SNAPSHOT_EXTRA = struct.Struct(">QQQ")
NO_INSTRUCTIONS = (1 << 64) - 1

# bitmap_table_offset, bitmap_table_size, flags, type, granularity_bits, name_size, extra_data_size
BITMAP = struct.Struct(">QIIBBHI")
BITMAP_IN_USE, BITMAP_AUTO, BITMAP_EXTRA_COMPATIBLE = 1, 2, 4
DIRTY_TRACKING = 1
BITMAP_ALL_ONES = 1
# The most that the bits of a bitmap take, and the most entries of its table.
LARGEST_BITMAP, LARGEST_BITMAP_TABLE = 512 << 20, 0x8000000
MOST_BITMAPS, LONGEST_BITMAP_NAME = 65535, 1023
SMALLEST_GRANULARITY_BITS, LARGEST_GRANULARITY_BITS = 9, 31

LARGEST = (1 << 63) - 1
ALL_ONES = (1 << 64) - 1
