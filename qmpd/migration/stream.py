"""The stream that a machine's state travels in: into an image (snapshots), or to another process (migration).

The bytes, numbers with the most significant byte first:

| bytes | what |
|---|---|
| 8 | `QMPDVM`, 0x1A, 0x0A: what it is |
| 4 | the version, 1 |
| sections | each as below |
| 1 | 0: the end; what follows is filling |

A section: 1 byte, the length of its name; the name, in ASCII; 4 bytes, the length of its content; 4 bytes, the CRC-32
of that; the content, a value (`qmpd.migration.values`) that was deflated (zlib).  A reader that does not know a section
refuses the stream, as the machine would not be the same without it.  What the sections are, and what is in them, is
said where they are made: `qmpd.system.machine_state`.

Nobody needs to trust what a stream was made by: reading it makes nothing but plain values, within `LARGEST` bytes.
"""

from __future__ import annotations

import errno
import zlib
from typing import TYPE_CHECKING, Any

from qmpd.migration import values

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"QMPDVM\x1a\n"
FORMAT = 1
LARGEST = 64 << 20
"""The most bytes that one section may have, once it is inflated."""

_NUMBER = 4
_LONGEST_NAME = 255


class BadStream(Exception):  # noqa: N818 - it says what the bytes are
    """What came is no stream, or not one for this machine.

    `message` says why, `detail` what follows it in releases that say more; `number` is an error number.
    """

    def __init__(self, message: str, number: int = errno.EINVAL, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.number = number
        self.detail = detail


def write(sections: Mapping[str, Any]) -> bytes:
    """The stream of these sections, by name; each is a plain value.

    :raise TypeError: one is not.
    """
    parts = [MAGIC, FORMAT.to_bytes(_NUMBER, "big")]
    for name, value in sections.items():
        content = zlib.compress(values.write(value), 9)
        parts += [bytes([len(name)]), name.encode("ascii")]
        parts += [len(content).to_bytes(_NUMBER, "big"), zlib.crc32(content).to_bytes(_NUMBER, "big"), content]
    parts.append(b"\0")
    return b"".join(parts)


def read(data: bytes) -> dict[str, Any]:
    """The sections of a stream.

    :raise BadStream: it is none, or it is not whole.
    """
    reader = _Reader(data)
    magic = reader.take(len(MAGIC))
    if magic != MAGIC:
        found, wanted = (int.from_bytes(each[:_NUMBER], "big") for each in (magic, MAGIC))
        raise BadStream("Not a migration stream", detail=f", magic: {found:x} != {wanted:x}")
    written = reader.number()
    if written != FORMAT:
        raise BadStream(
            "Unsupported migration stream version", errno.ENOTSUP, f", file version {written:x} != {FORMAT:x}"
        )
    sections: dict[str, Any] = {}
    while length := reader.take(1)[0]:
        name = reader.take(length).decode("latin-1")
        size, check = reader.number(), reader.number()
        content = reader.take(size)
        if zlib.crc32(content) != check:
            raise BadStream(f"section '{name}' is damaged")
        sections[name] = _value(name, content)
    return sections


def _value(name: str, content: bytes) -> Any:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(content, LARGEST)
        if inflater.unconsumed_tail or not inflater.eof:
            raise BadStream(f"section '{name}' is too large")
        return values.read(text)
    except (zlib.error, ValueError):
        raise BadStream(f"section '{name}' is damaged") from None


class _Reader(values.Pieces):
    """The parts of a stream."""

    def take(self, size: int) -> bytes:
        try:
            return super().take(size)
        except ValueError:
            raise BadStream("Unable to read from the stream: it ends too early", errno.EIO) from None

    def number(self) -> int:
        return int.from_bytes(self.take(_NUMBER), "big")
