"""Images that `blockdev-create` makes of the older formats: `qemu-img` finds no fault, and `qemu-io` writes into them.

What is refused was asked of real QEMU, 5.2 to 11.1, which all say the same.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.block.images import needs_qemu_img

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory
    from tests.block.support import Monitor, Talk

MEBIBYTE = 1 << 20
# VHD has only sizes that cylinders, heads and sectors make up.
VHD = 17 * 4 * 512 * 100
CASES: list[tuple[str, dict[str, Any]]] = [
    ("qcow", {}), ("qcow", {"backing-file": "behind.raw"}), ("qed", {}), ("qed", {"cluster-size": 4096}),
    ("qed", {"table-size": 16, "backing-file": "behind.raw", "backing-fmt": "raw"}), ("parallels", {}),
    ("parallels", {"cluster-size": 65536}), ("vdi", {}), ("vdi", {"preallocation": "metadata"}), ("vhdx", {}),
    ("vhdx", {"subformat": "fixed"}), ("vhdx", {"subformat": "fixed", "block-state-zero": False}),
    ("vhdx", {"block-size": MEBIBYTE, "log-size": 3 * MEBIBYTE, "block-state-zero": False}), ("vpc", {}),
    ("vpc", {"subformat": "fixed"}), ("vpc", {"force-size": True}), ("vmdk", {}), ("vmdk", {"zeroed-grain": True}),
    ("vmdk", {"adapter-type": "lsilogic", "hwversion": "6"}), ("vmdk", {"subformat": "monolithicFlat"}),
    ("vmdk", {"subformat": "twoGbMaxExtentSparse"}), ("vmdk", {"backing-file": "behind.vmdk"}),
]  # fmt: skip


@pytest.fixture
def monitor(qmpd: VMFactory, talk: Talk) -> Monitor:
    return talk(qmpd(machine="none", release="11.1"))


def create(monitor: Monitor, folder: Path, options: dict[str, Any]) -> str | None:
    """Make an image in `image`, and extents beside it; why that has failed."""
    names = ["image", *options.get("extents", ())]
    for name in names:
        (folder / name).touch()
        added = monitor("blockdev-add", driver="file", node_name=name, filename=str(folder / name))
        assert added == {"return": {}}
    assert monitor("blockdev-create", job_id="j", options={"file": "image", **options}) == {"return": {}}
    job = monitor.concluded()
    monitor("job-dismiss", id="j")
    for name in names:
        monitor("blockdev-del", node_name=name)
    error: str | None = job.get("error")
    return error


def run(*words: object, cwd: Path, status: int = 0) -> str:
    ended = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout


@needs_qemu_img
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_an_empty_image_is_sound_and_takes_data(
    monitor: Monitor, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    run("qemu-img", "create", "-q", "-f", "raw", "behind.raw", "4M", cwd=tmp_path)
    run("qemu-img", "create", "-q", "-f", "vmdk", "behind.vmdk", "4M", cwd=tmp_path)
    size = VHD if kind == "vpc" else 4 * MEBIBYTE
    more = {"extents": ["extent"]} if options.get("subformat") in ("monolithicFlat", "twoGbMaxExtentSparse") else {}
    assert create(monitor, tmp_path, {"driver": kind, "size": size, **options, **more}) is None
    assert f"({size} bytes)" in run("qemu-img", "info", "-f", kind, "image", cwd=tmp_path)
    commands = ("read -P 0 0 1M", "write -P 5 1M 64k", "read -P 5 1M 64k", "read -P 0 2M 64k")
    said = run("qemu-io", "-f", kind, *(word for each in commands for word in ("-c", each)), "image", cwd=tmp_path)
    assert "verification failed" not in said
    if kind in ("qed", "parallels", "vdi", "vhdx") or (kind == "vmdk" and not more):
        assert "No errors were found" in run("qemu-img", "check", "-f", kind, "image", cwd=tmp_path)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qcow", {"size": 0}, "Image size is too small, cannot be zero length"),
    ("qcow", {"encrypt": {"format": "luks"}}, "Unsupported encryption format"),
    ("qcow", {"encrypt": {"format": "qcow"}}, "Parameter 'encrypt.key-secret' is required for cipher"),
    ("qed", {"size": 513}, "QED image size must be a non-zero multiple of cluster size and less than 70368744177664"
     " bytes"),
    ("qed", {"cluster-size": 1000}, "QED cluster size must be within range [4096, 67108864] and power of 2"),
    ("qed", {"table-size": 3}, "QED table size must be within range [1, 16] and power of 2"),
    ("parallels", {"size": 1 << 62}, "Image size is too large for this cluster size"),
    ("parallels", {"cluster-size": 0}, "Image size is too large for this cluster size"),
    ("parallels", {"cluster-size": 1000}, "Cluster size must be a multiple of 512 bytes"),
    ("parallels", {"cluster-size": 1 << 33}, "Cluster size is too large"),
    ("vdi", {"preallocation": "full"}, "Preallocation mode not supported for vdi"),
    ("vdi", {"size": 1 << 62},
     "Unsupported VDI image size (size is 0x4000000000000000, max supported is 0x1fffff8000000)"),
    ("vhdx", {"size": (64 << 40) + 1}, "Image size too large; max of 64TB"),
    ("vhdx", {"log-size": 1000}, "Log size must be a multiple of 1 MB"),
    ("vhdx", {"log-size": 1 << 32}, "Log size must be smaller than 4 GB"),
    ("vhdx", {"block-size": 3 * MEBIBYTE}, "Block size must be a power of two"),
    ("vhdx", {"block-size": 512 * MEBIBYTE}, "Block size must not exceed 268435456"),
    ("vpc", {}, "The requested image size cannot be represented in CHS geometry"),
    ("vpc", {"size": 2041 << 30, "force-size": True}, "Disk size is too large, max size is 2040 GiB"),
    ("vmdk", {"size": 513}, "Image size must be a multiple of 512 bytes"),
    ("vmdk", {"subformat": "monolithicFlat"}, "Extent [0] not specified"),
    ("vmdk", {"extents": ["extent"]}, "List of extents contains unused extents"),
    ("vmdk", {"subformat": "monolithicFlat", "zeroed-grain": True}, "Flat image can't enable zeroed grain"),
    ("vmdk", {"subformat": "monolithicFlat", "backing-file": "x"}, "Flat image can't have backing file"),
    ("vmdk", {"backing-file": "behind.raw"}, "Invalid backing file format: raw. Must be vmdk"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "why"), REFUSED)
def test_what_no_image_can_be_is_refused(
    monitor: Monitor, kind: str, options: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (tmp_path / "behind.raw").write_bytes(bytes(4096))
    assert create(monitor, tmp_path, {"driver": kind, "size": 4 * MEBIBYTE, **options}) == why


def test_only_descriptions_of_later_releases_name_tools(qmpd: VMFactory, talk: Talk, tmp_path: Path) -> None:
    for release in ("5.2", "7.2"):
        folder = tmp_path / release
        folder.mkdir()
        monitor = talk(qmpd(machine="none", release=release))
        options = {"driver": "vmdk", "size": MEBIBYTE, "subformat": "monolithicFlat", "extents": ["extent"]}
        assert create(monitor, folder, options) is None
        assert ('ddb.toolsVersion = "2147483647"' in (folder / "image").read_text()) is (release == "7.2")


_SIZES = st.one_of(st.sampled_from([0, 1, (1 << 63) - 512, 1 << 63, (1 << 64) - 512]), st.integers(0, 64 << 40))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["qcow", "qed", "parallels", "vdi", "vhdx", "vpc", "vmdk"]), size=_SIZES)
def test_no_size_ends_the_machine(monitor: Monitor, kind: str, size: int, tmp_path: Path) -> None:
    # What takes gigabytes of tables in QEMU does so here.
    size %= (1 << 40) if size < 1 << 62 else 1 << 64
    why = create(monitor, tmp_path, {"driver": kind, "size": size})
    with open(tmp_path / "image", "r+b") as file:
        head = file.read(8)
        file.truncate(0)
    assert (why is None) is bool(head)
    if kind == "vhdx" and why is None:
        assert head == b"vhdxfile"
    if kind == "qed" and why is None:
        assert struct.unpack("<4sI", head) == (b"QED\0", 65536)


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_files_of_more_than_63_bits_are_refused(monitor: Monitor, size: int, tmp_path: Path) -> None:
    def why(**options: object) -> str:
        monitor("blockdev-create", job_id="j", options={"filename": str(tmp_path / "new"), "size": size, **options})
        job = monitor.concluded()
        monitor("job-dismiss", id="j")
        return str(job["error"])

    assert why(driver="file") == "Could not resize file: Invalid argument"
    assert why(driver="file", preallocation="full") == "Cannot use preallocation for shrinking files"
    pytest.importorskip("cryptography", reason="the extra 'images' is not installed")
    monitor("object-add", qom_type="secret", id="s", data="abc")
    options = {"driver": "luks", "size": size, "key-secret": "s", "iter-time": 10}
    assert create(monitor, tmp_path, options) == "The requested file size is too large"
