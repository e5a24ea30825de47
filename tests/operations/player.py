"""Plays recordings of long operations to a machine in the test's own process, under virtual time.

A step ends as the recorder's did: once the reply and the event that it waits for have come and nothing more was said
for a while.  The clock goes on from one moment at which something is due to the next, so nothing is waited for.

Where a second machine takes part (`peer`) both have one clock.  What they say to each other takes the computer's time:
a reply is waited for a moment before time goes on.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
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
    from collections.abc import AsyncIterator, Callable, Container, Iterator

MILLISECOND = 1_000_000
QUIET = 60 * MILLISECOND
STEP = 4_000 * MILLISECOND
POLL = 20 * MILLISECOND
LINGER = 150 * MILLISECOND
TALK, TALKS = 0.002, 400
"""Seconds that two machines are given to speak to each other, and how often while a reply is owed."""
TALKING = 3.0
"""Seconds that a machine is given to reach another one, or a file."""
MIGRATIONS = ("migration", "incoming")
"""The kinds of activities that speak to another machine."""
MEASURED, MEASURING = '"status": "measured"', 1_500 * MILLISECOND
"""Before it asked for the result of a measurement the recorder waited for so long."""
_UNANSWERED = "vsock:1:2"
_COMPLETED = re.compile(r'"event": "MIGRATION", "data": \{"status": "completed"')
AT_ONCE = 8
BITES = 600
"""So many pieces of work of a job are waited for while the clock stands still."""
PATIENCE = 20


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

    def __init__(
        self, release: str, options: list[str], guest: str | None, path: str, folder: str, port: str,
        clock: VirtualClock,
    ) -> None:  # fmt: skip
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
        # For how long nothing is said until a step that starts a job has ended.
        self.patience = QUIET
        self.clock = clock
        # The other machine where there are two, its client, and what came there while a step was played here.
        self.other: Machine | None = None
        self.own: Client | None = None
        self.inbox: list[str] = []
        # For how many seconds it was given time to reach another one since it last said something.
        self.talked = 0.0
        # What came, and the step to which it is to be compared, where the next step may say that it was only early.
        self.open: tuple[list[str], dict[str, Any]] | None = None
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
        """What came; what came at the other machine is kept there."""
        came = await self._settled(client)
        other = self.other
        if other is not None and other.own is not None:
            other.inbox += await other._settled(other.own)
        return came

    async def _settled(self, client: Client) -> list[str]:
        """What came, once the disks have done what was asked of them: that takes the computer's time alone."""
        came = await client.take()
        if self.vm.system.built is not None and not self._ended.is_set():
            self.vm.system.disks.executor.settle()
            self.vm.system.dumps.executor.settle()
            came += await client.take()
            jobs: Any = self.vm.system.inventory.backends.block.blockers or ()
            for _ in range(BITES):
                # A job takes one bite after another, without the clock going on, and turns of the main loop between.
                is_left = bool(getattr(jobs, "_left", ()))
                if self._ended.is_set() or not (is_left or any(job.busy for job in jobs)):
                    break
                self.vm.system.disks.executor.settle()
                self.vm.loop.wake()
                came += await client.take()
        for _ in range(PATIENCE):
            # A file that a client has asked for is written in a thread of its own.
            if not any(activity.KIND == "reply" for _, activity in self.vm.system.activities):
                break
            await trio.sleep(0.001)
            came += await client.take()
        for _ in range(TALKS):
            # What a migration sends and reads takes the computer's time, too.
            if self._ended.is_set() or not self.vm.system.migrations.is_talking or self.talked > TALKING:
                break
            began = trio.current_time()
            await trio.sleep(0.001)
            came += await client.take()
            self.talked += trio.current_time() - began
        if any('"event": "MIGRATION' in line for line in came):
            self.talked = 0.0
        return came

    async def go(self, client: Client, done: Callable[[list[str]], bool], quiet: int, limit: int) -> list[str]:
        """Let time pass until `done` and nothing has come for `quiet` nanoseconds, or for `limit`; what came."""
        came = await self._take(client)
        talks = 0
        now = self.clock.monotonic_nanoseconds()
        last, end = now, now + limit
        while not self._ended.is_set():
            if talks < TALKS and self._is_spoken_to(came, done):
                await trio.sleep(TALK)
                talks += 1
                came += await self._take(client)
                continue
            until = min(last + quiet, end) if done(came) else end
            if until <= now:
                break
            deadlines = [deadline for each in self._both() if (deadline := each._next_deadline()) is not None]
            then = max(now, min([*deadlines, until]))
            self.clock.advance(then - now)
            now = then
            heard = 0 if self.other is None else len(self.other.inbox)
            for each in self._both():
                each.vm.loop.wake()
            more = await self._take(client)
            if more or (self.other is not None and len(self.other.inbox) > heard):
                came += more
                last = now
        return came

    def _is_spoken_to(self, came: list[str], done: Callable[[list[str]], bool]) -> bool:
        """Whether something is to come that takes the computer's time: another process, or the other machine."""
        if done(came):
            return False
        if self.other is not None and not any(map(_is_reply, came)):
            return True
        left = [
            found.left
            for each in self._both()
            for found in each.vm.system.activities.describe()
            if found.kind in MIGRATIONS
        ]
        return bool(left) and all(each is None for each in left)

    def _both(self) -> list[Machine]:
        """The machines of a scenario that have not ended."""
        return [each for each in (self, self.other) if each is not None and not each._ended.is_set()]


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


