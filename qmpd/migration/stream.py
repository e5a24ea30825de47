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
# What a stream of QEMU's begins with.
_THEIRS = b"QEVM"


class BadStream(Exception):  # noqa: N818 - it says what the bytes are
    """What came is no stream, or not one for this machine.

    `message` says why, `detail` what follows it in releases that say more; `number` is an error number.
    """

    def __init__(self, message: str, number: int = errno.EINVAL, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.number = number
        self.detail = detail


def head() -> bytes:
    """What a stream begins with."""
    return MAGIC + FORMAT.to_bytes(_NUMBER, "big")


def section(name: str, value: Any, *, packed: bool = True) -> bytes:
    """One section; `value` is a plain value, and takes as little room as it can where it is `packed`.

    :raise TypeError: it is not.
    """
    content = zlib.compress(values.write(value), 9 if packed else 0)
    sizes = len(content).to_bytes(_NUMBER, "big") + zlib.crc32(content).to_bytes(_NUMBER, "big")
    return bytes([len(name)]) + name.encode("ascii") + sizes + content


def whole(state: Mapping[str, Any], before: str) -> bytes:
    """A machine's state and what it was doing before, in one piece, so that the other side wakes up once.

    It is not deflated: the guest stands still meanwhile.

    :raise TypeError: the state is no plain value.
    """
    sections = {**state, "switch": {"state": before}}
    return b"".join(section(name, value, packed=False) for name, value in sections.items())


def check(name: str, value: Any, members: Mapping[str, type]) -> None:
    """See whether a section that has come has these members, each of its type.

    :raise BadStream: it has not.
    """
    if not isinstance(value, dict) or not all(isinstance(value.get(each), kind) for each, kind in members.items()):
        raise BadStream(f"section '{name}' is damaged")


END = b"\0"
"""What a stream ends with."""


def write(sections: Mapping[str, Any]) -> bytes:
    """The stream of these sections, by name; each is a plain value.

    :raise TypeError: one is not.
    """
    return head() + b"".join(section(name, value) for name, value in sections.items()) + END


def read(data: bytes) -> dict[str, Any]:
    """The sections of a stream.

    :raise BadStream: it is none, or it is not whole.
    """
    arriving = Arriving()
    sections = dict(arriving.take(data))
    arriving.check_whole()
    return sections


class Arriving:
    """A stream of which one part comes after another; `is_whole`: its end has come."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._begun = False
        self.is_whole = False

    def take(self, data: bytes) -> list[tuple[str, Any]]:
        """The sections that these bytes complete; what follows the end is left where it is.

        :raise BadStream: it is no stream.
        """
        self._data += data
        found: list[tuple[str, Any]] = []
        while not self.is_whole:
            reader = values.Pieces(self._data)
            try:
                if not self._begun:
                    self._read_head(reader)
                elif (length := reader.take(1)[0]) == 0:
                    self.is_whole = True
                else:
                    found.append(self._read_section(reader, length))
            except ValueError:
                break  # the rest comes later
            del self._data[: reader.at]
        return found

    @property
    def has_begun(self) -> bool:
        """Whether its head has come."""
        return self._begun

    def check_whole(self) -> None:
        """See whether all has come.

        :raise BadStream: it has not.
        """
        if not self.is_whole:
            raise BadStream("Unable to read from the stream: it ends too early", errno.EIO)

    def _read_head(self, reader: values.Pieces) -> None:
        begins = reader.take(_NUMBER)
        if begins != MAGIC[:_NUMBER]:
            wanted = MAGIC[:_NUMBER] if begins == _THEIRS else _THEIRS
            raise BadStream("Not a migration stream", detail=f", magic: {begins.hex()} != {wanted.hex()}")
        rest = reader.take(len(MAGIC) - _NUMBER)
        if rest != MAGIC[_NUMBER:]:
            raise BadStream("Not a migration stream", detail=f", magic: {begins.hex()}{rest.hex()} != {MAGIC.hex()}")
        written = int.from_bytes(reader.take(_NUMBER), "big")
        if written != FORMAT:
            raise BadStream(
                "Unsupported migration stream version", errno.ENOTSUP, f", file version {written:x} != {FORMAT:x}"
            )
        self._begun = True

    def _read_section(self, reader: values.Pieces, length: int) -> tuple[str, Any]:
        name = reader.take(length).decode("latin-1")
        size, check = (int.from_bytes(reader.take(_NUMBER), "big") for _ in range(2))
        if size > LARGEST:
            raise BadStream(f"section '{name}' is too large")
        content = bytes(reader.take(size))
        if zlib.crc32(content) != check:
            raise BadStream(f"section '{name}' is damaged")
        return name, _value(name, content)


def _value(name: str, content: bytes) -> Any:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(content, LARGEST)
        if inflater.unconsumed_tail or not inflater.eof:
            raise BadStream(f"section '{name}' is too large")
        return values.read(text)
    except (zlib.error, ValueError):
        raise BadStream(f"section '{name}' is damaged") from None
