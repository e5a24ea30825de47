"""Empty images of the older formats: `qemu-img` finds no fault with them, and `qemu-io` writes into them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from qmpd.block.files import FileStorage
from qmpd.block.images.empty import EMPTY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-img and qemu-io are not installed")


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("size", [4 << 20, (3 << 30) + 3 * 512])
def test_an_empty_image_is_sound_and_takes_data(kind: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / f"image.{kind}"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    EMPTY[kind](FileStorage(descriptor), size, path.name)
    os.close(descriptor)
    told = subprocess.run(["qemu-img", "info", "-f", kind, str(path)], check=True, capture_output=True, text=True)
    assert f"({size} bytes)" in told.stdout
    words = ["qemu-io", "-f", kind, "-c", "write -P 5 1M 64k", "-c", "read -P 5 1M 64k", "-c", "read -P 0 2M 64k"]
    said = subprocess.run([*words, str(path)], check=True, capture_output=True, text=True)
    assert "verification failed" not in said.stdout
    checked = subprocess.run(["qemu-img", "check", "-f", kind, str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode in ({63} if kind == "qcow" else {0})
