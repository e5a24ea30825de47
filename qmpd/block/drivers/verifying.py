"""Nodes that have the same bytes in several places, or write down what is done: blkverify, quorum, blklogwrites."""

from __future__ import annotations

import errno
import struct
from collections import Counter
from typing import TYPE_CHECKING

from qmpd.block.content import Passing, number_of
from qmpd.block.images.errors import ImageError, failure
from qmpd.block.nodes import below
from qmpd.block.values import is_on, number
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.content import Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

_SECTOR = 512
# <drivers/md/dm-log-writes.c>: magic, version, number of entries, sector size; sector, count, flags, length of data.
_SUPER, _ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
_MAGIC, _VERSION = 0x6A736677736872, 1
_FLUSH, _DISCARD = 1, 4
_FLAGS = 15
_SMALLEST, _LARGEST = 32, 1 << 24
# After so many entries the head of the log is written, where nothing else is said.
_OFTEN = 4096


def _first_difference(one: bytes, other: bytes) -> int:
    return next(at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)


class BlkVerify(Passing):
    """blkverify: what is read must be the same in both; where it is not the machine ends, as QEMU does."""

    allocated = None

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node, "test"))
        self._raw = below(node, "raw")
        self._graph = graph

    def read(self, offset: int, length: int) -> bytes:
        """Read both, and compare."""
        data = self.below.read(offset, length)
        raw = self._raw.read(offset, length)
        if data != raw:
            where = f"offset={offset} bytes={length}"
            at = offset + _first_difference(data, raw)
            self._graph.end(f"blkverify: read {where} contents mismatch at offset {at}")
            raise failure(errno.EIO)
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write both."""
        self.below.write(offset, data)
        self._raw.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros in both."""
        self.below.zero(offset, length, unmap=unmap)
        self._raw.zero(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        """Not passed on: afterwards the two might differ."""

    def flush(self) -> None:
        """Flush the one that is looked at."""
        self.below.flush()


class BlkLogWrites(Passing):
    """blklogwrites: each write is written to a log, as dm-log-writes does."""

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        super().__init__(below(node))
        """:raise MachineError: the log that it is to go on with is none."""
        self._log = below(node, "log")
        self._sector = number(node.options.get("log-sector-size", _SECTOR))
        self._often = number(node.options.get("log-super-update-interval", _OFTEN))
        self._entries = 0
        self._at = self._sector
        self._begun = False
        if is_on(node.options.get("log-append")):
            self._go_on()

    def _go_on(self) -> None:
        """Find the end of the log that is there."""
        magic, revision, entries, sector = _SUPER.unpack(self._log.read(0, _SUPER.size))
        if magic != _MAGIC:
            raise MachineError("Invalid log superblock magic")
        if revision != _VERSION:
            raise MachineError(f"Unsupported log version {revision}")
        if sector & (sector - 1) or not _SMALLEST <= sector < _LARGEST:
            raise MachineError(f"Invalid log sector size {sector}")
        self._sector, self._entries, self._begun, self._at = sector, entries, True, sector
        for _ in range(entries):
            if self._at >= self._log.size:
                raise MachineError("Failed to read log entry")
            _, count, flags, _ = _ENTRY.unpack(self._log.read(self._at, _ENTRY.size))
            if flags & ~_FLAGS:
                raise MachineError(f"Invalid log entry flags 0x{flags:x}")
            self._at += sector + (0 if flags & _DISCARD else count * sector)

    def _write_entry(self, offset: int, length: int, flags: int, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._tell()
        entry = _ENTRY.pack(offset // self._sector, length // self._sector, flags, 0).ljust(self._sector, b"\0")
        self._log.write(self._at, entry + data)
        self._at += len(entry) + len(data)
        self._entries += 1
        if self._entries % self._often == 0:
            self._tell()

    def _tell(self) -> None:
        head = _SUPER.pack(_MAGIC, _VERSION, self._entries, self._sector)
        self._log.write(0, head.ljust(self._sector, b"\0"))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write, and log it."""
        super().write(offset, data)
        self._write_entry(offset, len(data), 0, bytes(data))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros, and log that."""
        super().zero(offset, length, unmap=unmap)
        self._write_entry(offset, length, 0, bytes(length))

    def discard(self, offset: int, length: int) -> None:
        """Let go of them, and log that."""
        super().discard(offset, length)
        self._write_entry(offset, length, _DISCARD, b"")

    def flush(self) -> None:
        """Flush, and log that."""
        super().flush()
        self._write_entry(0, 0, _FLUSH, b"")
        self._tell()
        self._log.flush()


class Quorum:
    """quorum: several copies vote on what is read.  (QEMU's block/quorum.c.)"""

    allocated = None

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        self._node = node
        self._graph = graph
        self._threshold = number(node.options.get("vote-threshold", 0))
        self._rewrites = is_on(node.options.get("rewrite-corrupted"))
        self._first = node.options.get("read-pattern") == "fifo"
        self._compares = self._first is False and is_on(node.options.get("blkverify"))

    @property
    def _copies(self) -> list[tuple[str, Content]]:
        return [(child.name, below(self._node, role)) for role, child in self._node.children.items()]

    @property
    def size(self) -> int:
        """How many bytes there are: as many as all copies have."""
        sizes = {copy.size for _, copy in self._copies}
        return sizes.pop() if len(sizes) == 1 else min(sizes)

    def _bad(self, name: str, kind: str, offset: int, length: int, error: str | None) -> None:
        data: dict[str, object] = {
            "node-name": name, "type": kind, "sector-num": offset // _SECTOR, "sectors-count": -(-length // _SECTOR),
        }  # fmt: skip
        self._graph.happened.append(("QUORUM_REPORT_BAD", {**data, "error": error} if error else data))

    def read(self, offset: int, length: int) -> bytes:
        """Read all copies; what enough of them have counts."""
        found: dict[str, bytes] = {}
        last: OSError | ImageError | None = None
        for name, copy in self._copies:
            try:
                found[name] = copy.read(offset, length)
            except (OSError, ImageError) as error:
                from qmpd.block.content import text_of

                last = error
                self._bad(name, "read", offset, length, text_of(error))
                continue
            if self._first:
                return found[name]
        if self._compares and len(set(found.values())) > 1:
            one, *others = found.values()
            other = next(each for each in others if each != one)
            where = f"offset={offset} bytes={length}"
            self._graph.end(f"quorum: {where} contents mismatch at offset {offset + _first_difference(one, other)}")
            raise failure(errno.EIO)
        if len(found) < self._threshold:
            self._fail(offset, length)
            raise last if last is not None else failure(errno.EIO)
        data, votes = Counter(found.values()).most_common(1)[0]
        if votes < self._threshold:
            self._fail(offset, length)
            raise failure(errno.EIO)
        for name, copy in self._copies:
            if name in found and found[name] != data:
                self._bad(name, "read", offset, length, None)
                if self._rewrites:
                    copy.write(offset, data)
        return data

    def _fail(self, offset: int, length: int) -> None:
        data: dict[str, object] = {
            "reference": self._node.name, "sector-num": offset // _SECTOR, "sectors-count": -(-length // _SECTOR),
        }  # fmt: skip
        self._graph.happened.append(("QUORUM_FAILURE", data))

    def _all(self, kind: str, offset: int, length: int, act: Callable[[Content], None]) -> None:
        """Do the same to all copies; enough of them have to take it."""
        from qmpd.block.content import text_of

        good, numbers = 0, []
        for name, copy in self._copies:
            try:
                act(copy)
                good += 1
            except (OSError, ImageError) as error:
                numbers.append(number_of(error))
                self._bad(name, kind, offset, length, text_of(error))
        if good < self._threshold:
            if kind != "flush":
                self._fail(offset, length)
            raise failure(Counter(numbers).most_common(1)[0][0])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all copies."""
        self._all("write", offset, len(data), lambda copy: copy.write(offset, data))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros in all copies."""
        self._all("write", offset, length, lambda copy: copy.zero(offset, length, unmap=unmap))

    def discard(self, offset: int, length: int) -> None:
        """Not passed on: the copies might differ afterwards."""

    def flush(self) -> None:
        """Flush all copies."""
        self._all("flush", 0, 0, lambda copy: copy.flush())

    def truncate(self, size: int) -> None:
        """Nobody may do that.

        :raise OSError: always.
        """
        raise failure(errno.ENOTSUP)

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What is there counts as allocated."""
        yield length, True

    def close(self) -> None:
        """Nothing is open here."""
