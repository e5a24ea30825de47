"""Plays recordings of long operations to a machine in the test's own process, under virtual time.

A step ends as the recorder's did: once the reply and the event that it waits for have come and nothing more was said
for a while.  The clock goes on from one moment at which something is due to the next, so nothing is waited for.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.refusals import Refusal
from qmpd.emulator import program
from qmpd.emulator.complaints import Complaints
from qmpd.machine import GuestSettings, VirtualClock
from qmpd.qapi import load_release
from qmpd.server.virtual_machine import VirtualMachine
from tests.machine.player import ON_BOOT
from tests.operations import load
from tests.operations.comparing import difference, plain
from tests.player import Lines, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container

MILLISECOND = 1_000_000
QUIET = 60 * MILLISECOND
STEP = 4_000 * MILLISECOND
POLL = 20 * MILLISECOND
LINGER = 150 * MILLISECOND
AT_ONCE = 8


@dataclass
class Result:
    """How many scenarios and steps came back as recorded, and how the others differ."""

    scenarios: int = 0
    steps: int = 0
    scenarios_right: int = 0
    steps_right: int = 0
    differences: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.scenarios_right} of {self.scenarios} scenarios, {self.steps_right} of {self.steps} steps"


class Client(Lines):
    """A client whose lines are what a recording has."""

    def __init__(self, path: str, folder: str, port: str) -> None:
        super().__init__(path)
        self._folder = folder
        self._port = port

    def send_with(self, text: str, descriptor: int) -> None:
        """Send a message and a file descriptor with it."""
        socket.send_fds(self.socket, [text.encode("latin-1")], [descriptor])

    async def take(self) -> list[str]:
        quiet = 0
        while quiet < 16:
            await trio.lowlevel.checkpoint()
            quiet = 0 if self._receive() else quiet + 1
        *lines, self.buffer = self.buffer.split(b"\r\n")
        return [plain(line.decode("latin-1"), self._folder, self._port) for line in lines]


class Machine(Served):
    """A machine with a scenario's options, in a folder of its own."""

    def __init__(self, release: str, options: list[str], guest: str | None, path: str, folder: str, port: str) -> None:
        if guest is not None:
            options = [*options, "-drive", f"file={folder}/guest.img,format=raw,snapshot=on"]
        self.complaints = Complaints("qemu-system-x86_64")
        _, start = program.read(
            load_release(release), [*options, "-qmp", f"unix:{path},server=on,wait=off"], self.complaints
        )
        settings = program.make_machine(start)
        settings.release = release
        guest_settings = (
            GuestSettings(operating_system=False) if guest is None else GuestSettings(on_boot=ON_BOOT[guest])
        )
        settings.machine = replace(settings.machine, guest=guest_settings)
        self.path = path
        self.folder = folder
        self.port = port
        self.clock = VirtualClock()
        self.vm = VirtualMachine(settings, self.clock, inventory=start.inventory)
        self.vm.listen()
        self.status: int | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def client(self) -> Client:
        """A fresh session, past its greeting."""
        client = Client(self.path, self.folder, self.port)
        while not self._ended.is_set() and not await client.take():
            pass
        return client

    async def _take(self, client: Client) -> list[str]:
        """What came, once the disks have done what was asked of them: that takes the computer's time alone."""
        came = await client.take()
        if self.vm.system.built is not None and not self._ended.is_set():
            self.vm.system.disks.executor.settle()
            came += await client.take()
        return came

    async def go(self, client: Client, done: Callable[[list[str]], bool], quiet: int, limit: int) -> list[str]:
        """Let time pass until `done` and nothing has come for `quiet` nanoseconds, or for `limit`; what came."""
        came = await self._take(client)
        now = self.clock.monotonic_nanoseconds()
        last, end = now, now + limit
        while not self._ended.is_set():
            until = min(last + quiet, end) if done(came) else end
            if until <= now:
                break
            deadline = self._next_deadline()
            then = until if deadline is None else max(now, min(deadline, until))
            self.clock.advance(then - now)
            now = then
            self.vm.loop.wake()
            more = await self._take(client)
            if more:
                came += more
                last = now
        return came


def _is_reply(line: str) -> bool:
    return '"event": "' not in line and ('"return"' in line or '"error"' in line)


def _matches(line: str, until: str) -> bool:
    name, _, value = until.partition("/")
    return f'"event": "{name}"' in line and (not value or f'": "{value}"' in line)


class _Prepared:
    """The folders that scenarios begin with; made once each, then copied."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._made: dict[str, str] = {}
        self._lock = trio.Lock()

    async def copy(self, lines: list[str], target: str) -> None:
        text = "\n".join(lines)
        async with self._lock:
            made = self._made.get(text)
            if made is None:
                made = self._made[text] = os.path.join(self._folder, f"prepared{len(self._made)}")
                os.mkdir(made)
                await trio.run_process(["sh", "-e", "-c", text], cwd=made, stdout=subprocess.DEVNULL)
        # Holes stay holes, as in the recorder's copies: some replies tell what a file takes up.
        await trio.run_process(["cp", "-r", "--sparse=always", made, target])


def _crashed(scenario: dict[str, Any]) -> bool:
    """Whether real QEMU ended by a signal, which qmpd does not imitate."""
    return bool(scenario.get("exit", 0) < 0)


def _comparable(scenario: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that real QEMU has answered: all, or those before it crashed."""
    steps: list[dict[str, Any]] = scenario["steps"]
    if not _crashed(scenario):
        return steps
    return list(itertools.takewhile(lambda step: step["recv"], steps))


