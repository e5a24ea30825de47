"""Many clients that misbehave, against a fleet in this process, over real sockets.

A round is a plan: steps that one task takes one after another, so that it can be written to a file, taken again, and
made shorter.  What the server does in between is up to trio.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from endurance.inputs import Maker
from qmpd.cli import serve
from qmpd.control.errors import ControlError
from qmpd.control.interface import interface as control_interface
from qmpd.option_language.errors import OptionError
from qmpd.qapi import load_release
from qmpd.server import log
from qmpd.server.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from qmpd.server.settings import VMSettings
    from qmpd.server.virtual_machine import VirtualMachine

PATIENCE = 20.0
"""Seconds after which a server that does not answer counts as hung."""

MACHINES = (
    ("7.2", ["-machine", "none"]),
    ("7.2", ["-machine", "pc", "-guest", "boot-time=0,firmware=none", "-device", "pvpanic"]),
    ("5.2", ["-machine", "pc", "-preconfig"]),
    ("5.2", ["-machine", "none", "-no-shutdown"]),
    ("10.0", ["-machine", "pc", "-action", "shutdown=pause", "-guest", "on-powerdown=reboot,firmware=none"]),
    ("11.1", ["-machine", "pc", "-S"]),
    ("11.1", ["-machine", "none", "-name", "x"]),
    ("2.x-live-update", ["-machine", "none"]),
)
"""Releases and options of the fleet's machines; which of them a plan means it says by number."""

PUPPETS = (4, 5)
"""Those whose control socket is attacked, too; they are made anew after each round in which it was."""

FLEET = -1
"""Stands for the fleet's own control socket."""

GREETED = b'{"execute":"qmp_capabilities"}{"execute":"query-version","id":"healthy"}'
FORBIDDEN = (b"quit", b"create", b"destroy")
"""What does not go to the fleet's socket: it would change what the fuzz counts on."""

Step = tuple[Any, ...]


class Fault(Exception):  # noqa: N818 (of the server, not of this program)
    """What the fuzz looks for; the text says what it is."""


