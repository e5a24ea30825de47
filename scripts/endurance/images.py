"""The command line of `scripts/images`: qcow2 images under random use, beside QEMU's own tools.

`operations` writes, zeroes, discards, resizes, takes snapshots and opens anew, on images that qemu-img has made with
random options, and has qemu-io do the same on a copy: contents are equal, `qemu-img check` finds nothing, and
`qemu-img map` is equal where allocation is specified.  `kills` ends writers by SIGKILL: afterwards `qemu-img check -r
leaks` mends all there is, and every write that was flushed is there.  `hostile` damages headers, tables and lists of
snapshots: there is an error or an answer, soon, and without much memory.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmpd.block.files import FileStorage
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import check, layout, snapshot_table, snapshots
from qmpd.block.images.qcow2.creation import Options, create
from qmpd.block.images.qcow2.image import Qcow2

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR = 512
OPENING = 0.1
"""Seconds of the processor that opening a damaged image may take: the main loop does it."""
READING = 2.0
"""Seconds that reading and writing one may take: a thread does it."""
MEMORY = 64 << 20
"""Bytes of memory that damaged images may take."""
BATCH = 10
"""Operations that are done between two looks at the images."""


class Wrong(Exception):  # noqa: N818 (it is what is looked for)
    """Something that is not as it has to be; the text says what, and the seed that does it again."""


def run(*words: object, may_fail: bool = False) -> str:
    """Run one of QEMU's tools; what it says.

    :raise Wrong: it fails, and must not.
    """
    ended = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if ended.returncode != 0 and not may_fail:
        raise Wrong(f"{' '.join(map(str, words))}: {ended.stdout}{ended.stderr}")
    return ended.stdout + ended.stderr


# Operations


class Pair:
    """An image that is written to here, and a copy that qemu-io and qemu-img write to."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.chosen = chosen = random.Random(seed)
        self.ours, self.theirs, self.model = folder / "ours.qcow2", folder / "theirs.qcow2", folder / "model.raw"
        compat = chosen.choice(["0.10", "1.1", "1.1", "1.1"])
        bits = chosen.choice([9, 10, 12, 14, 16, 16, 17, 21])
        options: dict[str, object] = {"compat": compat, "cluster_size": 1 << bits}
        width = 16
        if compat == "1.1":
            width = options["refcount_bits"] = chosen.choice([1, 2, 4, 8, 16, 16, 32, 64])
            options["lazy_refcounts"] = chosen.choice(["on", "off", "off"])
            if bits >= 14 and chosen.random() < 0.3:
                options["extended_l2"] = "on"
        self.version = 2 if compat == "0.10" else 3
        self.size = chosen.choice([1 << 16, 1 << 20, 3 << 20, 8 << 20]) + SECTOR * chosen.randrange(40)
        self.below = b""
        words: list[object] = []
        if chosen.random() < 0.4:
            self.below = chosen.randbytes(4096) * (self.size // 4096 // chosen.choice([1, 2]) or 1)
            (folder / "base.raw").write_bytes(self.below)
            words = ["-b", "base.raw", "-F", "raw"]
        elif not options.get("extended_l2"):
            options["preallocation"] = chosen.choice(["off", "off", "metadata", "falloc"])
        self.preallocated = options.get("preallocation", "off") != "off"
        self.options = ",".join(f"{name}={value}" for name, value in options.items())
        run("qemu-img", "create", "-q", "-f", "qcow2", *words, "-o", self.options, self.theirs, self.size)
        self.ours.write_bytes(self.theirs.read_bytes())
        # A count has to have room for the disk itself, each snapshot, and the one to which it goes back.
        self.most = min(3, (1 << min(width, 3)) - 3) if width > 1 else 0
        self.kept: list[str] = []
        self.has_had_snapshots = False
        self.content = bytearray(self.below[: self.size]).ljust(self.size, b"\0")
        self.contents: dict[str, bytes] = {}
        self.descriptor = os.open(self.ours, os.O_RDWR)
        self.image = self._opened()
        self.lines: list[str] = []

    def _opened(self) -> Qcow2:
        image = Qcow2(FileStorage(self.descriptor), read_only=False)
        if self.below:
            content = self.below
            image.below = lambda offset, length: content[offset : offset + length].ljust(length, b"\0")
            image.below_size = len(content)
        return image

    def _place(self) -> tuple[int, int]:
        offset = self.chosen.randrange(self.size // SECTOR) * SECTOR
        length = self.chosen.choice([SECTOR, 4096, 65536, self.chosen.randrange(1, 64) * SECTOR, 1 << 20])
        return offset, min(self.size - offset, length)

    def step(self) -> None:
        """One operation on both."""
        name = self.chosen.choice(["write"] * 8 + ["zero", "zero", "discard", "resize", "snapshot", "reopen"])
        getattr(self, f"_{name}")()

    def _write(self) -> None:
        offset, length = self._place()
        pattern = self.chosen.randrange(1, 256)
        self.image.write(offset, bytes([pattern]) * length)
        self.content[offset : offset + length] = bytes([pattern]) * length
        self.lines.append(f"write -P {pattern} {offset} {length}")

    def _zero(self) -> None:
        offset, length = self._place()
        unmap = self.chosen.random() < 0.5
        self.image.zero(offset, length, unmap=unmap)
        self.content[offset : offset + length] = bytes(length)
        self.lines.append(f"write -z {'-u ' if unmap else ''}{offset} {length}")

    def _discard(self) -> None:
        if self.version < 3:
            # What such a one reads as afterwards is not specified.
            return
        offset, length = self._place()
        self.image.discard(offset, length)
        size = self.image.header.cluster_size
        begin, end = -(-offset // size) * size, (offset + length) // size * size
        if offset + length == self.size:
            end = self.size
        if end > begin:
            self.content[begin:end] = bytes(end - begin)
        self.lines.append(f"discard {offset} {length}")

    def _reopen(self) -> None:
        self.image.flush()
        self.image = self._opened()

    def _resize(self) -> None:
        change = self.chosen.choice([-1, 1, 1]) * self.chosen.randrange(512)
        size = max(SECTOR, self.size + change * SECTOR)
        self._apply()
        try:
            self.image.resize(size)
        except ImageError as error:
            said = run("qemu-img", "resize", "--shrink", "-f", "qcow2", self.theirs, size, may_fail=True)
            if error.message not in said:
                raise Wrong(f"resized to {size}: {error.message}, by QEMU {said}") from None
            return
        run("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", self.theirs, size)
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        if size > self.size:
            # The rest of the last cluster may have what was there when the disk was larger.
            cluster = self.image.header.cluster_size
            rest = min(size, -(-self.size // cluster) * cluster)
            self.content[self.size : rest] = self.image.read(self.size, rest - self.size)
        self.size = size

    def _snapshot(self) -> None:
        self._apply()
        if self.kept and self.chosen.random() < 0.6:
            name = self.chosen.choice(self.kept)
            content = self.contents[name]
            ours = next(each for each in snapshot_table.read_snapshots(self.image) if each.name == name)
            if self.chosen.random() < 0.5:
                if self.version < 3 and len(content) != self.size:
                    return
                snapshots.go_back(self.image, ours)
                run("qemu-img", "snapshot", "-q", "-a", name, self.theirs)
                self.content, self.size = bytearray(content), len(content)
            else:
                snapshots.delete(self.image, ours)
                run("qemu-img", "snapshot", "-q", "-d", name, self.theirs)
                self.kept.remove(name)
        elif len(self.kept) < self.most:
            name = f"s{self.chosen.randrange(1 << 30)}"
            snapshots.take(self.image, name, seconds=1)
            run("qemu-img", "snapshot", "-q", "-c", name, self.theirs)
            self.kept.append(name)
            self.contents[name] = bytes(self.content)
            self.has_had_snapshots = True

    def _apply(self) -> None:
        """Have qemu-io do what it has not done yet."""
        self.image.flush()
        if self.lines:
            words = [word for line in self.lines for word in ("-c", line)]
            self.lines = []
            said = run("qemu-io", "-f", "qcow2", "-d", "unmap", *words, self.theirs)
            if "failed" in said or "rror" in said:
                raise Wrong(said)

    def compare(self) -> None:
        """See that both are as they have to be.

        :raise Wrong: they are not.
        """
        self._apply()
        self.model.write_bytes(self.content)
        if check.check(self.image) != ([], []):
            raise Wrong(f"the image is damaged: {check.check(self.image)}")
        run("qemu-img", "check", "-q", "-f", "qcow2", self.ours)
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", self.ours, self.model)
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", self.ours, self.theirs)
        if not self.has_had_snapshots:
            # Where there were some what is freed is a matter of taste.
            known = not self.preallocated
            ours, theirs = allocation(self.ours, zeros=known), allocation(self.theirs, zeros=known)
            if ours != theirs:
                raise Wrong(f"allocated is {ours}, by QEMU {theirs}")

    def close(self) -> None:
        """Close the files."""
        os.close(self.descriptor)


def allocation(path: Path, *, zeros: bool = True) -> list[dict[str, Any]]:
    """What is where in the guest's disk, without the places in the file; `zeros`: and what is known to be zeros.

    Of an image that was allocated in advance the host's file system decides that.
    """
    pieces = json.loads(run("qemu-img", "map", "--output=json", "-f", "qcow2", path))
    merged: list[dict[str, Any]] = []
    for piece in pieces:
        for name in ("offset",) if zeros else ("offset", "zero", "data"):
            piece.pop(name, None)
        before = merged[-1] if merged else None
        if before is not None and {**before, "start": 0, "length": 0} == {**piece, "start": 0, "length": 0}:
            before["length"] += piece["length"]
        else:
            merged.append(piece)
    return merged


def operations(count: int, seed: int) -> str:
    """So many operations, on a new image each fifty."""
    done = images = 0
    with _folder() as folder:
        while done < count:
            pair = Pair(seed + images, folder)
            images += 1
            try:
                for number in range(min(50, count - done)):
                    pair.step()
                    if number % BATCH == BATCH - 1:
                        pair.compare()
                pair.compare()
            except Exception as error:
                raise Wrong(f"seed {pair.seed} ({pair.options}, {pair.size} bytes): {error}") from error
            finally:
                pair.close()
            done += 50
    return f"{min(done, count)} operations on {images} images"


# Kills

WRITER = """
import os, random, sys
from qmpd.block.images.qcow2.creation import Options, create
from qmpd.block.files import FileStorage
chosen = random.Random(int(sys.argv[2]))
storage = FileStorage(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT))
image = create(storage, Options(size=4 << 20, cluster_size=chosen.choice([512, 4096, 65536]), extended_l2=False))
sys.stdout.write("ready\\n")
sys.stdout.flush()
number = 0
while True:
    number += 1
    offset = chosen.randrange(8192) * 512
    length = min((4 << 20) - offset, chosen.choice([512, 65536]))
    if chosen.random() < 0.2:
        image.zero(offset, length)
        kind = 0
    else:
        kind = number % 255 + 1
        image.write(offset, bytes([kind]) * length)
    sys.stdout.write(f"{offset} {length} {kind}\\n")
    if number % 8 == 0:
        image.flush()
        sys.stdout.write("flushed\\n")
        sys.stdout.flush()
"""
_KILLED_SIZE = 4 << 20


def kill(seed: int, path: Path) -> int:
    """End a writer at a random moment; how many of its writes had been flushed.

    :raise Wrong: the image has more than leaks, or lacks one of them.
    """
    path.unlink(missing_ok=True)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.Random(seed).random() / 4)
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().decode()
    model, unsure = bytearray(_KILLED_SIZE), bytearray(_KILLED_SIZE)
    flushed = told.rpartition("flushed\n")[0].replace("flushed\n", "").splitlines()
    for line in flushed:
        offset, length, kind = map(int, line.split())
        model[offset : offset + length] = bytes([kind]) * length
    run("qemu-img", "check", "-r", "leaks", "-f", "qcow2", path, may_fail=True)
    run("qemu-img", "check", "-f", "qcow2", path)
    with path.open("rb") as file:
        content = Qcow2(FileStorage(os.dup(file.fileno())), read_only=True).read(0, _KILLED_SIZE)
    # What was written after the last flush that was told of may be there or not, and eight more that were not told.
    replay = random.Random(seed)
    replay.choice([512, 4096, 65536])
    for number in range(len(flushed) + 17):
        offset = replay.randrange(8192) * 512
        length = min(_KILLED_SIZE - offset, replay.choice([512, 65536]))
        replay.random()
        if number >= len(flushed):
            unsure[offset : offset + length] = b"\1" * length
    wrong = [place for place in range(0, _KILLED_SIZE, 512) if content[place] != model[place] and not unsure[place]]
    if wrong:
        raise Wrong(f"seed {seed}: what was flushed is not there: {wrong[:10]}")
    return len(flushed)


def kills(count: int, seed: int) -> str:
    """So many writers."""
    with _folder() as folder:
        written = [kill(seed + number, folder / "image.qcow2") for number in range(count)]
    return f"{count} writers were killed, {sum(written)} writes had been flushed"


# Hostile images


class Memory:
    """Bytes in memory (`qmpd.block.images.storage.Storage`), so many at most."""

    LARGEST = 8 << 20

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        """Read; zeros are behind the end."""
        return bytes(self.content[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write.

        :raise OSError: it would be too large.
        """
        if offset + len(data) > self.LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self.write(offset, bytes(length))

    def truncate(self, size: int) -> None:
        """Make it this long."""
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))

    def flush(self) -> None:
        """Nothing is to be done."""


def good_images() -> list[tuple[bytes, list[int]]]:
    """Images of several kinds, and the places of their tables."""
    found = []
    for options in (
        Options(size=1 << 20, cluster_size=4096),
        Options(size=1 << 20, cluster_size=65536, extended_l2=True),
        Options(size=1 << 20, cluster_size=512, version=2),
        Options(size=1 << 20, cluster_size=4096, refcount_bits=1, backing="base.img", backing_format="raw"),
    ):
        storage = Memory(b"")
        image = create(storage, options)
        for number in range(20):
            image.write(number * 40960, bytes([number + 1]) * 9000)
        if options.refcount_bits > 1:
            snapshots.take(image, "one", seconds=1)
        image.write(5000, b"y" * 5000)
        header = image.header
        tables = [0, 0, 72, header.l1_offset, header.refcount_offset, header.snapshots_offset]
        entry = int.from_bytes(storage.read(header.l1_offset, 8), "big") & layout.OFFSET
        block = int.from_bytes(storage.read(header.refcount_offset, 8), "big")
        found.append((bytes(storage.content), [*tables, entry, block]))
    return found


def hostile(count: int, seed: int) -> str:
    """So many damaged images."""
    chosen = random.Random(seed)
    images = good_images()
    before, slowest, refused = 0, 0.0, 0
    for number in range(count):
        good, tables = chosen.choice(images)
        content = bytearray(good)
        for _ in range(chosen.randrange(1, 4)):
            place = chosen.choice(tables) + chosen.randrange(120)
            width = chosen.choice([1, 4, 8])
            content[place : place + width] = chosen.choice([chosen.randbytes(width), b"\xff" * width, bytes(width)])
        opening, reading, was_refused = _use(bytes(content), read_only=chosen.choice([True, False]))
        refused += was_refused
        slowest = max(slowest, opening)
        if number == 200:
            before = _peak()
        if opening > OPENING or reading > READING or (before and _peak() - before > MEMORY):
            path = Path(tempfile.gettempdir()) / f"hostile-{seed}-{number}.qcow2"
            path.write_bytes(content)
            raise Wrong(f"{path}: {opening:.3f} s to open, {reading:.3f} s to read, {_peak() - before >> 20} MiB more")
    told = f"{count} damaged images, {refused} refused, at most {slowest * 1000:.0f} ms to open"
    return f"{told}, {max(0, _peak() - before) >> 20} MiB of memory"


def _use(content: bytes, *, read_only: bool) -> tuple[float, float, bool]:
    """Open, read and write an image; the seconds that both took, and whether it was refused."""
    begun = time.process_time()
    opened = begun
    refused = False
    try:
        image = Qcow2(Memory(content), read_only=read_only)
        snapshot_table.read_snapshots(image)
        opened = time.process_time()
        image.read(0, min(image.size, 1 << 20))
        if not image.read_only:
            image.write(0, b"z" * 5000)
            image.flush()
    except (ImageError, OSError):
        refused = True
    ended = time.process_time()
    if opened == begun:
        return ended - begun, 0.0, refused
    return opened - begun, ended - opened, refused


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qmpd-images-") as name:
        yield Path(name)


RUNS = {"operations": (operations, 10_000), "kills": (kills, 500), "hostile": (hostile, 100_000)}


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/images", description=__doc__)
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--count", type=int, help="10000 operations, 500 kills or 100000 images where it is not said")
    parser.add_argument("--seed", type=int, default=0, help="where chance begins; the same does the same again")
    given = parser.parse_args(arguments)
    act, usual = RUNS[given.run]
    begun = time.monotonic()
    try:
        said = act(usual if given.count is None else given.count, given.seed)
    except Wrong as wrong:
        print(wrong)
        return 1
    print(f"{said}, in {time.monotonic() - begun:.0f} s: nothing is wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
