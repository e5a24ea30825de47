"""What is written to a qcow2 image is in it, as QEMU's own tools see it, whatever happens to the image meanwhile."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from endurance import images

from qmpd.block.files import FileStorage
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import check, snapshot_table, snapshots
from qmpd.block.images.qcow2.creation import Options, create
from qmpd.block.images.qcow2.image import Qcow2
from qmpd.block.images.qcow2.refcounts import Block
from tests.block.images import MemoryStorage, needs_qemu_img, qemu_img

EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "10"))
OPERATIONS = 200
SECTOR = 512


class Sequence:
    """Random operations on one image, and a model of what is on the guest's disk."""

    def __init__(self, seed: int, storage: Any, below: bytes | None, *, comparable: bool = False) -> None:
        self.random = random.Random(seed)
        choose = self.random.choice
        version = 3 if comparable else choose([2, 3, 3, 3])
        bits = choose([9, 10, 12, 14, 16, 16, 17])
        extended = version == 3 and bits >= 14 and choose([True, False, False])
        size = choose([1 << 16, 1 << 20, 3 << 20, 8 << 20]) + SECTOR * self.random.randrange(40)
        self.below = below
        self.storage = storage
        self.version = version
        self.options = Options(
            size=size,
            version=version,
            cluster_size=1 << bits,
            refcount_bits=16 if version == 2 else choose([1, 2, 4, 8, 16, 16, 32, 64]),
            extended_l2=extended,
            backing=None if below is None else "base.raw",
            backing_format=None if below is None else "raw",
        )
        self.image = self._with_below(create(storage, self.options))
        self.model = bytearray(b"" if below is None else below[:size]).ljust(size, b"\0")
        self.kept: dict[str, tuple[snapshot_table.Snapshot, bytes]] = {}
        self.most = min(4, (1 << min(self.options.refcount_bits, 3)) - 3) if self.options.refcount_bits > 1 else 0

    def _with_below(self, image: Qcow2) -> Qcow2:
        if self.below is not None:
            content = self.below
            image.below = lambda offset, length: content[offset : offset + length].ljust(length, b"\0")
            image.below_size = len(content)
        return image

    def place(self) -> tuple[int, int]:
        offset = self.random.randrange(0, len(self.model)) // SECTOR * SECTOR
        length = self.random.choice([SECTOR, 4096, 65536, self.random.randrange(1, 64) * SECTOR, 1 << 20])
        return offset, min(len(self.model) - offset, length)

    def step(self) -> str:
        names = ["write"] * 8 + ["zero", "zero", "discard", "take", "go_back", "delete", "resize", "reopen", "read"]
        name = self.random.choice(names)
        getattr(self, name)(*self.place())
        return name

    def write(self, offset: int, length: int) -> None:
        data = (self.random.randbytes(16) * (length // 16 + 1))[:length]
        self.image.write(offset, data)
        self.model[offset : offset + length] = data

    def zero(self, offset: int, length: int) -> None:
        self.image.zero(offset, length, unmap=self.random.choice([True, False]))
        self.model[offset : offset + length] = bytes(length)

    def discard(self, offset: int, length: int) -> None:
        if self.version < 3:
            return
        self.image.discard(offset, length)
        size = self.options.cluster_size
        begin, end = -(-offset // size) * size, (offset + length) // size * size
        if offset + length == len(self.model):
            end = len(self.model)
        if end > begin:
            self.model[begin:end] = bytes(end - begin)

    def take(self, offset: int, length: int) -> None:
        if len(self.kept) < self.most:
            name = f"s{self.random.random()}"
            self.kept[name] = snapshots.take(self.image, name, seconds=1), bytes(self.model)

    def go_back(self, offset: int, length: int) -> None:
        if self.kept:
            snapshot, content = self.kept[self.random.choice(list(self.kept))]
            if self.version < 3 and len(content) != len(self.model):
                with pytest.raises(ImageError, match="Can't resize a v2 image which has snapshots"):
                    snapshots.go_back(self.image, snapshot)
                return
            snapshots.go_back(self.image, snapshot)
            self.model = bytearray(content)

    def delete(self, offset: int, length: int) -> None:
        if self.kept:
            snapshots.delete(self.image, self.kept.pop(self.random.choice(list(self.kept)))[0])

    def resize(self, offset: int, length: int) -> None:
        change = self.random.choice([-1, 1, 1]) * self.random.randrange(512)
        size = max(SECTOR, len(self.model) + change * SECTOR)
        if self.kept and self.version < 3:
            with pytest.raises(ImageError, match="Can't resize a v2 image which has snapshots"):
                self.image.resize(size)
            return
        old = len(self.model)
        shows = self.below is not None and len(self.below) > old
        if self.version < 3 and shows and size > -(-old // self.options.cluster_size) * self.options.cluster_size:
            with pytest.raises(ImageError, match="Failed to zero out new clusters: Operation not supported"):
                self.image.resize(size)
            return
        self.image.resize(size)
        if size < old:
            header, entries = self.image.header, self.image.mapping.l1_entries()
            assert all(index < header.needed_l1 for index, _ in entries), "tables of what was cut off stay"
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))
        if size > old:
            # The rest of the last cluster may have what was there when the disk was larger.
            rest = min(size, -(-old // self.options.cluster_size) * self.options.cluster_size)
            self.model[old:rest] = self.image.read(old, rest - old)

    def reopen(self, offset: int, length: int) -> None:
        self.image = self._with_below(Qcow2(self.storage, read_only=False))

    def read(self, offset: int, length: int) -> None:
        assert self.image.read(offset, length) == self.model[offset : offset + length]

    def finish(self) -> None:
        assert self.image.size == len(self.model)
        assert self.image.read(0, len(self.model)) == self.model
        assert check.check(self.image) == ([], [])


@needs_qemu_img
@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_random_operations(seed: int, tmp_path: Path) -> None:
    below = random.Random(seed).randbytes(4096) * 500 if seed % 3 == 0 else None
    if below is not None:
        (tmp_path / "base.raw").write_bytes(below)
    path = tmp_path / "image.qcow2"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        sequence = Sequence(seed, FileStorage(descriptor), below)
        for _ in range(OPERATIONS):
            sequence.step()
        sequence.finish()
        kept = [{"name": name, "id": each.identifier} for name, (each, _) in sequence.kept.items()]
    finally:
        os.close(descriptor)
    (tmp_path / "model.raw").write_bytes(sequence.model)
    qemu_img("check", "-f", "qcow2", path)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", path, tmp_path / "model.raw")
    for each in kept:
        # QEMU finds in the snapshot what was there.
        copy = tmp_path / "copy.qcow2"
        copy.write_bytes(path.read_bytes())
        content = sequence.kept[each["name"]][1]
        if sequence.version < 3 and len(content) != len(sequence.model):
            continue
        qemu_img("snapshot", "-a", each["name"], copy)
        (tmp_path / "kept.raw").write_bytes(content)
        qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, tmp_path / "kept.raw")


# 188 makes a disk with subclusters larger, over a backing file that is longer: its last cluster is zeros as a whole.
@needs_qemu_img
@pytest.mark.parametrize(("seed", "count"), [(12, 150), (188, 50)])
def test_the_same_as_qemu_io(seed: int, count: int) -> None:
    """The same operations by qemu-io on a copy: the same content, and the same allocation (`scripts/images`)."""
    images.operations(count, seed)


def test_a_long_list_of_snapshots_is_read_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header may tell of 65,536 snapshots where the file has none: reading that must not take long."""
    image = create(MemoryStorage(), Options(size=1 << 20))
    image.header.snapshots, image.header.snapshots_offset = 65536, 1 << 20
    lengths = []
    read = MemoryStorage.read

    def counted(storage: MemoryStorage, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read(storage, offset, length)

    monkeypatch.setattr(MemoryStorage, "read", counted)
    assert len(snapshot_table.read_snapshots(image)) == 65536
    assert len(lengths) < 100


@needs_qemu_img
def test_compressed_clusters_are_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a.raw").write_bytes(content)
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", tmp_path / "a.raw", tmp_path / "a.qcow2")
    image = Qcow2(MemoryStorage((tmp_path / "a.qcow2").read_bytes()), read_only=False)
    assert image.read(0, len(content)) == content
    image.write(100 * SECTOR, b"x" * SECTOR)
    assert (
        image.read(99 * SECTOR, 3 * SECTOR)
        == content[99 * SECTOR : 100 * SECTOR] + b"x" * SECTOR + content[101 * SECTOR : 102 * SECTOR]
    )
    assert check.check(image) == ([], [])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_room_is_found_alike_whatever_the_width_of_the_counts(bits: int) -> None:
    """Beside a plain search; and in large blocks as soon as in small ones."""
    order = bits.bit_length() - 1
    chosen = random.Random(bits)
    for _ in range(40):
        data = bytearray(chosen.choice([bytes(2048), b"\xff" * 2048, chosen.randbytes(2048)]))
        for _ in range(4):
            place, length = chosen.randrange(2048), chosen.randrange(600)
            data[place : place + length] = chosen.choice([bytes(length), b"\xff" * length])
        block = Block(bytes(data[:2048]).ljust(2048, b"\0"), order)
        counts = [block.get(index) for index in range(len(block))]
        assert list(block.counts()) == counts
        start, wanted = chosen.randrange(len(block)), chosen.choice([1, 3, 70, 5000])
        first = next((index for index in range(start, len(block)) if not counts[index]), len(block))
        end = next((index for index in range(first, len(block)) if counts[index]), len(block))
        assert block.free_run(start, wanted) == (first, min(wanted, end - first))
    large = Block(b"\xff" * 64 + bytes(2 << 20), order)
    begun = time.process_time()
    for _ in range(100):
        assert large.free_run(0, 5) == (64 * 8 // bits, 5)
    assert time.process_time() - begun < 0.5


@needs_qemu_img
@pytest.mark.parametrize("seed", range(3))
def test_a_writer_that_is_killed_leaves_leaks_at_most(seed: int, tmp_path: Path) -> None:
    images.kill(seed, tmp_path / "image.qcow2")


def test_hostile_images() -> None:
    """Damaged headers, tables and snapshot lists: an error or an answer, soon, and with little memory."""
    assert "800 damaged images" in images.hostile(800, 5)


def test_what_is_wrong_with_images_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The runs of `scripts/images` fail where they have to."""
    monkeypatch.setattr(images, "OPENING", -1.0)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(images.Wrong, match="to open"):
        images.hostile(3, 1)


@needs_qemu_img
def test_what_is_wrong_beside_qemu_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Qcow2, "discard", lambda *_, **__: None)
        with pytest.raises(images.Wrong, match="seed"):
            images.operations(1000, 2)
    with monkeypatch.context() as patch:
        patch.setattr(images, "WRITER", images.WRITER.replace("image.flush()", "pass").replace("bytes([kind])", "b'?'"))
        with pytest.raises(images.Wrong):
            images.kill(1, tmp_path / "killed.qcow2")
