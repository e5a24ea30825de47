"""How late a reply is while many jobs copy: a hundred in one VM, and one in each of a thousand."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.result import Aim, Row
from benchmark.servers import QMPD, LoadError, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.measures import Bench

LATE = 0.02
"""Seconds after which a reply is late."""
_SIZE, _SPEED = 1 << 30, 4 << 20
_PAUSE = 0.002
_ASKED = 50


class Monitor:
    """A client that waits for each reply."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 10
        while self._socket.connect_ex(path) and time.monotonic() < end:
            time.sleep(_PAUSE)
        self._file = self._socket.makefile("r")
        self._seen: set[str] = set()
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> float:
        """Execute a command; the seconds that it took."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        data = json.dumps({"execute": command, "arguments": given}).encode()
        begun = time.perf_counter()
        self._socket.sendall(data)
        while '"event": "' in (line := self._file.readline()):
            self._seen.add(json.loads(line)["event"])
        took = time.perf_counter() - begun
        if '"error": {' in line:
            raise LoadError(f"{command}: {line}")
        return took

    def has_seen(self, event: str) -> bool:
        """Whether an event of this name came before a reply."""
        return event in self._seen

    def begin(self, number: int) -> None:
        """Begin to copy from one node to another, slowly."""
        for name in ("s", "t"):
            self("blockdev-add", driver="null-co", node_name=f"{name}{number}", size=_SIZE)
        self("blockdev-mirror", job_id=f"j{number}", device=f"s{number}", target=f"t{number}", sync="full",
             speed=_SPEED)  # fmt: skip

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _asked(monitors: list[Monitor], seconds: float) -> list[float]:
    """Ask for the status again and again, one monitor after another; how long each reply took."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for monitor in monitors:
            found.append(monitor("query-status"))
            time.sleep(_PAUSE)
    return found


def _rows(name: str, rounds: list[list[float]]) -> Iterator[Row]:
    yield Row(f"{name}, worst reply", "ms", {QMPD: [max(each) for each in rounds]}, [Aim(LATE)])
    yield Row(f"{name}, p50", "ms", {QMPD: [sorted(each)[len(each) // 2] for each in rounds]})


def many_jobs(bench: Bench) -> Iterator[Row]:
    """Replies beside jobs."""
    scale = bench.scale
    jobs = min(100, scale.loop_vms)
    paths = [bench.path(), bench.path()]
    rounds = []
    with Server(bench.programs.qmp(QMPD, paths)):
        beginning, asking = (Monitor(path) for path in paths)
        for number in range(jobs):
            beginning.begin(number)
        for _ in range(scale.loops):
            rounds.append(_asked([asking], scale.loop_seconds))
            bench.step()
        beginning.close()
        asking.close()
    yield from _rows(f"{jobs} jobs in one VM", rounds)
    folder, count = bench.path(), scale.loop_vms
    rounds = []
    with Server(bench.programs.fleet(folder, count, "--no-control"), announced=True):
        monitors: list[Monitor] = []
        for path in sorted(Path(folder).glob("vm-*/qmp.sock")):
            monitor = Monitor(str(path))
            monitor.begin(0)
            if len(monitors) < _ASKED:
                monitors.append(monitor)
            else:
                monitor.close()
        for _ in range(scale.loops):
            rounds.append(_asked(monitors, scale.loop_seconds))
            bench.step()
        for monitor in monitors:
            monitor.close()
    yield from _rows(f"{count:,} VMs with a job each", rounds)