class Log:
    """Takes the place of the server's log: what went wrong there is kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Tally:
    """What was done so far."""

    rounds: int = 0
    clients: int = 0
    bytes: int = 0
    ended: int = 0
    steps: int = 0
    memory: list[int] = field(default_factory=list)
    commands: int = 0


def parse(release: str | None, options: list[str]) -> VMSettings:
    """The settings of a machine of the fleet."""
    try:
        parsed = serve.parse([*(["--release", release] if release else []), *options])
    except OptionError as error:
        raise ControlError(str(error)) from None
    assert parsed is not None
    return parsed[0]


def plan(maker: Maker) -> list[Step]:
    """A round's steps: `connect`, `send`, `read`, `half-close`, `close` (each with the client's number), `pass`."""
    random = maker.random
    scripts = [list(_script(maker, number)) for number in range(random.choice([1, 3, 8, 16]))]
    steps: list[Step] = []
    while scripts:
        script = random.choice(scripts)
        # One client does a few things in a row now and then.
        count = random.choice([1, 1, 1, 3])
        steps += script[:count]
        del script[:count]
        if not script:
            scripts.remove(script)
        if random.random() < 0.4:
            steps.append(("pass", random.choice([1, 1, 2, 5])))
    return steps


def _script(maker: Maker, number: int) -> Iterator[Step]:
    random = maker.random
    where = random.randrange(len(MACHINES)) if random.random() < 0.95 else FLEET
    control = where == FLEET or (where in PUPPETS and random.random() < 0.2)
    yield ("connect", number, where, control)
    release = load_release(MACHINES[where][0])
    data = _control_stream(maker, where == FLEET) if control else maker.stream(release, random.random() < 0.8)
    reads = random.random() < 0.7
    for piece in maker.slices(data):
        yield ("send", number, piece)
        if reads and random.random() < 0.5:
            yield ("read", number)
    if random.random() < 0.3:
        yield ("half-close", number)
        yield ("pass", 3)
        yield ("read", number)
    yield ("close", number)


def _control_stream(maker: Maker, fleet: bool) -> bytes:
    from qmpd.control.fleet import fleet_interface

    interface = fleet_interface() if fleet else control_interface()
    parts = [b'{"execute":"qmp_capabilities"}']
    for _ in range(maker.random.randrange(1, 6)):
        part = maker.noise() if maker.random.random() < 0.1 else maker.command(interface, lively=0)
        if not (fleet and any(each in part for each in FORBIDDEN)):
            parts.append(part)
    return b"\n".join(parts)


class Storm:
    """A fleet that runs, and the clients of a round."""

    def __init__(self, folder: str, fleet: Fleet, errors: Log, tally: Tally) -> None:
        self.folder = folder
        self.fleet = fleet
        self.errors = errors
        self.tally = tally
        self.clients: dict[int, socket.socket] = {}
        self.touched: set[int] = set()
        self.puppets: set[int] = set()

    def name(self, number: int) -> str:
        return f"m{number}"

    def lives(self, number: int) -> bool:
        """Whether machine `number` is there."""
        return self.name(number) in self.fleet._members

    def make(self, number: int) -> None:
        """Make machine `number`, unless it is there."""
        if not self.lives(number):
            release, options = MACHINES[number]
            self.fleet.create_machine(self.name(number), release, options)

    async def take(self, steps: list[Step]) -> None:
        """Take the steps, then see that all is well.

        :raise Fault: it is not.
        """
        self.errors.lines.clear()
        for step in steps:
            self.tally.steps += 1
            if step[0] == "pass":
                for _ in range(step[1]):
                    await trio.lowlevel.checkpoint()
            elif step[0] == "connect":
                self._connect(*step[1:])
            elif step[1] in self.clients:
                await self._act(self.clients[step[1]], step)
        for client in self.clients.values():
            client.close()
        self.clients.clear()
        await self._look()

    def _connect(self, number: int, where: int, control: bool) -> None:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if where == FLEET:
            path = self.fleet.path
        else:
            self.touched.add(where)
            if control:
                self.puppets.add(where)
            path = f"{self.folder}/{self.name(where)}/{'control' if control else 'qmp'}.sock"
        try:
            client.connect(path)
        except OSError:
            # A machine that another client has just ended, or that takes no clients by order of its control socket.
            client.close()
            return
        self.clients[number] = client
        self.tally.clients += 1

    async def _act(self, client: socket.socket, step: Step) -> None:
        kind = step[0]
        if kind == "close":
            client.close()
            del self.clients[step[1]]
        elif kind == "half-close":
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        elif kind == "read":
            with suppress(OSError):
                client.recv(1 << 20)
        else:
            await self._send(client, step[2])

    async def _send(self, client: socket.socket, data: bytes) -> None:
        """Send as much as the server takes without being waited for."""
        for _ in range(40):
            try:
                sent = client.send(data)
            except BlockingIOError:
                await trio.lowlevel.checkpoint()
                continue
            except OSError:
                return
            self.tally.bytes += sent
            data = data[sent:]
            if not data:
                return

    # After the clients have gone

    async def _look(self) -> None:
        left = ["a healthy client"]
        try:
            with trio.fail_after(PATIENCE):
                for number in sorted(self.puppets):
                    with suppress(ControlError):
                        self.fleet.destroy_machine(self.name(number))
                    self.make(number)
                for number in sorted(self.touched):
                    await self._healthy(number)
                await self._fleet_healthy()
                while left := self._left():  # noqa: ASYNC110 (nobody tells when a task of others has ended)
                    await trio.sleep(0.001)
        except trio.TooSlowError:
            self._failed()
            raise Fault(f"after {PATIENCE:g} seconds there still wait: {', '.join(left)}") from None
        self._failed()
        self.touched.clear()
        self.puppets.clear()

    def _failed(self) -> None:
        if self.fleet.statistics().failed:
            raise Fault("a machine has failed:\n" + "\n".join(self.errors.lines))
        if any(line.startswith("Traceback") for line in self.errors.lines):
            raise Fault("a command has failed:\n" + "\n".join(self.errors.lines))

    async def _healthy(self, number: int) -> None:
        """A new client is greeted and answered, by a new machine if the clients have ended the old one."""
        path = f"{self.folder}/{self.name(number)}/qmp.sock"
        for attempt in range(100):
            if not self.lives(number):
                self.tally.ended += 1
                self.make(number)
            answer = await _ask(path)
            if answer is not None and b'"id": "healthy"' in answer:
                if b'"return"' not in answer.splitlines()[-1]:
                    raise Fault(f"{self.name(number)} answers a healthy client: {answer!r}")
                return
            self._failed()
            # It was about to end.
            await trio.sleep(0.001 * attempt)
        raise Fault(f"{self.name(number)} serves no healthy client")

    async def _fleet_healthy(self) -> None:
        answer = await _ask(self.fleet.path)
        if answer is None or b'"id": "healthy"' not in answer:
            raise Fault(f"the fleet's socket answers a healthy client: {answer!r}")

    def _left(self) -> list[str]:
        """What should be gone by now and is not: tasks of clients, open files."""
        names = [task.name for task in tasks(self.fleet.nursery)]
        left = [name for name in names if name.endswith("Acceptor.serve") or "Connection." in name]
        expected = sum(_open_files(member.vm) for member in self.fleet._members.values())
        open_now = files() - self.base
        if open_now > expected:
            left.append(f"{open_now - expected} open files")
        sessions = sum(len(member.vm.dispatcher.sessions) for member in self.fleet._members.values())
        if sessions or self.fleet.dispatcher.sessions:
            left.append("sessions")
        return left

    base = 0

    def measure(self) -> None:
        """Note how much memory is in use; what clients have plugged in goes with the machines, which are made anew."""
        for number in range(len(MACHINES)):
            with suppress(ControlError):
                self.fleet.destroy_machine(self.name(number))
            self.make(number)
        gc.collect()
        self.tally.memory.append(memory())
        self.tally.commands = self.fleet.statistics().commands


async def _ask(path: str) -> bytes | None:
    """What a client that asks for the version gets; None where there is nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(path)
            client.send(GREETED)
            answer = b""
            while b'"id": "healthy"' not in answer or not answer.endswith(b"\n"):
                await trio.lowlevel.wait_readable(client)
                data = client.recv(1 << 16)
                if not data:
                    return None
                answer += data
        except OSError:
            return None
        finally:
            trio.lowlevel.notify_closing(client)
        return answer


