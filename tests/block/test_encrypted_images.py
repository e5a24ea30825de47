"""Encrypted disks: what qmpd writes the real programs read, and the other way round."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img, qemu_img_encrypts
from tests.block.support import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.testing import VMFactory

pytest.importorskip("cryptography", reason="the extra 'images' is not installed")
pytestmark = needs_qemu_img

SECRET = "correct horse"
OBJECT = ("--object", f"secret,id=s,data={SECRET}")
KINDS = ("luks", "qcow2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Images of the real qemu-img, which takes seconds for each: never to be written to."""
    folder = tmp_path_factory.mktemp("encrypted")

    @cache
    def image(kind: str, *options: str) -> Path:
        path = folder / "-".join((kind, *options))
        _make(path, kind, *options)
        return path

    return image


def _make(path: Path, kind: str, *options: str) -> None:
    prefix = "" if kind == "luks" else "encrypt."
    given = [f"{prefix}key-secret=s", f"{prefix}iter-time=10", *(f"{prefix}{each}" for each in options)]
    if kind == "qcow2":
        given.append("encrypt.format=luks")
    qemu_img_encrypts("create", "-q", *OBJECT, "-f", kind, "-o", ",".join(given), path, "4M")


def real(path: Path, kind: str, *commands: str) -> str:
    """What the real qemu-io says to these commands."""
    key = "key-secret" if kind == "luks" else "encrypt.key-secret"
    words = [word for each in commands for word in ("-c", each)]
    image = f"driver={kind},file.filename={path},{key}=s"
    done = subprocess.run(
        ["qemu-io", *OBJECT, *words, "--image-opts", image], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture
def monitor(qmpd: VMFactory) -> Any:
    vm = qmpd(command_line=["-machine", "pc", "-object", f"secret,id=s,data={SECRET}"], guest="", clock="real")
    with closing(Monitor(vm.qmp_path)) as found:
        yield found


def add(monitor: Monitor, path: Path, kind: str, name: str = "n", key: str = "s", **more: object) -> dict[str, Any]:
    secret: dict[str, object] = (
        {"key_secret": key} if kind == "luks" else {"encrypt": {"format": "luks", "key-secret": key}}
    )
    file = {"driver": "file", "filename": str(path)}
    return monitor("blockdev-add", driver=kind, node_name=name, file=file, **secret, **more)


def io(monitor: Monitor, command: str, name: str = "n") -> str:
    return monitor.human(f'qemu-io {name} "{command}"')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [(), ("cipher-alg=aes-128", "cipher-mode=cbc", "ivgen-alg=essiv", "hash-alg=sha1")])
def test_both_read_what_the_other_has_written(
    kind: str, options: tuple[str, ...], tmp_path: Path, monitor: Monitor, capfd: pytest.CaptureFixture[str],
    made: Callable[..., Path],
) -> None:  # fmt: skip
    path = Path(shutil.copy(made(kind, *options), tmp_path / "disk"))
    assert "failed" not in real(path, kind, "write -P 0x11 0 3M")
    assert add(monitor, path, kind) == {"return": {}}
    io(monitor, "read -P 0x11 0 3M")
    io(monitor, "write -P 0x22 1536 1024")
    io(monitor, "write -P 0x33 2M 70k")
    io(monitor, "write -z 1M 128k")
    io(monitor, "flush")
    assert "failed" not in capfd.readouterr().out
    assert monitor("block_resize", node_name="n", size=8 << 20) == {"return": {}}
    assert monitor("blockdev-del", node_name="n") == {"return": {}}
    # None of it is there as it was written.
    content = path.read_bytes()
    assert all(bytes([pattern]) * 512 not in content for pattern in (0x11, 0x22, 0x33))
    said = real(
        path, kind, "read -P 0x11 0 1536", "read -P 0x22 1536 1024", "read -P 0x11 2560 1021k", "read -P 0 1M 128k",
        "read -P 0x33 2M 70k", "length",
    )  # fmt: skip
    assert "failed" not in said.lower()
    assert "8 MiB" in said
    if kind == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", *OBJECT, "--image-opts",
                        f"driver=qcow2,file.filename={path},encrypt.key-secret=s"], check=True)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_new_ones_are_what_qemu_img_makes(
    kind: str, tmp_path: Path, monitor: Monitor, made: Callable[..., Path]
) -> None:
    def described(path: Path) -> Any:
        told = json.loads(qemu_img("info", "--output", "json", "-f", kind, str(path)))["format-specific"]["data"]
        volume = told if kind == "luks" else told["encrypt"]
        for name in ("uuid", "master-key-iters"):
            volume.pop(name)
        volume["slots"][0].pop("iters")
        return told

    path = tmp_path / "new"
    path.touch()
    assert monitor("blockdev-add", driver="file", node_name="f", filename=str(path)) == {"return": {}}
    options: dict[str, object] = {"key-secret": "s", "iter-time": 10, "hash-alg": "sha512"}
    if kind == "qcow2":
        options = {"encrypt": {"format": "luks", **options}}
    job = {"driver": kind, "file": "f", "size": 4 << 20, **options}
    assert monitor("blockdev-create", job_id="j", options=job) == {"return": {}}
    assert "error" not in monitor.concluded()
    assert monitor("blockdev-del", node_name="f") == {"return": {}}
    assert "failed" not in real(path, kind, "write -P 0x44 0 4M", "read -P 0x44 0 4M")
    assert described(path) == described(made(kind, "hash-alg=sha512"))


