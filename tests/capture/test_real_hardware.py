"""Taking the installed QEMU apart: what is shipped of its devices and backends comes out again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from qmpd.capture import folder
from qmpd.capture.client import Program
from qmpd.capture.hardware import devices_of
from qmpd.capture.hardware.backends import backend_lines
from qmpd.capture.hardware.notation import Shapes
from qmpd.capture.hardware.texts import texts
from qmpd.capture.reference import NO_MACHINE, OPTIONS
from qmpd.cli.main import main
from qmpd.qapi import load_release
from qmpd.qapi.hardware import FILE, Hardware
from tests.real_qemu import programs

RELEASE = "7.2"
# One that is plugged in, one with a part, one that has to be there from the start, one that nobody may add.
DEVICES = frozenset({"e1000", "virtio-balloon-pci", "pvpanic", "PIIX4_PM"})


@pytest.fixture(scope="module")
def program() -> str:
    """The command line that starts QEMU 7.2, the build that was captured."""
    if RELEASE not in programs():
        pytest.skip(f"no QEMU {RELEASE} here")
    command = shlex.join(programs()[RELEASE])
    with Program(command, OPTIONS[NO_MACHINE]) as running:
        package = running.client.greeting["version"]["package"]
    if package != load_release(RELEASE).package:
        pytest.skip(f"the QEMU here is another build: {package}")
    return command


def whole(hardware: Hardware, kind: str, name: str) -> dict[str, Any]:
    """What there is of this kind and name, with the shapes in place of their numbers."""

    def node(captured: list[Any] | None) -> list[Any] | None:
        if captured is None:
            return None
        return [hardware.shape(captured[0]), captured[1], [node(child) for child in captured[2]]]

    found = hardware.find(kind, name)
    assert found is not None
    return {**found, "tree": node(found["tree"])} if "tree" in found else found


def compare(lines: Iterable[bytes], shapes: Shapes) -> list[str]:
    """Compare lines with what is shipped; gives the names."""
    lines = list(lines)
    ours, shipped = Hardware([*shapes.lines(), *lines]), load_release(RELEASE).hardware
    names = []
    for line in lines:
        kind, name, _ = line.split(b" ", 2)
        assert whole(ours, kind.decode(), name.decode()) == whole(shipped, kind.decode(), name.decode())
        names.append(name.decode())
    return names


def test_devices_come_out_as_shipped(program: str) -> None:
    shapes = Shapes()
    names = compare(devices_of(program, shapes, pytest.fail).lines(DEVICES), shapes)
    assert names == [*sorted(DEVICES), "e1000-82540em", "virtio-balloon"]


def test_backends_and_texts_come_out_as_shipped(program: str) -> None:
    shapes = Shapes()
    names = compare(backend_lines(program, shapes, pytest.fail), shapes)
    assert {"iothread", "memory-backend-ram", "chardev-socket", "null-co"} <= set(names)
    assert texts(program, pytest.fail) == load_release(RELEASE).hardware.texts


def test_hardware_is_an_option_of_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The option reaches the capture, and is refused where nothing may be taken apart."""
    asked: list[bool] = []

    def capture(*_: object, with_hardware: bool) -> list[str]:
        asked.append(with_hardware)
        return []

    monkeypatch.setattr(folder, "capture", capture)
    words = ["capture", "--qemu", "qemu-system-x86_64", "-o", str(tmp_path)]
    assert main(words) == main([*words, "--hardware"]) == 0
    assert asked == [False, True]
    assert main(["capture", "--socket", "x", "-o", "y", "--hardware"]) == 1
    assert "--hardware needs --qemu" in capfd.readouterr().err


def test_a_release_without_hardware_says_how_to_get_it(tmp_path: Path) -> None:
    from tests.objects.support import InProcess

    source = load_release(RELEASE).directory
    for path in source.iterdir():
        if path.name != FILE:
            (tmp_path / path.name).symlink_to(path)
    vm = InProcess(str(tmp_path))
    (refused,) = vm.said("device_add", driver="e1000")
    assert b"qmpd capture --hardware finds out" in refused
    # Its objects are still those of the reference machine.
    assert vm.said("qom-list", path="/objects") == InProcess(RELEASE).said("qom-list", path="/objects")
    assert vm.said("query-block") == [b'{"return": []}']
    assert vm.said("netdev_add", type="user", id="net") == [b'{"return": {}}']


def test_the_file_is_written_when_asked_for(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is slow is left out here: only the file of hardware and what says whose it is are made."""
    for slow in ("object_types", "answers", "cpu_models", "object_tree", "command_line"):
        monkeypatch.setattr(folder, slow, lambda *_: [])
    monkeypatch.setattr(folder, "measure", lambda *_: {})
    face = folder._Face(program, pytest.fail)
    monkeypatch.setattr(folder, "_Face", lambda *_: face)
    monkeypatch.setattr(folder, "hardware", lambda *_: [b"machine none {}"])
    said: list[str] = []

    def capture(*, with_hardware: bool) -> list[str]:
        said.clear()
        return folder.capture(program, tmp_path, lambda _: None, said.append, with_hardware=with_hardware)

    assert FILE not in capture(with_hardware=False)
    assert any("--hardware" in line for line in said)
    assert FILE in capture(with_hardware=True)
    assert FILE not in capture(with_hardware=False)
    assert not any("--hardware" in line for line in said)
    assert load_release(str(tmp_path)).hardware.find("machine", "none") == {}
    version = orjson.loads((tmp_path / "release.json").read_bytes())
    (tmp_path / "release.json").write_bytes(orjson.dumps({**version, "package": "another"}))
    assert FILE not in capture(with_hardware=False)
    assert any("of another program" in line for line in said)
