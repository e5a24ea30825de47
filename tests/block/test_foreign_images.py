"""Images of other programs' formats, made by the real qemu-img: their bytes, what is told of them, what is refused."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img, qemu_img_encrypts
from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory

pytest.importorskip("dissect.hypervisor", reason="the extra 'images' is not installed")
pytest.importorskip("cryptography", reason="the extra 'images' is not installed")
pytestmark = needs_qemu_img

SECRET = "abc 123"
SIZE = 3 << 20
# A name, the driver, the options of qemu-img, and the size of the clusters.
IMAGES: dict[str, tuple[str, tuple[str, ...], int | None]] = {
    "sparse": ("vmdk", (), 65536),
    "stream": ("vmdk", ("subformat=streamOptimized",), 65536),
    "growing": ("vdi", (), 1 << 20),
    "static": ("vdi", ("static=on",), 1 << 20),
    "dynamic": ("vpc", ("force_size=on",), 2 << 20),
    "fixed": ("vpc", ("subformat=fixed", "force_size=on"), None),
    "blocks": ("vhdx", (), 8 << 20),
    "whole": ("vhdx", ("subformat=fixed",), 8 << 20),
    "secret": ("luks", ("key-secret=s", "iter-time=10"), None),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    chance = random.Random(7)
    content = bytearray(SIZE)
    for _ in range(20):
        at = chance.randrange(SIZE - 5000)
        content[at : at + 5000] = chance.randbytes(5000)
    (folder / "raw").write_bytes(content)
    secret = base64.b64encode(SECRET.encode()).decode()
    for name, (driver, options, _) in IMAGES.items():
        given = [word for each in options for word in ("-o", each)]
        held = ["--object", f"secret,id=s,format=base64,data={secret}"] if driver == "luks" else []
        convert = qemu_img_encrypts if driver == "luks" else qemu_img
        convert("convert", *held, "-f", "raw", "-O", driver, *given, folder / "raw", folder / name)
    return folder


@pytest.fixture
def monitor(qmpd: VMFactory, tmp_path: Path) -> Any:
    words = ["-machine", "pc", "-object", f"secret,id=s,data={SECRET}", "-drive", "if=none,id=cd0"]
    vm = qmpd(command_line=[*words, "-device", "ide-cd,id=cd,drive=cd0"], guest="", clock="real")
    with closing(Monitor(vm.qmp_path)) as found:
        yield found


def node(images: Path, name: str, **more: object) -> dict[str, object]:
    driver = IMAGES[name][0]
    secret = {"key_secret": "s"} if driver == "luks" else {}
    file = {"driver": "file", "filename": str(images / name)}
    return {"driver": driver, "node_name": name, "read_only": True, "file": file, **secret, **more}


def test_their_bytes_are_those_that_qemu_img_has_written(images: Path, tmp_path: Path, monitor: Monitor) -> None:
    """Read by a real client of an export, and as what is behind an overlay."""
    address = {"type": "unix", "data": {"path": f"{tmp_path}/nbd"}}
    assert monitor("nbd-server-start", addr=address) == {"return": {}}
    for name in IMAGES:
        assert monitor("blockdev-add", **node(images, name)) == {"return": {}}
        assert monitor("block-export-add", type="nbd", id=name, node_name=name) == {"return": {}}
        url = f"nbd+unix:///{name}?socket={tmp_path}/nbd"
        words = ["qemu-img", "compare", "-f", "raw", "-F", "raw", url, str(images / "raw")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.stdout == "Images are identical.\n", (name, done)
    overlay = tmp_path / "overlay"
    qemu_img("create", "-q", "-f", "qcow2", "-b", str(images / "sparse"), "-F", "vmdk", str(overlay))
    file = {"driver": "file", "filename": str(overlay)}
    assert monitor("blockdev-add", driver="qcow2", node_name="top", file=file) == {"return": {}}
    assert "failed" not in monitor.human('qemu-io top "write -P 5 0 512"')
    assert monitor("block-export-add", type="nbd", id="top", node_name="top") == {"return": {}}
    raw = tmp_path / "raw"
    raw.write_bytes(b"\5" * 512 + (images / "raw").read_bytes()[512:])
    url = f"nbd+unix:///top?socket={tmp_path}/nbd"
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", url, str(raw)], check=True)


def test_what_is_told_of_them(images: Path, monitor: Monitor) -> None:
    for name, (driver, _, cluster) in IMAGES.items():
        assert monitor("blockdev-add", **node(images, name)) == {"return": {}}
        told = next(each for each in monitor("query-named-block-nodes")["return"] if each["node-name"] == name)
        image = told["image"]
        assert (told["drv"], image["format"], image["virtual-size"]) == (driver, driver, SIZE)
        assert image.get("cluster-size") == cluster
        assert told["encrypted"] is (driver == "luks")
        if driver == "vmdk":
            kind = "streamOptimized" if name == "stream" else "monolithicSparse"
            assert image["format-specific"]["data"]["create-type"] == kind
        elif driver == "luks":
            data = image["format-specific"]["data"]
            assert (data["cipher-alg"], data["cipher-mode"], data["ivgen-alg"]) == ("aes-256", "xts", "plain64")
            assert [each["active"] for each in data["slots"]] == [True] + [False] * 7
        assert monitor("blockdev-del", node_name=name) == {"return": {}}


def test_a_format_that_nobody_names_is_found(images: Path, monitor: Monitor) -> None:
    for name in ("sparse", "growing", "dynamic", "blocks"):
        driver = IMAGES[name][0]
        assert monitor.human(f"drive_add 0 if=none,id={name},readonly=on,file={images / name}") == "OK\n"
        assert f"{images / name} ({driver}, read-only)" in monitor.human("info block")
    new = {"filename": str(images / "growing"), "read_only_mode": "read-only"}
    assert monitor("blockdev-change-medium", id="cd", **new) == {"return": {}}
    assert f"{images / 'growing'} (vdi, read-only)" in monitor.human("info block")


def test_what_is_refused(images: Path, monitor: Monitor) -> None:
    def refused(name: str, **more: object) -> str:
        text: str = monitor("blockdev-add", **node(images, name, **more))["error"]["desc"]
        return text

    for name, (driver, _, _) in IMAGES.items():
        if driver == "luks":
            continue
        text = f"qmpd does not model writing to {driver} images; it reads those that are opened read-only"
        assert refused(name, read_only=False) == text
    line = f"drive_add 0 if=none,id=x,file={images / 'sparse'}"
    assert "qmpd does not model writing to vmdk images" in monitor.human(line)
    raw = {"driver": "file", "filename": str(images / "raw")}
    assert refused("sparse", file=raw) == "invalid VMDK image descriptor"
    assert refused("growing", file=raw).startswith("Image not in VDI format (bad signature ")
    assert refused("fixed", file=raw) == "invalid VPC image"
    assert refused("whole", file=raw) == f"Could not open '{images / 'raw'}': Invalid argument"
    assert refused("secret", file=raw) == "Volume is not in LUKS format"
    assert refused("secret", key_secret="nobody") == "No secret with id 'nobody'"
    assert monitor("object-add", qom_type="secret", id="wrong", data="wrong") == {"return": {}}
    assert refused("secret", key_secret="wrong") == "Invalid password, cannot unlock any keyslot"
    several = images / "flat"
    qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(several), "1M")
    text = "qmpd does not model vmdk images that are in several files"
    assert refused("sparse", file={"driver": "file", "filename": str(several)}) == text


def test_without_the_libraries(images: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("dissect", "cryptography"):
        for name in [each for each in sys.modules if each.partition(".")[0] == library]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)
    hint = "(the extra 'images': pip install qmpd[images])"
    for name, (driver, _, _) in IMAGES.items():
        reply = monitor("blockdev-add", **node(images, name))
        what = f"{driver} images without the libraries that read them"
        if driver == "luks":
            what = "encrypted images without the library that reads them"
        assert reply["error"]["desc"] == f"qmpd does not model {what} {hint}"


def test_bad_images_end_in_words(images: Path, tmp_path: Path, monitor: Monitor) -> None:
    """Whatever the libraries meet: the machine goes on, and says what is wrong."""
    chance = random.Random(3)
    for turn in range(40):
        name = chance.choice(["sparse", "stream", "growing", "dynamic", "blocks"])
        content = bytearray((images / name).read_bytes())
        for _ in range(4):
            content[chance.randrange(2048) if name != "blocks" else chance.choice((65536, 196608, 1 << 20)) +
                    chance.randrange(128)] = chance.choice((0, 1, 127, 255))  # fmt: skip
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        file = {"driver": "file", "filename": str(bad)}
        reply = monitor("blockdev-add", **node(images, name, file=file))
        if "error" not in reply:
            assert "error" not in monitor("human-monitor-command", command_line=f'qemu-io {name} "read 0 64k"'), turn
            assert monitor("blockdev-del", node_name=name) == {"return": {}}
        assert monitor("query-status")["return"]["status"] == "running"