def needs_images(scenario: dict[str, Any]) -> bool:
    """Whether the host's qemu-img and qemu-io prepare a scenario."""
    return any("qemu-" in line for line in scenario.get("prepare", []))


async def play(
    release: str, group: str, left_out: Container[str] = (), wanted: Callable[[dict[str, Any]], bool] | None = None
) -> Result:
    """Play a group's scenarios but those named in `left_out`; with `wanted`, those alone."""
    scenarios = [
        each
        for each in load(release, group)
        if each["scenario"] not in left_out and "peer" not in each and (wanted is None or wanted(each))
    ]
    result = Result(len(scenarios), sum(len(_comparable(each)) for each in scenarios))
    limiter = trio.CapacityLimiter(AT_ONCE)
    # Short, as the recorder's: the length of a path shows in some lines.
    with tempfile.TemporaryDirectory(prefix="o") as folder:
        prepared = _Prepared(folder)
        async with trio.open_nursery() as nursery:
            for number, scenario in enumerate(scenarios):
                own = os.path.join(folder, str(number))
                nursery.start_soon(_play_one, release, scenario, own, prepared, result, limiter)
    return result


@asynccontextmanager
async def _served(release: str, scenario: dict[str, Any], folder: str) -> AsyncIterator[Machine]:
    port = str(20_000 + int(os.path.basename(folder)) % 10_000)
    options = [each.replace("@DIR@", folder).replace("@PORT@", port) for each in scenario["options"]]
    if scenario["guest"] is not None:
        await trio.Path(folder, "guest.img").write_bytes(bytes(41 * 512))
    machine = Machine(release, options, scenario["guest"], os.path.join(folder, "qmp.sock"), folder, port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        try:
            yield machine
        finally:
            await machine.end(0)


async def _play_one(
    release: str,
    scenario: dict[str, Any],
    folder: str,
    prepared: _Prepared,
    result: Result,
    limiter: trio.CapacityLimiter,
) -> None:
    async with limiter:
        await prepared.copy(scenario.get("prepare", []), folder)
        differences = result.differences.setdefault(scenario["scenario"], [])
        try:
            async with _served(release, scenario, folder) as machine:
                client = await machine.client()
                with client.socket:
                    for number, step in enumerate(_comparable(scenario)):
                        came = await play_step(machine, client, step)
                        if difference(step, came):
                            differences.append(
                                f"step {number + 1}: {step.get('send', '')[:300]}\n"
                                f"  got  {_shown(came)}\n  want {_shown(step['recv'])}"
                            )
                        else:
                            result.steps_right += 1
                    expected = scenario.get("exit")
                    await machine.go(client, lambda _: True, LINGER, LINGER)
                    ends = expected is not None and not _crashed(scenario)
                    status = await machine.end(5 if ends else 0)
                    if status != expected and not _crashed(scenario) and "exit" not in scenario.get("varies", ()):
                        differences.append(f"exit status {status}, while {expected} was recorded")
        except Refusal as refusal:
            # The program ends before it serves anybody.
            said = [line for step in scenario["steps"] for line in step["recv"]]
            if said or scenario.get("exit") != 1:
                differences.append(f"refused at the start: {refusal}")
            result.steps_right += len(scenario["steps"])
        except Exception as error:
            differences.append(f"{type(error).__name__}: {_innermost(error)}")
        shutil.rmtree(folder, ignore_errors=True)
        if not differences:
            del result.differences[scenario["scenario"]]
            result.scenarios_right += 1


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def play_step(machine: Machine, client: Client, step: dict[str, Any]) -> list[str]:
    """Send what a step sends, and let it take its time; the lines that came."""
    text = step.get("send", "").replace("@DIR@", machine.folder).replace("@PORT@", machine.port)
    until = step.get("until") or []
    untils = [until] if isinstance(until, str) else until
    words = step["poll"].split("|") if "poll" in step else []
    limit = STEP
    kept: list[str] = []

    def done(lines: list[str]) -> bool:
        replies = [line for line in lines if _is_reply(line)]
        if text and not replies:
            return False
        failed = any('"error": {"class"' in line for line in replies)
        return failed or all(any(_matches(line, each) for line in [*kept, *lines]) for each in untils)

    while True:
        if "fd" in step:
            path = step["fd"].split(":", 1)[1].replace("@DIR@", machine.folder)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                client.send_with(text, descriptor)
            finally:
                os.close(descriptor)
        elif text:
            client.send(text)
        came = await machine.go(client, done, QUIET, limit)
        replies = [line for line in came if _is_reply(line)]
        limit -= POLL
        if not words or not replies or any(word in replies[-1] for word in words) or limit <= 0:
            return kept + came
        kept += [line for line in came if not _is_reply(line)]
        machine.clock.advance(POLL)
        machine.vm.loop.wake()


def _shown(lines: list[str]) -> str:
    return "\n       ".join(line if len(line) < 20_000 else line[:20_000] + "..." for line in lines) or "nothing"
