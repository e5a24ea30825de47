"""Plays recorded scenarios over a real socket to machines that are served in the test's own process.

The machines' clock stands still until it is advanced, and the test's tasks and the servers' take turns on one
event loop: so a step ends when its virtual time is over and nothing has been said for some passes of the loop,
without waiting for anything.  As the recorder's, a step lasts until the line has been quiet for a while.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio

from qmpd.cli import serve
from qmpd.machine import GuestSettings, VirtualClock
from qmpd.server.virtual_machine import VirtualMachine
from tests.golden import load
from tests.machine.player import ON_BOOT, STEP_LIMIT, quiet_of
from tests.machine.test_recordings import ENDLESS, MORE_RESETS

if TYPE_CHECKING:
    from collections.abc import Container

PATIENCE = 10.0
"""Seconds until a machine that should end by itself is ended."""
IDLE = 16
"""Passes of the event loop without a byte, after which a server has nothing more to say by itself."""
AT_ONCE = 24
"""How many scenarios are played at the same time."""
SHARED = ("protocol", "arguments", "queries")
"""The groups whose scenarios shared one process while they were recorded."""
PARTS = 8
"""Servers among which the scenarios of a shared group are dealt, each taking its own one after another."""

NOT_MODELLED = "qmpd does not model the command"
VOLATILE = [
    (re.compile(r'"timestamp": \{"seconds": \d+, "microseconds": \d+\}'), '"timestamp": T'),
    (re.compile(r'"(thread[-_]id)": \d{2,}'), r'"\1": N'),
    (re.compile(r"unix:/[^,\"]*\.sock"), "unix:PATH"),
]
"""What is true of one process only: the same text stands for every value of the same type."""


@dataclass
class Result:
    """How many scenarios and steps came back as recorded, and how the others differ."""

    scenarios: int = 0
    steps: int = 0
    scenarios_right: int = 0
    steps_right: int = 0
    differences: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    not_modelled: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        text = f"{self.scenarios_right} of {self.scenarios} scenarios, {self.steps_right} of {self.steps} steps"
        if self.left_out:
            text += f"; left out: {', '.join(self.left_out)}"
        if self.not_modelled:
            text += f"; commands not modelled: {', '.join(sorted(self.not_modelled))}"
        return text


def comparable(line: str) -> str:
    """The line with its volatile members made the same everywhere."""
    for pattern, replacement in VOLATILE:
        line = pattern.sub(replacement, line)
    return line


class Lines:
    """A client's connection, read by lines as latin-1 text."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.buffer = b""

    def send(self, text: str) -> None:
        try:
            self.socket.send(text.encode("latin-1"))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the machine has ended; what it said before is still there to be read

    async def take(self) -> list[str]:
        """The lines that come until the server has nothing more to say by itself."""
        quiet = 0
        while quiet < IDLE:
            await trio.lowlevel.checkpoint()
            quiet = 0 if self._receive() else quiet + 1
        *lines, self.buffer = self.buffer.split(b"\r\n")
        return [comparable(line.decode("latin-1")) for line in lines]

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except (BlockingIOError, ConnectionResetError):
            return False
        self.buffer += data
        return bool(data)


class Served:
    """A machine with the options of a scenario; `run` serves it until it ends or `end` is called."""

    def __init__(self, release: str, scenario: dict[str, Any], path: str) -> None:
        parsed = serve.parse(["--release", release, *scenario["options"], "-qmp", f"unix:{path},server=on,wait=off"])
        assert parsed is not None
        settings = parsed[0]
        resets = MORE_RESETS.get((release, scenario["scenario"]), 1)
        guest = scenario["guest"]
        guest_settings = (
            GuestSettings(operating_system=False, firmware_resets=(resets, resets))
            if guest is None
            else GuestSettings(on_boot=ON_BOOT[guest], firmware_resets=(resets, resets))
        )
        settings.machine = replace(settings.machine, guest=guest_settings)
        self.path = path
        self.clock = VirtualClock()
        self.vm = VirtualMachine(settings, self.clock)
        self.vm.listen()
        self.status: int | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self) -> None:
        try:
            with self._scope:
                self.status = await self.vm.run()
        finally:
            self._ended.set()

    async def connect(self) -> Lines:
        """A fresh session, past its greeting."""
        lines = Lines(self.path)
        while not await lines.take():
            pass
        return lines

    async def step(self, lines: Lines, text: str, quiet: int) -> list[str]:
        """Send, and let time pass until nothing has come for `quiet` nanoseconds; what came until then."""
        lines.send(text)
        came = await lines.take()
        now = self.clock.monotonic_nanoseconds()
        last, end = now, now + STEP_LIMIT
        while (until := min(last + quiet, end)) > now and not self._ended.is_set():
            deadline = self._next_deadline()
            then = until if deadline is None else max(now, min(deadline, until))
            self.clock.advance(then - now)
            now = then
            self.vm.loop.wake()
            more = await lines.take()
            if more:
                came += more
                last = now
            elif deadline is None or deadline > until:
                break
        return came

    def _next_deadline(self) -> int | None:
        return self.vm.system.machine.next_deadline()

    async def end(self, patience: float) -> int | None:
        """The exit status if the machine ends by itself in time; it is ended otherwise."""
        with trio.move_on_after(patience):
            await self._ended.wait()
        self._scope.cancel()
        await self._ended.wait()
        return self.status


