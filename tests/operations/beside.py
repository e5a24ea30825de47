"""Sequences of commands about disks, to qmpd and to real QEMU: both have to say the same.

`python -m tests.operations.beside -r RELEASE -k KIND -s SEED -n COUNT` tries many, and shows how they differ, each made
as short as it can be; the kind `names` (of nodes, `json:`) is tried only where it is told.  qmpd is asked first, under
virtual time; the real program then gets the time that it needs to say as much.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from qmpd.machine import VirtualClock
from tests.operations import RELEASES
from tests.operations.comparing import by_subject, plain
from tests.operations.drawing import Scenario
from tests.operations.player import Machine, innermost, play_step
from tests.operations.sequences import PREPARE, TOLD, drawn, spelled
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE, QUIET = 3.0, 0.06
# So many characters are shown of lines, from before the place on where two long ones differ.
_SHOWN, _AROUND = 400, 150
# What an image takes up, and when a snapshot was taken, is the file system's and the clock's.
_OWN = (
    # When tables are written is each program's own affair.
    (re.compile(r'"wr_highest_offset": \d+'), '"wr_highest_offset": N'),
    (re.compile(r'"actual-size": [1-9]\d*'), '"actual-size": N'),
    (re.compile(r"disk size: [1-9][\d.]* [KMG]?i?B"), "disk size: N"),
    (re.compile(r'"((?:rd|wr|flush|unmap|zone_append)_total_time_ns|idle_time_ns)": \d+'), r'"\1": N'),
    (re.compile(r"(total_time_ns|idle_time_ns)=\d+"), r"\1=N"),
    (re.compile(r'"(date-n?sec|vm-clock-n?sec|vm-state-size)": \d+'), r'"\1": N'),
)


@dataclass(frozen=True)
class Difference:
    """The lines that both have said to the step in which they differ, and its number."""

    number: int
    line: str
    ours: list[str]
    theirs: list[str]

    @property
    def kind(self) -> tuple[str, ...]:
        """What differences of one kind have in common: the command, and what was told of it."""
        command = json.loads(self.line)["execute"]
        told = {_told(line) for line in self.ours} ^ {_told(line) for line in self.theirs}
        return (command, *sorted(told))

    def __str__(self) -> str:
        start = 0
        if len(self.ours) == len(self.theirs) == 1:
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(self.ours[0], self.theirs[0], strict=False))
            start = max(0, sum(1 for _ in same) - _AROUND)
        pairs = zip(self.ours, self.theirs, strict=False)
        alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        shown = [f"  ({alike} lines alike)"] if alike else []
        for name, lines in (("qmpd", self.ours), ("QEMU", self.theirs)):
            for line, again in itertools.groupby(_two_by_two(lines[alike:] or ["nothing"])):
                count = len(list(again))
                shown.append(f"  {name}   {line[start : start + _SHOWN]}{f'  ({count} times)' if count > 1 else ''}")
        return "\n".join([self.line, *shown])


def _two_by_two(lines: list[str]) -> list[str]:
    """The lines; where a job pauses and goes on at once, both in one."""
    found: list[str] = []
    for line in lines:
        last = found[-1] if found else ""
        if last and line == last.replace('"paused"', '"running"').replace('"standby"', '"ready"') != last:
            found[-1] += " and back"
        else:
            found.append(line)
    return found


def _told(line: str) -> str:
    """A line without its names and numbers."""
    return re.sub(r"[-\w]*\d[-\w]*|'[^']*'", "_", line)[:120]


def plainly(line: str, folder: str) -> str:
    """A line with what is this run's own taken out."""
    line = plain(line, folder)
    for pattern, replacement in _OWN:
        line = pattern.sub(replacement, line)
    return line


@contextmanager
def prepared() -> Iterator[Path]:
    """A folder with the images that all sequences begin with."""
    with tempfile.TemporaryDirectory(prefix="i") as folder:
        for line in PREPARE:
            subprocess.run(["sh", "-ec", line], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder)


@contextmanager
def _copied(images: Path, root: str = "") -> Iterator[str]:
    """A copy of the images below `root`; its name as seen from there."""
    with tempfile.TemporaryDirectory(prefix="b", dir=f"{root}/tmp") as outer:
        shutil.copytree(images, f"{outer}/f")
        yield f"{outer}/f".removeprefix(root)


async def _ask_qmpd(images: Path, release: str, scenario: Scenario) -> list[list[str]]:
    with _copied(images) as folder:
        options = [each.replace("@DIR@", folder) for each in scenario.options]
        machine = Machine(release, options, None, f"{folder}/qmp", folder, "", VirtualClock())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            client = await machine.client()
            with client.socket:
                await play_step(machine, client, {"send": '{"execute": "qmp_capabilities"}'})
                said = [await play_step(machine, client, {"send": line}) for line in spelled(scenario.steps)]
            await machine.end(0)
        return [[plainly(line, folder) for line in lines] for lines in said]