def test_what_is_told_and_refused(tmp_path: Path, monitor: Monitor, made: Callable[..., Path]) -> None:
    disk, volume, plain = tmp_path / "disk", tmp_path / "volume", tmp_path / "plain"
    shutil.copy(made("qcow2"), disk)
    shutil.copy(made("luks"), volume)
    qemu_img("create", "-q", "-f", "qcow2", str(plain), "1M")
    assert monitor("object-add", qom_type="secret", id="wrong", data="wrong") == {"return": {}}

    def refused(**options: object) -> str:
        file = {"driver": "file", "filename": str(options.pop("path", disk))}
        text: str = monitor("blockdev-add", driver="qcow2", node_name="n", file=file, **options)["error"]["desc"]
        return text

    assert refused() == "Parameter 'encrypt.key-secret' is required for cipher"
    assert refused(encrypt={"format": "luks"}) == "Parameter 'encrypt.key-secret' is required for cipher"
    text = "Header reported 'luks' encryption format but options specify 'aes'"
    assert refused(encrypt={"format": "aes", "key-secret": "s"}) == text
    text = "No encryption in image header, but options specified format 'luks'"
    assert refused(path=plain, encrypt={"format": "luks", "key-secret": "s"}) == text
    for path, kind in ((disk, "qcow2"), (volume, "luks")):
        wrong = add(monitor, path, kind, key="wrong")["error"]["desc"]
        assert wrong == "Invalid password, cannot unlock any keyslot"
        assert add(monitor, path, kind, kind) == {"return": {}}
        assert f"({kind}, encrypted)" in monitor.human(f"info block {kind}")
        assert "    cipher alg: aes-256\n" in monitor.human(f"info block -v {kind}").replace("        ", "    ")
    told = next(each for each in monitor("query-named-block-nodes")["return"] if each["node-name"] == "qcow2")
    assert told["encrypted"]
    assert told["image"]["filename"].startswith('json:{"encrypt.key-secret": "s", ')
    options = {"driver": "qcow2", "encrypt": {"format": "luks", "state": "active", "new-secret": "wrong"}}
    reply = monitor("x-blockdev-amend", job_id="j", node_name="qcow2", options=options)
    assert reply["error"]["desc"] == "qmpd does not model changing the keys of encrypted images"
    # The volume's own size has nothing to do with the header's.
    assert monitor("block_resize", node_name="luks", size=1 << 20) == {"return": {}}
    assert "1 MiB" in monitor.human("info block -v luks")


def test_no_disk_is_as_large_as_that(tmp_path: Path, monitor: Monitor) -> None:
    """The tables of such a disk would be larger than the computer's memory: it is refused at once."""
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "1M")
    file = {"driver": "file", "filename": str(path)}
    assert monitor("blockdev-add", driver="qcow2", node_name="n", file=file) == {"return": {}}
    most = (1 << 63) - (1 << 30)
    for size, text in (
        (1 << 62, "Failed to grow the L1 table: File too large"),
        (most, "Failed to grow the L1 table: File too large"),
        (most + 512, f"offset({most + 512}) exceeds maximum({most})"),
    ):
        began = time.monotonic()
        assert monitor("block_resize", node_name="n", size=size)["error"]["desc"] == text
        for number in (size, (1 << 64) - 512):
            job = {"driver": "qcow2", "file": "n", "size": number}
            assert monitor("blockdev-create", job_id="j", options=job) == {"return": {}}
            why = text if number == size else "Image size cannot be negative"
            assert monitor.concluded()["error"] == f"Could not resize image: {why}"
            assert monitor("job-dismiss", id="j") == {"return": {}}
        assert time.monotonic() - began < 5
    assert monitor("query-named-block-nodes")["return"][0]["image"]["virtual-size"] == 1 << 20
