"""Images for tests: in memory, in files, and what QEMU's own tools say of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from endurance.images import Memory

if TYPE_CHECKING:
    from pathlib import Path

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


class MemoryStorage(Memory):
    """Bytes in memory, more than damaged images are given."""

    LARGEST = 64 << 20


def qemu_img(*arguments: object, fails: bool = False) -> str:
    """Run qemu-img, which has to succeed unless told otherwise; its output."""
    ended = subprocess.run(["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert fails or ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def qemu_img_encrypts(*arguments: object) -> None:
    """Make an encrypted image with qemu-img, which measures how fast the computer is.

    Where the kernel counts a process's time in ticks, a third of the tries see none go by and fail with this text.
    """
    for _ in range(40):
        ended = subprocess.run(["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False)
        if "accurate CPU usage" not in ended.stderr:
            break
    assert ended.returncode == 0, ended.stdout + ended.stderr


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
