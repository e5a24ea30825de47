"""Random verbs of random jobs: qmpd, under virtual time, and real QEMU 7.2 have to say the same.

What is held back by a limit of one byte a second stays where it is, so that nothing depends on the moment.  qmpd is
asked first; the real program then gets the time that it needs to say as much.  `QMPD_EXAMPLES` sets how many are tried.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmpd.machine import VirtualClock
from tests.operations.comparing import by_subject, plain
from tests.operations.player import Machine, play_step
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE = "7.2"
EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "6"))
PATIENCE, QUIET = 4.0, 0.06

pytestmark = pytest.mark.skipif(
    RELEASE not in programs() or shutil.which("qemu-io") is None,
    reason=f"QEMU {RELEASE}, or qemu-img and qemu-io, are not installed",
)

IDS = st.sampled_from(["j", "k"])
_STARTS: list[tuple[str, dict[str, Any]]] = [
    ("block-stream", {"device": "top", "speed": 1}),
    ("block-stream", {"device": "top", "base-node": "base", "speed": 1}),
    ("block-commit", {"device": "top", "top-node": "mid", "base-node": "base", "speed": 1}),
    ("block-commit", {"device": "top", "speed": 1}),
    ("block-commit", {"device": "top"}),
    ("blockdev-mirror", {"device": "s", "target": "t", "sync": "full", "speed": 1, "buf-size": 65536}),
    ("blockdev-mirror", {"device": "s", "target": "t", "sync": "full"}),
    ("blockdev-mirror", {"device": "s", "target": "t", "sync": "none"}),
    ("blockdev-create", {"options": {"driver": "file", "filename": "@DIR@/new", "size": 1048576}}),
]


@st.composite
def _start(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name, arguments = draw(st.sampled_from(_STARTS))
    given = {"job-id": draw(IDS), **arguments}
    if name != "blockdev-create":
        flags = draw(st.sampled_from([{}, {"auto-finalize": False}, {"auto-dismiss": False}]))
        given |= flags
    return name, given


@st.composite
def _verb(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    verb = draw(st.sampled_from(["pause", "resume", "cancel", "complete", "finalize", "dismiss", "set-speed", "force"]))
    name = draw(IDS)
    if verb == "set-speed":
        return "block-job-set-speed", {"device": name, "speed": draw(st.sampled_from([-1, 0, 1, 2]))}
    if verb == "force":
        return "block-job-cancel", {"device": name, "force": True}
    if draw(st.booleans()):
        return f"job-{verb}", {"id": name}
    return f"block-job-{verb}", {("id" if verb in ("finalize", "dismiss") else "device"): name}


_QUERIES: list[tuple[str, dict[str, Any]]] = [("query-jobs", {}), ("query-block-jobs", {})]
STEPS = st.builds(
    lambda first, rest: [first, *rest],
    _start(),
    st.lists(st.one_of(_verb(), _verb(), _start(), st.sampled_from(_QUERIES)), min_size=3, max_size=9),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for line in (
        "qemu-img create -q -f qcow2 base.qcow2 4M",
        "qemu-io -f qcow2 -c 'write -P 170 0 2M' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 4M",
        "qemu-io -f qcow2 -c 'write -P 187 1M 1M' mid.qcow2",
        "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 4M",
        "qemu-io -f qcow2 -c 'write -P 204 3M 64k' top.qcow2",
        "qemu-img create -q -f raw s.raw 4M",
        "qemu-io -f raw -c 'write -P 17 0 4M' s.raw",
        "qemu-img create -q -f raw t.raw 4M",
    ):
        subprocess.run(["sh", "-ec", line], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def _options(folder: str) -> list[str]:
    options = ["-machine", "none", "-display", "none", "-nodefaults"]
    for name, driver, more in (
        ("base", "qcow2", {}), ("mid", "qcow2", {"backing": "base"}), ("top", "qcow2", {"backing": "mid"}),
        ("s", "raw", {}), ("t", "raw", {}),
    ):  # fmt: skip
        file = {"driver": "file", "filename": f"{folder}/{name}.{driver}"}
        options += ["-blockdev", json.dumps({"driver": driver, "node-name": name, "file": file, **more})]
    return options


@contextmanager
def _folder(images: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="j") as outer:
        folder = os.path.join(outer, "f")
        shutil.copytree(images, folder)
        yield folder


def _lines(steps: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [json.dumps({"execute": name, "arguments": arguments}) for name, arguments in steps]


async def _ask_qmpd(images: Path, lines: list[str]) -> list[list[str]]:
    with _folder(images) as folder:
        machine = Machine(RELEASE, _options(folder), None, f"{folder}/qmp", folder, "", VirtualClock())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            client = await machine.client()
            with client.socket:
                await play_step(machine, client, {"send": '{"execute": "qmp_capabilities"}'})
                said = [await play_step(machine, client, {"send": line}) for line in lines]
            await machine.end(0)
    return said


class _Real:
    """A session with the real program."""

    def __init__(self, path: str, folder: str) -> None:
        self._folder = folder
        deadline = time.monotonic() + 20
        self._socket = socket.socket(socket.AF_UNIX)
        while self._socket.connect_ex(path):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self._buffer = b""

    def read(self, count: int) -> list[str]:
        """As many lines, and what else comes at once."""
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()) if len(found) < count else QUIET)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                return found
            if not data:
                return found
            *lines, self._buffer = (self._buffer + data).split(b"\r\n")
            found += [plain(line.decode("latin-1"), self._folder) for line in lines]

    def ask(self, line: str, count: int) -> list[str]:
        """Send a line; what comes of it."""
        self._socket.sendall(line.replace("@DIR@", self._folder).encode())
        return self.read(count)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def _ask_qemu(images: Path, lines: list[str], expected: list[list[str]]) -> list[list[str]]:
    with _folder(images) as folder:
        path = f"{folder}/qmp"
        argv = [*programs()[RELEASE], *_options(folder), "-qmp", f"unix:{path},server=on,wait=off"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            try:
                real = _Real(path, folder)
                real.read(1)
                real.ask('{"execute": "qmp_capabilities"}', 1)
                said = []
                for line, wanted in zip(lines, expected, strict=True):
                    said.append(real.ask(line, len(wanted)))
                    if by_subject(said[-1]) != by_subject(wanted):
                        break
                real.close()
            finally:
                process.kill()
    return said


@given(steps=STEPS)
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize="QMPD_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_random_verbs(images: Path, steps: list[tuple[str, dict[str, Any]]]) -> None:
    lines = _lines(steps)
    ours = trio.run(_ask_qmpd, images, lines)
    theirs = _ask_qemu(images, lines, ours)
    for line, mine, real in zip(lines, ours, theirs, strict=False):
        assert by_subject(mine) == by_subject(real), line
