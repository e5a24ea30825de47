"""Images that contradict themselves, under the drop-in program: what is told when, and what is left alone."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.block.images import needs_qemu_img, qemu_img
from tests.emulator.support import PROGRAM, QUIET, environment, run, running

if TYPE_CHECKING:
    from pathlib import Path

REFCOUNT_TABLE, L1_TABLE = 0x10000, 0x30000
LINES = '{{"execute":"qmp_capabilities"}}{{"execute":"human-monitor-command","arguments":{{"command-line":"{}"}}}}' \
    '{{"execute":"quit"}}'


def image(path: Path, place: int, entry: bytes) -> Path:
    """An image whose table says something else at a place."""
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(entry)
    return path


def outputs(line: str, *options: str) -> list[str]:
    """What the program prints, standard error with it, in its order, while it executes a line of qemu-io."""
    given = LINES.format(line.replace('"', '\\"'))
    done = subprocess.run(
        [*PROGRAM, *QUIET, "-qmp", "stdio", *options], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=30, check=False, env=environment(),
    )  # fmt: skip
    return done.stdout.splitlines()[2:-2]


@needs_qemu_img
def test_what_has_happened_is_told_before_qemu_io_prints(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2", REFCOUNT_TABLE, bytes(8))
    told, event, printed, reply = outputs('qemu-io n0 "write 0 512"', "-drive", f"if=none,node-name=n0,file={path}")
    message = "Preventing invalid write on metadata (overlaps with refcount table)"
    assert told == f"qcow2: Marking image as corrupt: {message}; further corruption events will be suppressed"
    data = json.loads(event)["data"]
    assert (data["msg"], data["offset"], data["size"], data["fatal"]) == (message, 65536, 65536, True)
    assert printed == "write failed: Input/output error"
    assert json.loads(reply) == {"return": ""}


@needs_qemu_img
def test_an_image_that_is_still_anothers_is_not_marked(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2", L1_TABLE, bytes((0, 0, 0, 0, 0x2A, 0x2A, 0x2A, 0x2A)))
    before = path.read_bytes()
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.filename={path}"
    told, event, *_ = outputs('qemu-io n0 "read 0 512"', "-blockdev", node, "-incoming", "defer")
    message = "L2 table offset 0x2a2a2a00 unaligned (L1 index: 0)"
    assert told == f"qcow2: Image is corrupt: {message}; further non-fatal corruption events will be suppressed"
    assert json.loads(event)["data"]["fatal"] is False
    assert path.read_bytes() == before


@needs_qemu_img
def test_a_machine_that_waits_for_another_shares_its_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    drive = ("-drive", f"if=none,id=d0,file={path}", "-device", "virtio-blk-pci,drive=d0")
    options = (*QUIET, *drive, "-monitor", "stdio")
    with running(*options, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        assert 'Failed to get "write" lock' in run(*options, text="quit\n").stderr
        assert run(*options, "-incoming", "defer", text="quit\n").stderr == ""