async def play(release: str, group: str, left_out: Container[str] = ()) -> Result:
    """Play a group's scenarios but those named in `left_out`."""
    scenarios = [scenario for scenario in load(release, group) if scenario["scenario"] not in left_out]
    result = Result(
        scenarios=len(scenarios),
        steps=sum(len(scenario["steps"]) for scenario in scenarios),
        left_out=[scenario["scenario"] for scenario in load(release, group) if scenario["scenario"] in left_out],
    )
    if group in SHARED:
        same: dict[str, list[dict[str, Any]]] = {}
        for scenario in scenarios:
            same.setdefault(str(scenario["options"]), []).append(scenario)
        servers = [each[part::PARTS] for each in same.values() for part in range(PARTS) if each[part::PARTS]]
    else:
        servers = [[scenario] for scenario in scenarios]
    limiter = trio.CapacityLimiter(AT_ONCE)
    with tempfile.TemporaryDirectory(prefix="qmpd-") as folder:
        async with trio.open_nursery() as nursery:
            for number, server in enumerate(servers):
                path = os.path.join(folder, f"{number}.sock")
                nursery.start_soon(_play_on_one_server, release, group, server, path, result, limiter)
    return result


async def _play_on_one_server(
    release: str,
    group: str,
    scenarios: list[dict[str, Any]],
    path: str,
    result: Result,
    limiter: trio.CapacityLimiter,
) -> None:
    async with limiter, trio.open_nursery() as nursery:
        served = Served(release, scenarios[0], path)
        nursery.start_soon(served.run)
        for scenario in scenarios:
            await _play_steps(served, group, scenario, result)
        if group not in SHARED:
            expected = scenarios[0].get("exit")
            status = await served.end(PATIENCE if expected is not None else 0)
            if status != expected:
                result.differences.append(
                    f"{scenarios[0]['scenario']}: exit status {status}, while {expected} was recorded"
                )
        await served.end(0)


async def _play_steps(served: Served, group: str, scenario: dict[str, Any], result: Result) -> None:
    lines = await served.connect()
    right = 0
    played: list[list[str]] = []
    late: list[str] = []
    # A greeting that came late is among the lines of two runs of 5.2.
    recorded = [[comparable(line) for line in step["recv"] if '"QMP"' not in line] for step in scenario["steps"]]
    with lines.socket:
        for number, (step, wanted) in enumerate(zip(scenario["steps"], recorded, strict=True)):
            quiet = quiet_of(group, number, step["send"]) if group not in SHARED else 0
            came = await served.step(lines, step["send"], quiet)
            played.append(came)
            if group == "queries":
                # A reply that took longer than the recorder waited is among a later step's lines.
                late += came
                if not wanted:
                    right += 1
                    continue
                came, late = late, []
            if scenario["scenario"] in ENDLESS:
                # How often it comes round is up to the clock.
                came, wanted = _replies(came), _replies(wanted)
            if came == wanted:
                right += 1
            elif came and NOT_MODELLED in came[0]:
                result.not_modelled.add(json.loads(step["send"])["execute"])
            else:
                result.differences.append(
                    f"{scenario['scenario']}: step {number + 1}: {step['send'][:200]}\n"
                    f"  got  {_shown(came)}\n  want {_shown(wanted)}"
                )
    if scenario["scenario"] in ENDLESS:
        _compare_courses(scenario["scenario"], _course(played), _course(recorded), result)
    result.steps_right += right
    result.scenarios_right += right == len(scenario["steps"])


def _replies(lines: list[str]) -> list[str]:
    return [line for line in lines if '"event"' not in line]


def _course(steps: list[list[str]]) -> list[str]:
    """All events in their order, repeated ones taken as one."""
    course: list[str] = []
    for line in itertools.chain.from_iterable(steps):
        if '"event"' in line and course[-1:] != [line]:
            course.append(line)
    return course


def _compare_courses(name: str, came: list[str], wanted: list[str], result: Result) -> None:
    shorter = min(len(came), len(wanted))
    if shorter < 2 or came[:shorter] != wanted[:shorter]:
        result.differences.append(f"{name}: events\n  got  {_shown(came)}\n  want {_shown(wanted)}")


def _shown(lines: list[str]) -> str:
    return "\n       ".join(line if len(line) < 500 else line[:500] + "..." for line in lines) or "nothing"
