"""The numbers of the Network Block Device protocol (NBD's doc/proto.md), and how its messages are laid out.

All integers are big-endian.  A connection has two phases: the *negotiation*, in which the client asks for options one
after another, and the *transmission*, in which it reads and writes.
"""

from __future__ import annotations

import enum
import errno
import struct

# The first words of each message.
GREETING = 0x4E42444D41474943
"""`NBDMAGIC`, with which the server begins."""
OPTION_MAGIC = 0x49484156454F5054
"""`IHAVEOPT`, in front of the server's flags and of each option."""
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF
EXTENDED_REQUEST_MAGIC = 0x21E41C71
EXTENDED_REPLY_MAGIC = 0x6E8A278C

HELLO = struct.Struct(">QQH")
"""The server's first message: two magics and `Handshake` flags."""
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")
"""An option: magic, `Option`, length of its data."""
OPTION_REPLY = struct.Struct(">QIII")
"""An answer to one: magic, the option, `OptionReply`, length of its data."""
REQUEST = struct.Struct(">IHHQQI")
"""A request: magic, `Flag`, `Command`, cookie, offset, length."""
SIMPLE_REPLY = struct.Struct(">IIQ")
"""A reply: magic, `Error`, cookie; what was read follows."""
CHUNK = struct.Struct(">IHHQI")
"""A part of a structured reply: magic, flags (1 where it is the last), `Chunk`, cookie, length of what follows."""
EXTENDED_REQUEST = struct.Struct(">IHHQQQ")
"""The same request with a length of 64 bits, once both have agreed on `Option.EXTENDED_HEADERS`."""
EXTENDED_CHUNK = struct.Struct(">IHHQQQ")
"""The same chunk then: the request's offset is behind the cookie."""
SIZE_AND_FLAGS = struct.Struct(">QH")
EXTENT = struct.Struct(">II")
"""A part of a node in a reply to `BLOCK_STATUS`: its length, and what is told of it."""

EXTENDED_EXTENT = struct.Struct(">QQ")
EFFECT = struct.Struct(">Q")
"""What a `BLOCK_STATUS` with a payload begins with: the length that it is about; the numbers of contexts follow."""

RESERVED = 124
"""So many zeros end the answer to `Option.EXPORT_NAME`, unless both have agreed to leave them out."""
LONGEST_STRING = 4096
LONGEST_REQUEST = 32 << 20
"""So much is read or written at once, in bytes."""
LAST = 1
"""The flag of a structured reply's last chunk."""
IS_ERROR = 1 << 15
"""The bit of chunks that tell of errors."""
IS_REFUSAL = 1 << 31
"""The bit of answers to options that refuse."""


class Handshake(enum.IntFlag):
    """What a side can do, told before all options."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(enum.IntEnum):
    """What a client asks for in the negotiation."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class OptionReply(enum.IntEnum):
    """How a server answers an option."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = IS_REFUSAL | 1
    POLICY = IS_REFUSAL | 2
    INVALID = IS_REFUSAL | 3
    PLATFORM = IS_REFUSAL | 4
    TLS_REQUIRED = IS_REFUSAL | 5
    UNKNOWN = IS_REFUSAL | 6
    SHUTDOWN = IS_REFUSAL | 7
    BLOCK_SIZE_REQUIRED = IS_REFUSAL | 8
    TOO_BIG = IS_REFUSAL | 9
    EXTENDED_HEADERS_REQUIRED = IS_REFUSAL | 10


class Info(enum.IntEnum):
    """What a server tells of an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Export(enum.IntFlag):
    """What can be done with an export."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64
    SEND_DF = 128
    CAN_MULTI_CONN = 256
    SEND_CACHE = 1024
    SEND_FAST_ZERO = 2048
    BLOCK_STATUS_PAYLOAD = 4096


class Command(enum.IntEnum):
    """What a request asks for."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Flag(enum.IntFlag):
    """How it is to be done."""

    FUA = 1
    NO_HOLE = 2
    DONT_FRAGMENT = 4
    REQ_ONE = 8
    FAST_ZERO = 16
    PAYLOAD_LENGTH = 32


class Chunk(enum.IntEnum):
    """The kinds of chunks in structured replies."""

    NONE = 0
    DATA = 1
    HOLE = 2
    BLOCK_STATUS = 5
    EXTENDED_BLOCK_STATUS = 6
    ERROR = IS_ERROR | 1
    ERROR_OFFSET = IS_ERROR | 2


HOLE, ZERO = 1, 2
"""What `base:allocation` tells of a part: nothing is allocated for it, it reads as zeros."""
DIRTY = 1
"""What `qemu:dirty-bitmap:NAME` tells of a part."""

BASE = "base:allocation"
DEPTH = "qemu:allocation-depth"
BITMAP = "qemu:dirty-bitmap:"
"""The contexts of block status; the last begins the names of those that are bitmaps."""

_ERRORS = {
    errno.EPERM: errno.EPERM, errno.EROFS: errno.EPERM, errno.EIO: errno.EIO, errno.ENOMEM: errno.ENOMEM,
    errno.EDQUOT: errno.ENOSPC, errno.EFBIG: errno.ENOSPC, errno.ENOSPC: errno.ENOSPC,
    errno.EOVERFLOW: errno.EOVERFLOW, errno.ENOTSUP: errno.ENOTSUP, errno.ESHUTDOWN: errno.ESHUTDOWN,
}  # fmt: skip


def error_on_the_wire(number: int) -> int:
    """The error number that a client is told of the host's; EINVAL for those that the protocol does not know."""
    return _ERRORS.get(number, errno.EINVAL) if number else 0


def text(value: str) -> bytes:
    """A string as messages have it: its length, then its bytes."""
    encoded = value.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(4, "big") + encoded
