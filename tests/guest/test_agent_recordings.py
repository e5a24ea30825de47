"""Everything that the real agents were asked is answered with their bytes; of what is the computer's own, the shape."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from qmpd.block.executor import AtOnce
from qmpd.guest.agent.agent import Agent
from qmpd.guest.agent.files import MemoryFiles
from qmpd.guest.agent.model import Disk
from qmpd.monitor.agent import AgentDialect
from qmpd.qapi import load_release
from tests.operations import RELEASES, load
from tests.operations.comparing import difference

OWN = frozenset({
    "guest-get-osinfo", "guest-get-host-name", "guest-get-fsinfo", "guest-network-get-interfaces",
    "guest-get-diskstats", "guest-get-cpustats", "guest-get-memory-blocks", "guest-get-load", "guest-network-get-route",
})  # fmt: skip
"""Commands whose replies tell of the computer that the recordings were made on."""
OPTIONAL = frozenset({
    "version", "version-id", "variant", "variant-id", "id", "name", "pretty-name", "ip-addresses", "statistics", "disk",
    "used-bytes", "total-bytes", "total-bytes-privileged",
})  # fmt: skip


class Facts:
    """The computer of the recordings, as far as replies tell of it; a look at the time takes 0.7 s."""

    processors = 2
    memory = 4 << 30
    cards = ("52:54:00:12:34:56",)
    disks = (Disk("vda", "virtio", address=(0, 2, 0), size=1 << 30),)

    def __init__(self) -> None:
        self.asleep = 0

    def now(self) -> int:
        return time.time_ns()

    def running(self) -> int:
        self.asleep += 700_000_000
        return self.asleep

    def shut_down(self, mode: str) -> None:
        raise AssertionError(mode)

    def suspend(self, *, to_disk: bool) -> None:
        raise AssertionError(to_disk)

    def set_clock(self, offset: int) -> None:
        raise AssertionError(offset)


def same_shape(ours: Any, theirs: Any) -> bool:
    """Whether values are of the same types, and objects have the same members in the same order."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        common = [name for name in theirs if name in ours]
        needed = {*theirs, *ours} - set(common)
        return (
            needed <= OPTIONAL
            and common == [name for name in ours if name in theirs]
            and all(same_shape(ours[name], theirs[name]) for name in common)
        )
    if isinstance(theirs, list) and isinstance(ours, list):
        return all(same_shape(each, theirs[0]) for each in ours) if theirs else True
    return type(ours) is type(theirs)


def values(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("release", RELEASES)
def test_recordings(release: str) -> None:
    face = load_release(release)
    for scenario in load(release, "agent"):
        blocked = frozenset(scenario["options"][0].partition("=")[2].split(","))
        files = MemoryFiles({"/@DIR@/t.txt": b"one\ntwo\nthree\n"})
        said: list[bytes] = []

        def say(reply: bytes, command: str, said: list[bytes] = said) -> None:
            said.append(reply)

        agent = Agent(face.agent, Facts(), files, blocked)
        dialect = AgentDialect(face, agent, AtOnce(), say)
        process = "0"
        for step in scenario["steps"]:
            dialect.receive(step["send"].replace("@PID@", process).encode("latin-1"))
            lines = b"".join(said).decode("latin-1").splitlines()
            said.clear()
            for line in lines:
                if '"pid": ' in line:
                    process = str(json.loads(line)["return"]["pid"])
            if not difference(step, lines):
                continue
            told = f"{scenario['scenario']}: {step['send']}: {lines}, and not {step['recv']}"
            assert scenario["scenario"] in OWN, told
            assert len(lines) == len(step["recv"]), told
            assert all(map(same_shape, values(lines), values(step["recv"]))), told
