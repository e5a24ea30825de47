"""Images for tests: in memory, in files, and what QEMU's own tools say of them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


LARGEST = 64 << 20


class MemoryStorage:
    """Bytes in memory (`qmpd.block.images.storage.Storage`)."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.content[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if offset + len(data) > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.write(offset, bytes(length))

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))

    def flush(self) -> None:
        pass


def qemu_img(*arguments: object, fails: bool = False) -> str:
    """Run qemu-img, which has to succeed unless told otherwise; its output."""
    ended = subprocess.run(["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert fails or ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def qemu_io(path: Path, *commands: str) -> str:
    """Run commands of qemu-io on an image; its output."""
    line = ["qemu-io", "-f", "qcow2", "-d", "unmap"]
    for command in commands:
        line += ["-c", command]
    ended = subprocess.run([*line, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def allocation(path: Path) -> list[dict[str, Any]]:
    """What is where in the guest's disk, without the places in the file."""
    pieces = json.loads(qemu_img("map", "--output=json", "-f", "qcow2", path))
    merged: list[dict[str, Any]] = []
    for piece in pieces:
        piece.pop("offset", None)
        before = merged[-1] if merged else None
        if before is not None and {**before, "start": 0, "length": 0} == {**piece, "start": 0, "length": 0}:
            before["length"] += piece["length"]
        else:
            merged.append(piece)
    return merged
