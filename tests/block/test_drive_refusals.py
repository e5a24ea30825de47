"""What `-drive` says of nodes reaches them or is refused, in QEMU's words (asked of release 7.2)."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from qmpd.testing import StartError
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory

CACHES = "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
REFUSED = (
    ("driver=file", "The 'file' block driver requires a file name"),
    ("file.driver=file,file.filename=", "The 'file' block driver requires a file name"),
    ("file={},file.unknown_opt=on", "Block protocol 'file' doesn't support the option 'unknown_opt'"),
    ("file={},unknown.of=on", "Block format 'qcow2' does not support the option 'unknown.of'"),
    ("file={},driver=raw,backing.file.filename=x", "Driver doesn't support backing files"),
    ("file={},file.backing.driver=qcow2", "Driver doesn't support backing files"),
    ("file.filename=foo:bar", "Could not open 'foo:bar': No such file or directory"),
    ("file={},lazy-refcounts=42", "Parameter 'lazy-refcounts' expects 'on' or 'off'"),
    ("file={}.2,lazy-refcounts=on", "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"),
    ("file={},cache-size=1M,l2-cache-size=2M", "l2-cache-size may not exceed cache-size"),
    ("file={},cache-size=1M,l2-cache-size=1M,refcount-cache-size=1M", CACHES),
    ("file={},l2-cache-entry-size=3k", "L2 cache entry size must be a power of two between 512 and the cluster size"),
    ("file={},data-file.driver=null-co", "'data-file' can only be set for images with an external data file"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", f"{path}.2", "1M")
    return path


@needs_qemu_img
@pytest.mark.parametrize(("given", "text"), REFUSED)
def test_what_is_refused(qmpd: VMFactory, path: Path, given: str, text: str) -> None:
    with pytest.raises(StartError) as raised:
        qmpd(command_line=["-drive", f"if=none,{given.format(path)}"])
    assert text in str(raised.value)


@needs_qemu_img
def test_what_is_behind_keeps_what_its_image_says_where_only_its_name_is_told(qmpd: VMFactory, path: Path) -> None:
    top = path.with_name("top.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", top], check=True)
    vm = qmpd(command_line=["-drive", f"if=none,id=d0,file={top},backing.node-name=mid"])
    monitor = Monitor(vm.qmp_path)
    assert monitor.human("info block mid").splitlines()[0].strip() in ("", f"mid: {path} (qcow2, read-only)")
    assert f"Backing file:     {path} (chain depth: 1)" in monitor.human("info block d0")
    monitor.close()
