"""QED images: qmpd writes them as real qemu-io does, byte for byte, and reads what that has written."""

from __future__ import annotations

import random
import struct
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qmpd.block.drivers.qed import QedContent
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qed import create
from tests.block.images import MemoryStorage, needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory

SIZE = 3 << 20


class Memory(MemoryStorage):
    """A file in memory, as what is in a node."""

    allocated = None

    def discard(self, offset: int, length: int) -> None: ...

    def close(self) -> None: ...

    def pieces(self, offset: int, length: int):  # type: ignore[no-untyped-def]
        yield length, True


def qemu_io(path: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    ended = subprocess.run(["qemu-io", "-f", "qed", *words, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_qemu_img
@pytest.mark.parametrize("seed", range(6))
def test_the_same_writes_make_the_same_file_as_with_qemu_io(tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed)
    behind = b"".join(bytes([number % 251]) * 512 for number in range((2 << 20) // 512))
    (tmp_path / "base").write_bytes(behind)
    cluster, table = numbers.choice([(4096, 2), (8192, 4), (65536, 4), (16384, 16)])
    has_base = numbers.random() < 0.6
    made = ["-b", tmp_path / "base", "-F", "raw"] if has_base else []
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qed", "-o", f"cluster_size={cluster},table_size={table}", *made, path, SIZE)
    ours = QedContent(Memory(path.read_bytes()), read_only=False)
    ours.set_backing(Memory(behind) if has_base else None)
    expected = bytearray((behind if has_base else b"").ljust(SIZE, b"\0"))
    commands = []
    for pattern in range(1, 14):
        offset = numbers.randrange(SIZE // 512) * 512
        length = min(numbers.choice([512, 4096, 20480, 65536, 200704]), SIZE - offset)
        if numbers.random() < 0.3:
            offset, length = offset // cluster * cluster, cluster
            ours.zero(offset, length)
            commands.append(f"write -z {offset} {length}")
            pattern = 0
        else:
            # One cluster's part a time: qemu-io has one table made for many.
            length = min(length, cluster - offset % cluster)
            ours.write(offset, bytes([pattern]) * length)
            commands.append(f"write -P {pattern} {offset} {length}")
        expected[offset : offset + length] = bytes([pattern]) * length
    qemu_io(path, *commands)
    assert isinstance(ours.file, Memory)
    assert ours.read(0, SIZE) == expected
    assert bytes(ours.file.content).rstrip(b"\0") == path.read_bytes().rstrip(b"\0")


@needs_qemu_img
def test_what_is_damaged_is_refused_or_mended(tmp_path: Path) -> None:
    storage = Memory()
    create(storage, SIZE, None, None)
    good = bytes(storage.content)
    for place, value, text in (
        (0, b"QFI\xfb", "Image not in QED format"), (4, b"\3", "QED cluster size is invalid"),
        (8, b"\3", "QED table size is invalid"), (16, b"\x80", "Unsupported QED features: 80"),
        (40, b"\1", "QED table offset is invalid"), (48, b"\1", "QED image size is invalid"),
    ):  # fmt: skip
        bad = Memory(good[:place] + value + good[place + len(value) :])
        with pytest.raises(ImageError, match=text):
            QedContent(bad, read_only=True)
    content = QedContent(storage, read_only=False)
    content.write(0, b"a" * 512)
    table = struct.unpack_from("<Q", storage.content, 65536)[0]
    struct.pack_into("<Q", storage.content, table + 8, 1 << 40)
    storage.content[16] |= 2
    with pytest.raises(OSError, match="Invalid argument"):
        QedContent(storage, read_only=True).read(65536, 512)
    mended = QedContent(storage, read_only=False)
    assert mended.read(0, 65536 * 2) == (b"a" * 512).ljust(65536 * 2, b"\0")
    (tmp_path / "image").write_bytes(storage.content.ljust(mended.image.end, b"\0"))
    assert "No errors" in qemu_img("check", "-f", "qed", tmp_path / "image")


@needs_qemu_img
def test_an_overlay_takes_writes_and_is_committed(qmpd: VMFactory, tmp_path: Path) -> None:
    base, over = tmp_path / "base", tmp_path / "over"
    qemu_img("create", "-q", "-f", "qcow2", base, "4M")
    vm = disk(qmpd, base)
    with closing(Monitor(vm.qmp_path)) as monitor:
        vm.guest.write("d0", offset=0, length=512, pattern="0x31")
        assert monitor(
            "blockdev-snapshot-sync", node_name="n0", snapshot_file=str(over), format="qed", snapshot_node_name="n1"
        ) == {"return": {}}
        vm.guest.write("d0", offset=512, length=512, pattern="0x32")
        image = monitor("query-block")["return"][0]["inserted"]["image"]
        assert (image["format"], image["backing-filename"], image["cluster-size"]) == ("qed", str(base), 65536)
        assert [vm.guest.read("d0", offset=place, length=512).pattern for place in (0, 512)] == [0x31, 0x32]
    vm.close()
    assert "No errors" in qemu_img("check", "-f", "qed", over)
    qemu_img("convert", "-f", "qed", "-O", "raw", over, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes().rstrip(b"\0") == b"1" * 512 + b"2" * 512