def _comparable(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that real QEMU has answered: all, or those before it crashed, or answered nobody any more.

    Of the last one before that the beginning is compared.
    """
    steps: list[dict[str, Any]] = recorded["steps"]
    for number, step in enumerate(steps):
        if _UNANSWERED in step.get("send", ""):
            # What becomes of it is a matter of the host's kernel.
            return [*steps[:number], {**step, "unfinished": True}]
    if recorded.get("exit") is not None and not _crashed(recorded):
        return steps
    end = len(steps)
    while end and "poll" not in steps[end - 1] and not any(map(_is_reply, steps[end - 1]["recv"])):
        end -= 1
    if not any("send" in each for each in steps[end:]):
        return steps
    if not end:
        return []
    heard = itertools.takewhile(lambda step: "send" not in step, steps[end:])
    return [*steps[: end - 1], {**steps[end - 1], "unfinished": True}, *heard]


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
        if each["scenario"] not in left_out and (wanted is None or wanted(each))
    ]
    result = Result(len(scenarios), sum(len(_steps(each)) for each in scenarios))
    limiter = trio.CapacityLimiter(AT_ONCE)
    # Short, as the recorder's: the length of a path shows in some lines.
    with tempfile.TemporaryDirectory(prefix="o") as folder:
        prepared = _Prepared(folder)
        async with trio.open_nursery() as nursery:
            for number, scenario in enumerate(scenarios):
                own = os.path.join(folder, str(number))
                nursery.start_soon(_play_one, release, scenario, own, prepared, result, limiter)
    return result


def _steps(scenario: dict[str, Any]) -> list[tuple[str, dict[str, Any], list[str] | None]]:
    """Whose each step is (`main`, `peer`), the step, and what came at the other side then, None without one."""
    if "peer" not in scenario:
        return [("main", step, None) for step in _comparable(scenario)]
    sides = {"main": _comparable(scenario), "peer": _comparable(scenario["peer"])}
    heard: dict[tuple[str, int], list[str]] = {}
    played: list[tuple[int, str, dict[str, Any]]] = []
    for name, steps in sides.items():
        for step in steps:
            if "send" in step or "kill" in step:
                played.append((step["at"], name, step))
            else:
                heard[name, step["at"]] = step["recv"]
    other = {"main": "peer", "peer": "main"}
    played.sort(key=lambda each: each[0])
    return [(name, step, heard.get((other[name], at), [])) for at, name, step in played]


@asynccontextmanager
async def served(release: str, scenario: dict[str, Any], folder: str) -> AsyncIterator[Machine]:
    with _own_port(27_183 + int(os.path.basename(folder)) % 4_000) as port:
        async with _served(release, scenario, folder, port) as machine:
            yield machine


@contextmanager
def _own_port(number: int) -> Iterator[str]:
    """This port, or the next that no other test of this computer has now: each holds UDP's port of the same number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        while True:
            try:
                held.bind(("127.0.0.1", number))
            except OSError:
                number += 1
            else:
                break
        yield str(number)


@asynccontextmanager
async def _served(release: str, scenario: dict[str, Any], folder: str, port: str) -> AsyncIterator[Machine]:
    if scenario["guest"] is not None:
        await trio.Path(folder, "guest.img").write_bytes(bytes(41 * 512))
    clock = VirtualClock()

    def machine(options: list[str], name: str) -> Machine:
        given = [each.replace("@DIR@", folder).replace("@PORT@", port) for each in options]
        return Machine(release, given, scenario["guest"], os.path.join(folder, name), folder, port, clock)

    machines = [machine(scenario["peer"]["options"], "peer.sock")] if "peer" in scenario else []
    machines.append(machine(scenario["options"], "qmp.sock"))
    if len(machines) == 2:
        machines[0].other, machines[1].other = machines[1], machines[0]
    async with trio.open_nursery() as nursery:
        try:
            for each in machines:
                nursery.start_soon(each.run)
            yield machines[-1]
        finally:
            for each in machines:
                await each.end(0)


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
            async with served(release, scenario, folder) as machine, AsyncExitStack() as stack:
                # The name says how long a job was left alone, which its step does not.
                said_so = re.search(r"([.\d]+) s\b", scenario["scenario"])
                if said_so is not None:
                    machine.patience = int(float(said_so[1]) * 1000) * MILLISECOND
                sides = {"main": machine} if machine.other is None else {"peer": machine.other, "main": machine}
                for each in sides.values():
                    each.own = await each.client()
                    stack.enter_context(each.own.socket)
                for number, (name, step, heard) in enumerate(_steps(scenario)):
                    said = await _play_of(sides[name], step, heard)
                    differences += [f"step {number + 1} of {name}: {each}" for each in said]
                    result.steps_right += not said
                assert machine.own is not None
                await machine.go(machine.own, lambda _: True, LINGER, LINGER)
                for side, recorded in ((machine, scenario), (machine.other, scenario.get("peer", {}))):
                    if side is not None:
                        differences += [] if side.open is None else [_told(*side.open)]
                        differences += await _exit_of(side, recorded)
        except Refusal as refusal:
            # The program ends before it serves anybody; what it said then was kept where it ended at once.
            said = [line for step in scenario["steps"] for line in step["recv"]]
            told = load_release(release).refusals.message(refusal)
            if said or (scenario.get("exit") != 1 and told not in plain(scenario.get("refused", ""), folder)):
                differences.append(f"refused at the start: {refusal}")
            result.steps_right += len(scenario["steps"])
        except Exception as error:
            differences.append(f"{type(error).__name__}: {innermost(error)}")
        shutil.rmtree(folder, ignore_errors=True)
        if not differences:
            del result.differences[scenario["scenario"]]
            result.scenarios_right += 1


async def _play_of(machine: Machine, step: dict[str, Any], heard: list[str] | None) -> list[str]:
    """Play a step to one of the machines; how what came differs from what was recorded, there and at the other."""
    assert machine.own is not None
    if "kill" in step:
        if machine.other is None:
            await machine.end(0)
            return []
        await (machine.other if step["kill"] != "main" or "send" in step else machine).end(0)
    if any(MEASURED in line for line in step["recv"]):
        await machine.go(machine.own, lambda _: True, MEASURING, MEASURING)
    if machine.other is not None and any(map(_COMPLETED.search, step["recv"])):
        step = {"until": "MIGRATION/completed", "limit": 3 * STEP, **step}
    came = await play_step(machine, machine.own, step)
    if _has_dumped(step["recv"]) and not _has_dumped(came):
        came += await machine.go(machine.own, _has_dumped, QUIET, STEP)
    if machine.other is not None:
        # Whoever has left is noticed.
        await trio.sleep(TALK)
        came += await machine._take(machine.own)
    found = _compare(machine, came, step)
    if machine.other is not None and heard is not None:
        there, machine.other.inbox = machine.other.inbox, []
        found += _compare(machine.other, there, {"recv": heard})
    return found


def _has_dumped(lines: list[str]) -> bool:
    return any('"event": "DUMP_COMPLETED"' in line for line in lines)


def _compare(machine: Machine, came: list[str], step: dict[str, Any]) -> list[str]:
    """How what came differs from what was recorded.

    Of two machines one may be heard a step early, or late: then this step and the next are compared together.
    """
    before, machine.open = machine.open, None
    if not difference(step, came):
        return [] if before is None else [_told(*before)]
    if before is not None:
        both = [*before[0], *came], _together(before[1], step)
        if not difference(both[1], both[0]):
            return []
        return [_told(*before), _told(came, step)]
    if machine.other is None:
        return [_told(came, step)]
    machine.open = came, step
    return []


def _together(step: dict[str, Any], following: dict[str, Any]) -> dict[str, Any]:
    """Two steps as one."""
    varies = list(step.get("varies") or [])
    for path in following.get("varies") or []:
        number, dot, rest = path.partition(".")
        varies.append(f"{int(number) + len(step['recv'])}{dot}{rest}" if number.isdecimal() else path)
    return {**following, "recv": [*step["recv"], *following["recv"]], "varies": varies}


def _told(came: list[str], step: dict[str, Any]) -> str:
    who = f"{step['send'][:300]}\n" if "send" in step else "at the other\n"
    return f"{who}  got  {_shown(came)}\n  want {_shown(step['recv'])}"


async def _exit_of(machine: Machine, recorded: dict[str, Any]) -> list[str]:
    """How the exit status of a machine differs from what was recorded."""
    expected = recorded.get("exit")
    status = await machine.end(5 if expected is not None and not _crashed(recorded) else 0)
    # One that had not ended when the recorder looked was not waited for.
    hangs = expected is None and any('"quit"' in step.get("send", "") for step in recorded.get("steps", ()))
    if status != expected and not hangs and not _crashed(recorded) and "exit" not in recorded.get("varies", ()):
        return [f"exit status {status}, while {expected} was recorded"]
    return []


def innermost(error: BaseException) -> str:
    """The first of what a group of exceptions holds, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def play_step(machine: Machine, client: Client, step: dict[str, Any]) -> list[str]:
    """Send what a step sends, and let it take its time; the lines that came."""
    text = step.get("send", "").replace("@DIR@", machine.folder).replace("@PORT@", machine.port)
    until = step.get("until") or []
    untils = [until] if isinstance(until, str) else until
    words = step["poll"].split("|") if "poll" in step else []
    limit = step.get("limit", STEP)
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
        came = await machine.go(client, done, machine.patience if '"job-id"' in text else QUIET, limit)
        replies = [line for line in came if _is_reply(line)]
        limit -= POLL
        if words and not step["recv"] and limit <= 0:
            return []  # the recorder kept nothing of what never came
        if not words or not replies or any(word in replies[-1] for word in words) or limit <= 0:
            return kept + came
        kept += [line for line in came if not _is_reply(line)]
        machine.clock.advance(POLL)
        machine.vm.loop.wake()


def _shown(lines: list[str]) -> str:
    return "\n       ".join(line if len(line) < 20_000 else line[:20_000] + "..." for line in lines) or "nothing"