class Session:
    """A session with the real program."""

    def __init__(self, path: str, folder: str) -> None:
        self._folder = folder
        deadline = time.monotonic() + 20
        self._socket = socket.socket(socket.AF_UNIX)
        while self._socket.connect_ex(path):
            assert time.monotonic() < deadline, "QEMU does not listen"
            time.sleep(0.005)
        self._buffer = b""
        self.is_open = True

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
            except ConnectionResetError:
                data = b""
            if not data:
                self.is_open = False
                return found
            *lines, self._buffer = (self._buffer + data).split(b"\r\n")
            found += [plainly(line.decode("latin-1"), self._folder) for line in lines]

    def ask(self, line: str, count: int) -> list[str]:
        """Send a line; what comes of it."""
        try:
            self._socket.sendall(line.replace("@DIR@", self._folder).encode())
        except OSError:
            self.is_open = False
            return []
        return self.read(count)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


@contextmanager
def _running(images: Path, release: str, scenario: Scenario) -> Iterator[tuple[subprocess.Popen[bytes], Session]]:
    command = programs()[release]
    root = command[1] if command[0] == "chroot" else ""
    with _copied(images, root) as folder:
        path = f"{folder}/qmp"
        options = [each.replace("@DIR@", folder) for each in scenario.options]
        argv = [*command, *options, "-qmp", f"unix:{path},server=on,wait=off"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:  # fmt: skip
            session = Session(root + path, folder)
            try:
                session.read(1)
                session.ask('{"execute": "qmp_capabilities"}', 1)
                yield process, session
            finally:
                session.close()
                process.kill()


def compare(images: Path, release: str, scenario: Scenario) -> Difference | None:
    """Where the two differ first; a real program that crashes, or hangs, is not followed."""
    return compare_all(images, {release: scenario})[release]


def compare_all(images: Path, scenarios: Mapping[str, Scenario]) -> dict[str, Difference | None]:
    """The same for scenarios of several releases: all real programs are asked at once, as they are mostly waited for.

    Nothing is started while qmpd is asked: a process that begins holds the locks of all images for a moment.
    """
    ours = {release: _said_by_qmpd(images, release, scenario) for release, scenario in scenarios.items()}
    with ThreadPoolExecutor(len(scenarios)) as pool:
        found = pool.map(lambda release: _compare(images, release, scenarios[release], ours[release]), scenarios)
        return dict(zip(scenarios, found, strict=True))


def _said_by_qmpd(images: Path, release: str, scenario: Scenario) -> list[list[str]] | Difference:
    try:
        return trio.run(_ask_qmpd, images, release, scenario)
    except Exception as error:
        return Difference(0, spelled(scenario.steps)[-1], [innermost(error)], [])


def _compare(
    images: Path, release: str, scenario: Scenario, ours: list[list[str]] | Difference
) -> Difference | None:
    if isinstance(ours, Difference):
        return ours
    with _running(images, release, scenario) as (process, session):
        for number, line in enumerate(spelled(scenario.steps)):
            wanted = ours[number]
            theirs = session.ask(line, len(wanted))
            if not session.is_open or (wanted and not theirs):
                # A program that ends itself takes its time for that.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                if process.returncode is not None and process.returncode < 0:
                    return None
            if by_subject(wanted) != by_subject(theirs):
                return Difference(number, line, wanted, theirs)
    return None


def shortened(images: Path, release: str, scenario: Scenario, found: Difference) -> tuple[Scenario, Difference]:
    """The sequence without the steps that its difference does not need."""
    steps = list(scenario.steps[: found.number + 1])
    at = len(steps) - 2
    while at >= 0:
        fewer = Scenario(scenario.options, [*steps[:at], *steps[at + 1 :]])
        again = compare(images, release, fewer)
        if again is not None and again.kind == found.kind:
            steps, found = list(fewer.steps[: again.number + 1]), again
        at = min(at, len(steps) - 1) - 1
    return Scenario(scenario.options, steps), found


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.operations.beside", description="Compare with real QEMU.")
    parser.add_argument("-r", "--release", choices=RELEASES, default="7.2", help="the release (7.2)")
    parser.add_argument("-k", "--kind", choices=TOLD, help="what the sequences are about (all)")
    parser.add_argument("-s", "--seed", type=int, default=1, help="where to begin (1)")
    parser.add_argument("-n", "--count", type=int, default=20, help="how many sequences are tried (20)")
    parser.add_argument("-t", "--seconds", type=float, default=60, help="for how long at most (60)")
    given = parser.parse_args()
    end, tried = time.monotonic() + given.seconds, 0
    found: set[tuple[str, ...]] = set()
    shown = sys.stdout
    # What qmpd itself prints stays out of what is shown.
    with prepared() as images, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        for seed in range(given.seed, given.seed + given.count):
            if time.monotonic() > end:
                break
            tried += 1
            kind, scenario = drawn(seed, given.kind)
            difference = compare(images, given.release, scenario)
            if difference is None or difference.kind in found:
                continue
            # A computer that is busy has real QEMU answer late.
            difference = compare(images, given.release, scenario)
            if difference is None or difference.kind in found:
                continue
            found.add(difference.kind)
            scenario, difference = shortened(images, given.release, scenario, difference)
            print(f"== {kind}, seed {seed}, {given.release}, {scenario.options[1]}", file=shown)
            print(f"   {' '.join(each for each in scenario.options if each.startswith('if='))}", file=shown)
            for line in spelled(scenario.steps)[:-1]:
                print(f"   {line}", file=shown)
            print(f"-> {difference}", file=shown, flush=True)
    print(f"{given.release}: {tried} sequences, {len(found)} kinds of differences")


if __name__ == "__main__":
    os.nice(5)
    _main()
