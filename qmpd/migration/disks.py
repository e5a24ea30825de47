"""Disks that are copied along with a migration (`blk`, `inc`), piece by piece while the machine stands still.

QEMU copies them while the guest runs, and what it has written once more (migration/block.c).  Here all of it is copied
at the end, so that the machine stands still for longer; what arrives is the same.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.migration import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qmpd.migration.channel import Channel

PIECE = 1 << 20
_MOST_UNSENT = 16 << 20
_MOST_UNWRITTEN = 16
SECTION = "disk"
"""The section of a stream that has one piece: the disk's name, and the piece's place, length and content."""
PROGRESS = "disks-sent"
"""The section that tells how much of all disks has been sent, in percent."""
_WHOLE = 100


class Disk(NamedTuple):
    """A disk of a machine: the name of its drive, empty where it has none, and its size in bytes."""

    name: str
    size: int


class Disks(Protocol):
    """The disks of one machine (`qmpd.system.copied_disks.CopiedDisks`)."""

    def all(self) -> list[Disk]:
        """The disks with something in them."""

    def read(self, place: int, offset: int, length: int, then: Callable[[bytes | OSError | None], None]) -> None:
        """Read a part of the disk of this place; `then` is given it, or None for what is not to be copied."""

    def check(self, names: Iterable[str]) -> None:
        """See whether there are disks of these names.

        :raise BadStream: one is missing.
        """

    def write(self, name: str, offset: int, length: int, data: bytes, then: Callable[[str | None], None]) -> None:
        """Write a part of a disk, zeros where `data` is empty; `then` is told why that cannot be.

        :raise BadStream: there is no such disk, or it is too small.
        """

    def tell(self, text: str) -> None:
        """Print something to standard output."""


class Leaving:
    """The disks of a machine that goes; `wake` is called when there is something more to do.

    To be read: `total` and `transferred`, in bytes; `has_begun`, `is_under_way`; `error`, why a disk cannot be read.
    """

    def __init__(self, disks: Disks, wake: Callable[[], None]) -> None:
        self._disks = disks
        self._wake = wake
        self._found = disks.all()
        self.total = sum(each.size for each in self._found)
        self.transferred = 0
        self.is_under_way = self.has_begun = False
        self.error: str | None = None
        self._came: deque[bytes | OSError | None] = deque()

    @property
    def names(self) -> list[str]:
        """What they are called."""
        return [each.name for each in self._found]

    def copy(self, channel: Channel) -> Iterator[int | None]:
        """Send all of them: None is yielded where something has to come first."""
        self.is_under_way = self.has_begun = True
        told = -1
        for place, disk in enumerate(self._found):
            for offset in range(0, disk.size, PIECE):
                length = min(PIECE, disk.size - offset)
                while channel.unsent > _MOST_UNSENT:
                    yield None
                self._disks.read(place, offset, length, self._read)
                while not self._came:
                    yield None
                data = self._came.popleft()
                if isinstance(data, OSError):
                    self.error = f"Error reading from device {disk.name}: {data.strerror or data}"
                    return
                self.transferred += length
                if data is not None:
                    content = data if data.strip(b"\0") else b""
                    value = {"name": disk.name, "at": offset, "length": length, "data": content}
                    channel.send(stream.section(SECTION, value))
                if (percent := self.transferred * _WHOLE // self.total) != told:
                    told = percent
                    channel.send(stream.section(PROGRESS, {"percent": percent}))
        self.is_under_way = False

    def _read(self, data: bytes | OSError | None) -> None:
        self._came.append(data)
        self._wake()


class Arriving:
    """The disks of a machine that comes; `error` says why one cannot be written."""

    def __init__(self, disks: Disks, wake: Callable[[], None]) -> None:
        self._disks = disks
        self._wake = wake
        self._unwritten = 0
        self._has_told = False
        self.error: str | None = None

    def check(self, names: Iterable[str]) -> None:
        """See whether the machine has disks of these names.

        :raise BadStream: one is missing.
        """
        self._disks.check(names)

    def take(self, value: Any) -> None:
        """A piece has come.

        :raise BadStream: it is of no disk of this machine.
        """
        self._disks.write(value["name"], value["at"], value["length"], value["data"], self._written)
        self._unwritten += 1

    def tell(self, percent: int) -> None:
        """So much has come, which is printed, as QEMU does."""
        if not self._has_told:
            self._has_told = True
            self._disks.tell("Receiving block device images\n")
        end = "\n" if percent == _WHOLE else "\r"
        self._disks.tell(f"Completed {percent} %{end}")

    def _written(self, error: str | None) -> None:
        self._unwritten -= 1
        self.error = self.error or error
        self._wake()

    @property
    def is_busy(self) -> bool:
        """Whether nothing more may come at the moment."""
        return self._unwritten >= _MOST_UNWRITTEN

    @property
    def are_written(self) -> bool:
        """Whether all that has come is there."""
        return not self._unwritten
