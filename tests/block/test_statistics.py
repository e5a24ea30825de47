"""What is told of the nodes below a drive, beside what real QEMU tells of the same ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.support import PROGRAM, environment

if TYPE_CHECKING:
    from pathlib import Path


REAL = shutil.which("qemu-system-x86_64")
NODES = {
    "throttle": '{"driver": "throttle", "throttle-group": "g", "file": %s}',
    "copy-on-read": '{"driver": "copy-on-read", "file": %s}',
    "blkdebug": '{"driver": "blkdebug", "image": %s}',
    "raw on blkdebug": '{"driver": "raw", "file": {"driver": "blkdebug", "image": %s}}',
    "blkverify": '{"driver": "blkverify", "raw": {"driver": "null-co", "size": 1048576}, "test": %s}',
    "quorum of one": '{"driver": "quorum", "vote-threshold": 1, "children": [%s]}',
    "quorum of two": '{"driver": "quorum", "vote-threshold": 1, "children": [%s, {"driver": "null-co", "size": 1048576}]}',  # noqa: E501
    "data file": '{"driver": "qcow2", "file": %s, "data-file": {"driver": "file", "filename": "data.raw"}}',
    "chain": '{"driver": "qcow2", "file": {"driver": "file", "filename": "top.qcow2"}}',
}
QUESTIONS: list[dict[str, Any]] = [
    {"execute": "query-blockstats"},
    {"execute": "query-block"},
    {"execute": "human-monitor-command", "arguments": {"command-line": "info block -v"}},
    {"execute": "human-monitor-command", "arguments": {"command-line": "info blockstats"}},
]
GENERATED = ("node-name", "wr_highest_offset", "actual-size", "disk size", "#block")


def shape(text: str) -> list[str]:
    """What is told, without names that are made by chance and sizes that the host's file system decides."""
    return [line for line in text.splitlines() if not any(name in line for name in GENERATED)]


@pytest.mark.skipif(REAL is None, reason="needs a real QEMU")
@pytest.mark.parametrize("kind", NODES)
def test_the_same_as_real_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        "-f raw a.raw 1M", "-f qcow2 -o data_file=data.raw d.qcow2 1M", "-f qcow2 -b a.raw -F raw mid.qcow2",
        "-f qcow2 -b mid.qcow2 -F qcow2 top.qcow2",
    ):  # fmt: skip
        subprocess.run(["qemu-img", "create", "-q", *words.split()], check=True)
    name = "d.qcow2" if kind == "data file" else "a.raw"
    node = json.loads(NODES[kind].replace("%s", json.dumps({"driver": "file", "filename": name}), 1))
    line = [
        "-nodefaults", "-object", "throttle-group,id=g", "-blockdev", json.dumps({**node, "node-name": "n"}),
        "-device", "virtio-blk-pci,drive=n,id=d",
    ]  # fmt: skip
    assert told(PROGRAM, line) == told([str(REAL)], line)


def told(program: list[str], line: list[str]) -> list[list[str]]:
    """What a program answers to the questions."""
    words = [*program, *line, "-S", "-display", "none", "-qmp", "stdio"]
    asked = [{"execute": "qmp_capabilities"}, *QUESTIONS, {"execute": "quit"}]
    ended = subprocess.run(
        words, input="".join(json.dumps(each) + "\n" for each in asked), capture_output=True, text=True, timeout=60,
        env=environment(), check=False,
    )  # fmt: skip
    replies = [json.loads(each) for each in ended.stdout.splitlines()]
    found = [answer(each) for each in replies if "return" in each]
    assert len(found) == len(asked), ended.stdout + ended.stderr
    return found


def answer(reply: dict[str, Any]) -> list[str]:
    """A reply as lines."""
    value = reply["return"]
    return shape(value if isinstance(value, str) else json.dumps(value, indent=1))