def _open_files(vm: VirtualMachine) -> int:
    """How many files a machine without clients has open."""
    opened: list[int] = []

    def count(number: int) -> int:
        opened.append(number)
        return 0

    if vm.devices is not None:
        vm.devices.take(count)
    return len(vm.listeners) + len(opened)


def tasks(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    """All tasks below a nursery."""
    for task in nursery.child_tasks:
        yield task
        for inner in task.child_nurseries:
            yield from tasks(inner)


def files() -> int:
    """How many files this process has open (one more, for the look itself)."""
    return len(os.listdir("/proc/self/fd"))


def memory() -> int:
    """Bytes of this process that are resident."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@asynccontextmanager
async def storm(tally: Tally, numbers: Iterable[int] = range(len(MACHINES))) -> AsyncIterator[Storm]:
    """A fleet of those of `MACHINES` in a folder of its own.

    :raise Fault: the fleet itself has failed.
    """
    errors, former, log.error = Log(), log.error, Log()
    log.error = errors
    with tempfile.TemporaryDirectory(prefix="qmpd-fuzz-") as folder:
        fleet = Fleet(folder, parse(None, []), parse)
        fleet.listen()
        ready = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fleet.run, 0, ready.set, lambda number: None)
                await ready.wait()
                result = Storm(folder, fleet, errors, tally)
                result.base = files()
                for number in numbers:
                    result.make(number)
                try:
                    yield result
                finally:
                    for client in result.clients.values():
                        client.close()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Not `except*`: what is raised in there comes out in a group or as it is, as the release of Python has it.
            for wanted in (KeyboardInterrupt, SystemExit, Fault):
                found = group.subgroup(wanted)
                if found is not None:
                    raise _first(found) from None
            raise
        finally:
            log.error = former


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
