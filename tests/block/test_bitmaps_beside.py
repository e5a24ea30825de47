"""Random sequences of bitmap commands, writes, transactions and backups: qmpd says what real QEMU says.

Both work on images of their own, which are opened anew on the way.  `QMPD_EXAMPLES` sets how many examples are tried.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qmpd.testing import start
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASE = "7.2"
EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "0")) or 8
B0 = {"node": "n", "name": "b0"}
# Both are undone, since the bitmap is there already; it was enabled before the first.
TWICE = [{"type": f"block-dirty-bitmap-{each}", "data": B0} for each in ("disable", "disable", "add")]
SIZE = 1 << 20
PATIENCE = 10.0

pytestmark = [
    needs_qemu_img,
    pytest.mark.skipif(RELEASE not in programs(), reason=f"no QEMU {RELEASE} here"),
]

Step = tuple[str, dict[str, Any]]

_NAMES = st.sampled_from(["b0", "b1", "b2"])
_OFFSETS = st.integers(0, SIZE // 512 - 1).map(lambda sector: sector * 512)
_GRANULARITIES = st.sampled_from([512, 4096, 65536, 1 << 20, 1000])


def _of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(members)


_ADD = st.fixed_dictionaries(
    {"node": st.just("n"), "name": _NAMES},
    optional={"granularity": _GRANULARITIES, "persistent": st.booleans(), "disabled": st.booleans()},
)
_NAMED = _of(node=st.just("n"), name=_NAMES)
_SOURCES = st.lists(_NAMES | _of(node=st.sampled_from(["n", "m"]), name=_NAMES), min_size=1, max_size=3)
_MERGE = _of(node=st.just("n"), target=_NAMES, bitmaps=_SOURCES)
_PLAIN = [st.tuples(st.just(f"block-dirty-bitmap-{verb}"), _NAMED) for verb in ("remove", "clear", "enable", "disable")]
_CHANGES: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("block-dirty-bitmap-add"), _ADD), *_PLAIN, st.tuples(st.just("block-dirty-bitmap-merge"), _MERGE)
]  # fmt: skip
# An action that is undone before it is prepared ends real QEMU where it enables a bitmap: none follows what may fail.
_ACTIONS = st.lists(st.one_of(*_CHANGES, st.tuples(st.just("abort"), st.just({}))), min_size=1, max_size=4).map(
    lambda steps: [{"type": kind, "data": data} for kind, data in steps if kind != "block-dirty-bitmap-enable"]
)
_BACKUP = st.fixed_dictionaries(
    {"sync": st.sampled_from(["full", "top", "incremental", "bitmap"])},
    optional={"bitmap": _NAMES, "bitmap-mode": st.sampled_from(["on-success", "never", "always"])},
)
_LINES = st.builds(
    lambda kind, offset, sectors: f"{kind} {offset} {min(sectors * 512, SIZE - offset)}",
    st.sampled_from(["write -P 7", "write -z", "discard"]), _OFFSETS, st.sampled_from([1, 8, 130]),
)  # fmt: skip
_STEPS = st.lists(
    st.one_of(
        *_CHANGES, st.tuples(st.just("qemu-io"), _of(line=_LINES)), st.tuples(st.just("qemu-io"), _of(line=_LINES)),
        st.tuples(st.just("transaction"), _of(actions=_ACTIONS)), st.tuples(st.just("backup"), _BACKUP),
        st.tuples(st.just("x-debug-block-dirty-bitmap-sha256"), _NAMED), st.tuples(st.just("reopen"), st.just({})),
        st.tuples(st.just("block_resize"), _of(size=st.sampled_from([SIZE // 2, SIZE, 2 * SIZE]))),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


class _Side:
    """A program that works on images of its own."""

    def __init__(self, monitor: Monitor, folder: Path) -> None:
        self._monitor = monitor
        self._folder = folder
        self._open()

    def _open(self) -> None:
        for name, kind in (("n", "qcow2"), ("m", "raw"), ("t", "raw")):
            file = {"driver": "file", "filename": str(self._folder / name)}
            opened = self._monitor("blockdev-add", driver=kind, node_name=name, discard="unmap", file=file)
            assert opened == {"return": {}}

    def play(self, step: Step) -> list[object]:
        """Take a step; what was said, and what the bitmaps are then."""
        name, given = step
        said: list[object] = []
        if name == "reopen":
            said += [self._monitor("blockdev-del", node_name=each) for each in "nmt"]
            self._open()
        elif name == "qemu-io":
            said.append(self._monitor.human(f'qemu-io n "{given["line"]}"'))
        elif name == "backup":
            said += self._back_up(given)
        elif name == "block_resize":
            said.append(self._monitor("block_resize", node_name="n", size=given["size"]))
        else:
            said.append(self._monitor(name, **given))
        return [*said, self.bitmaps()]

    def _back_up(self, given: dict[str, Any]) -> list[object]:
        self._monitor.events.clear()
        said = self._monitor("blockdev-backup", job_id="j", device="n", target="t", **given)
        deadline = time.monotonic() + PATIENCE
        while self._monitor("query-jobs")["return"]:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        events = [(event["event"], event["data"]) for event in self._monitor.events]
        return [said, events]

    def bitmaps(self) -> object:
        """What queries tell of the bitmaps, in the node and in its image."""
        nodes = self._monitor("query-named-block-nodes", flat=True)["return"]
        (node,) = [each for each in nodes if each["node-name"] == "n"]
        return [node.get("dirty-bitmaps"), node["image"]["format-specific"]["data"].get("bitmaps")]

    def end(self) -> None:
        """End it."""
        self._monitor("quit")
        self._monitor.close()


def _prepared(folder: Path) -> Path:
    folder.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", folder / "n", SIZE)
    for name in "mt":
        qemu_img("create", "-q", "-f", "raw", folder / name, SIZE)
    return folder


def _stored(folder: Path) -> object:
    assert "No errors" in qemu_img("check", folder / "n")
    described = json.loads(qemu_img("info", "--output=json", folder / "n"))
    return described["format-specific"]["data"].get("bitmaps")


def _connected(path: Path) -> Monitor:
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(str(path)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    return Monitor(str(path))


def _play_real(folder: Path, steps: list[Step]) -> Iterator[list[object]]:
    path = folder / "qmp.sock"
    line = [*programs()[RELEASE], "-machine", "none", "-display", "none", "-nodefaults"]
    with subprocess.Popen([*line, "-qmp", f"unix:{path},server=on,wait=off"]) as process:
        try:
            side = _Side(_connected(path), folder)
            for step in steps:
                yield side.play(step)
            side.end()
            process.wait(PATIENCE)
        finally:
            process.kill()
    yield [_stored(folder)]


def _play_qmpd(folder: Path, steps: list[Step]) -> Iterator[list[object]]:
    with start(command_line=["-machine", "none"], release=RELEASE) as vm:
        side = _Side(Monitor(vm.qmp_path), folder)
        for step in steps:
            yield side.play(step)
        side.end()
        vm.wait_until_ended()
    yield [_stored(folder)]


@example(steps=[("block-dirty-bitmap-add", B0), ("transaction", {"actions": TWICE})])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_STEPS)
def test_random_sequences_are_answered_as_real_qemu_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    real, ours = (_prepared(tmp_path_factory.mktemp("beside") / name) for name in ("real", "ours"))
    for number, (theirs, own) in enumerate(zip(_play_real(real, steps), _play_qmpd(ours, steps), strict=True)):
        assert own == theirs, f"after step {number}"
