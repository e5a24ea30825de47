"""Many clients that misbehave, over real sockets, against the machines of `endurance.targets`.

One task takes the steps of a round (`endurance.plans`) one after another.  What the server does in between is up to
trio, and what other processes do is up to the computer.
"""

from __future__ import annotations

import array
import gc
import json
import os
import resource
import socket
import struct
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from endurance.client import TCP_ROOM, Lost
from endurance.honest import NEGOTIATION, Honest
from endurance.inputs import GHOSTS
from endurance.plugging import CHARDEVS
from endurance.targets import CONTROL, FLEET, FLEET_SIZE, PATIENCE, PROGRAM, PUPPETS, TARGETS, Hosted
from endurance.updating import Conversation, update
from qmpd.cli import serve
from qmpd.control.errors import ControlError
from qmpd.option_language.errors import OptionError
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from endurance.client import Address
    from endurance.plans import Step
    from endurance.targets import Door
    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings
    from qmpd.server.virtual_machine import VirtualMachine

READ = 1 << 20
"""Bytes that are read at once, unless a client takes its time."""

NAMES = ("fuzz0", "fuzz1", "fuzz2")
"""What files that come with commands are called."""


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
    answers: int = 0
    updates: int = 0
    ended: int = 0
    steps: int = 0
    memory: list[int] = field(default_factory=list)
    commands: int = 0


def parse(release: str | None, options: list[str]) -> tuple[VMSettings, Inventory | None]:
    """The settings of a machine of the fleet, and what was built for it."""
    try:
        parsed = serve.parse([*(["--release", release] if release else []), *options])
    except OptionError as error:
        raise ControlError(str(error)) from None
    if parsed is None:
        raise ControlError("these options make no machine")
    return parsed.settings, parsed.inventory


@dataclass
class Visitor:
    """A client of a round: its socket, where that leads to, and what it has asked for where it is honest."""

    socket: socket.socket
    where: int
    door: Door
    honest: Honest | None = None


class Storm:
    """The targets, and the clients of a round."""

    def __init__(self, folder: str, fleet: Fleet, errors: Log, tally: Tally) -> None:
        self.folder = folder
        self.fleet = fleet
        self.errors = errors
        self.tally = tally
        self.clients: dict[int, Visitor] = {}
        self.hosted: dict[int, Hosted] = {}
        self.touched: set[int] = set()
        self.puppets: set[int] = set()
        self.base = 0

    def name(self, number: int) -> str:
        return f"m{number}"

    def lives(self, number: int) -> bool:
        """Whether machine `number` is there."""
        if number < FLEET_SIZE:
            return self.name(number) in self.fleet._members
        return number in self.hosted and not self.hosted[number].process.ended()

    def make(self, number: int) -> None:
        """Make machine `number`, unless it is there."""
        if self.lives(number):
            return
        target = TARGETS[number]
        if number < FLEET_SIZE:
            self.fleet.create_machine(self.name(number), target.release, list(target.options))
            return
        if number in self.hosted:
            self.hosted.pop(number).process.kill()
        self.hosted[number] = Hosted(Path(self.folder) / f"hosted{number}", target)
        self.hosted[number].wait()
        self.hosted[number].settle()

    def address(self, where: int, door: Door) -> Address:
        """What a client connects to."""
        if where == FLEET:
            return self.fleet.path
        if where >= FLEET_SIZE:
            return self.hosted[where].door(door)
        return f"{self.folder}/{self.name(where)}/{'control' if door == CONTROL else 'qmp'}.sock"

    # The steps

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
            client.socket.close()
        self.clients.clear()
        await self._look()

    def _connect(self, number: int, where: int, door: Door, room: int) -> None:
        if where != FLEET:
            self.touched.add(where)
            if where in PUPPETS and door == CONTROL:
                self.puppets.add(where)
        address = self.address(where, door)
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if room:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room if isinstance(address, str) else TCP_ROOM)
        try:
            with suppress(BlockingIOError):
                if client.connect_ex(address) not in (0, 115):
                    raise OSError
        except OSError:
            # A machine that another client has just ended, or that takes no clients for now.
            client.close()
            return
        self.clients[number] = Visitor(client, where, door)
        self.tally.clients += 1

    async def _act(self, client: Visitor, step: Step) -> None:
        kind, opened = step[0], client.socket
        if kind in ("close", "reset"):
            if kind == "reset":
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.close()
            del self.clients[step[1]]
        elif kind == "half-close":
            with suppress(OSError):
                opened.shutdown(socket.SHUT_WR)
        elif kind in ("read", "sip"):
            self._read(client, step[2] if kind == "sip" else READ)
        elif kind == "settle":
            await self._settle(client)
        elif kind == "update":
            await self._update(client, step[2])
        elif kind == "files":
            self._send_files(opened, step[2], step[3])
        elif kind == "ask":
            if client.honest is None:
                client.honest = Honest()
                await self._send(opened, NEGOTIATION.encode())
            client.honest.asks(step[3])
            await self._send(opened, step[2].encode())
        else:
            await self._send(opened, step[2])

    def _read(self, client: Visitor, size: int) -> bool:
        """Read what is there; whether that is the end."""
        try:
            data = client.socket.recv(size)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if client.honest is not None:
            what = client.honest.take(data)
            # Another client may have told the control socket to have something garbled, dropped or made up.
            if what is not None and client.where in self.puppets:
                return True
            if what is not None:
                raise Fault(f"a client of {self.name(client.where)} does as it should: {what}")
        return not data

    async def _settle(self, client: Visitor) -> None:
        """Have a client read all that it has asked for, unless the machine ends meanwhile."""
        if client.honest is None:
            return
        if client.where == PROGRAM:
            # There each monitor has one client at a time.
            for number, other in list(self.clients.items()):
                if other is not client and (other.where, other.door) == (client.where, client.door):
                    other.socket.close()
                    del self.clients[number]
        with trio.move_on_after(PATIENCE):
            while not client.honest.answered:
                if self._read(client, READ):
                    # Others may tell a machine to end.
                    with trio.move_on_after(PATIENCE):
                        while self.lives(client.where) and client.where not in self.puppets:  # noqa: ASYNC110
                            await trio.sleep(0.01)
                        return
                    raise Fault(f"a client of {self.name(client.where)} does as it should, and is sent away")
                with trio.move_on_after(0.1), suppress(OSError):
                    await trio.lowlevel.wait_readable(client.socket)
            self.tally.answers += 1
            return
        if client.where not in self.puppets:
            raise Fault(f"a client of {self.name(client.where)} does as it should, and is not answered")

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

    def _send_files(self, client: socket.socket, data: bytes, count: int) -> None:
        if client.family != socket.AF_UNIX:
            return
        files = [os.memfd_create("fuzz") for _ in range(count)]
        with suppress(OSError):
            client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        for each in files:
            os.close(each)

    async def _update(self, client: Visitor, child: str) -> None:
        hosted = self.hosted[client.where]
        self.tally.updates += await update(client.socket, child, hosted.folder)
        hosted.process.look()

    # After the clients have gone

    async def _look(self) -> None:
        left = ["a healthy client"]
        try:
            with trio.fail_after(PATIENCE):
                for number in sorted(self.puppets):
                    with suppress(ControlError):
                        self.fleet.destroy_machine(self.name(number))
                    self.make(number)
                # What they have sent is done with before anybody looks.
                while left := self._busy():  # noqa: ASYNC110
                    await trio.sleep(0.001)
                left = ["a healthy client"]
                for number in sorted(self.touched):
                    await self._healthy(number)
                await self._fleet_healthy()
                while left := self._left():  # noqa: ASYNC110
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
        for number in self.touched & set(self.hosted):
            process = self.hosted[number].process
            if process.ended() and process.status:
                raise Fault(
                    f"{self.name(number)} has ended with status {process.status}:\n{process.errors.read_text()}"
                )
            for text in process.complaints():
                raise Fault(f"{self.name(number)} has said:\n{text}")

    async def _healthy(self, number: int) -> None:
        """A new client is greeted and answered, by a new machine if the clients have ended the old one."""
        if number >= FLEET_SIZE:
            await self._hosted_healthy(number)
            return
        for attempt in range(100):
            if not self.lives(number):
                self.tally.ended += 1
                self.make(number)
            with Conversation(self.address(number, 0)) as talk:
                if await talk.begin():
                    await self._no_ghosts(number, talk)
                    return
            self._failed()
            # It was about to end.
            await trio.sleep(0.001 * attempt)
        raise Fault(f"{self.name(number)} serves no healthy client")

    async def _no_ghosts(self, number: int, talk: Conversation) -> None:
        """Nothing is left of a character device that could not be made."""
        devices = await talk.ask("query-chardev")
        if devices is None or any(f'"{each}"' in json.dumps(devices) for each in GHOSTS):
            raise Fault(f"{self.name(number)} answers a healthy client: {devices!r}")

    async def _hosted_healthy(self, number: int) -> None:
        """Each monitor greets and answers a new client; what clients have left there is given back."""
        for attempt in range(100):
            if not self.lives(number):
                self._failed()
                self.tally.ended += 1
                self.make(number)
            try:
                await self._greeted(number)
            except Fault:
                # It may have been about to end.
                await trio.sleep(0.001 * attempt)
                if self.lives(number):
                    raise
            else:
                return
        raise Fault(f"{self.name(number)} ends again and again")

    async def _greeted(self, number: int) -> None:
        """Each monitor of a hosted machine that lives greets and answers a new client."""
        hosted = self.hosted[number]
        hosted.process.look()
        for door in hosted.doors:
            with Conversation(door) as talk:
                if not await talk.begin():
                    self._failed()
                    raise Fault(f"{self.name(number)} serves no healthy client at {door}")
                if number == PROGRAM:
                    await self._give_back(talk)
                else:
                    await talk.ask("live-update-cancel")
                await self._no_ghosts(number, talk)

    @staticmethod
    async def _give_back(talk: Conversation) -> None:
        """Have the machine close what clients have sent along."""
        for name in NAMES:
            await talk.ask("closefd", fdname=name)
        await talk.ask("cont")
        for each in (await talk.ask("query-fdsets") or {}).get("return", []):
            await talk.ask("remove-fd", **{"fdset-id": each["fdset-id"]})

    async def _fleet_healthy(self) -> None:
        with Conversation(self.fleet.path) as talk:
            if not await talk.begin():
                raise Fault("the fleet's socket serves no healthy client")

    def _left(self) -> list[str]:
        """What should be gone by now and is not: tasks of clients, open files, children."""
        names = [task.name for task in tasks(self.fleet.nursery)]
        left = [name for name in names if name.endswith("._serve") or "Connection." in name]
        members = self.fleet._members.values()
        expected = sum(_open_files(member.vm) for member in members)
        open_now = files() - self.base
        if open_now > expected:
            left.append(f"{open_now - expected} open files")
        if self.fleet.dispatcher.sessions or any(
            each.vm.dispatcher.sessions or each.vm.acceptor.connections for each in members
        ):
            left.append("sessions")
        for number in self.touched & set(self.hosted):
            left += self._left_of(number)
        return left

    def _busy(self) -> list[str]:
        """Where clients are still connected."""
        hosted = [(number, self.hosted[number]) for number in self.touched & set(self.hosted)]
        return [f"a client of {self.name(number)}" for number, each in hosted if each.process.sockets() > each.sockets]

    def _left_of(self, number: int) -> list[str]:
        hosted = self.hosted[number]
        opened = hosted.process.files()
        left = [f"a child of {self.name(number)}"] if hosted.process.children() else []
        # A client may have made character devices and servers, which stay.
        devices = min(hosted.process.pseudo_terminals(), len(CHARDEVS)) + hosted.process.listeners() - hosted.listeners
        more = len(opened) - hosted.files - devices
        if more > 0:
            left.append(f"{more} open files of {self.name(number)}")
        return left

    def measure(self) -> None:
        """Note how much memory is in use; what clients have plugged in goes with the machines, which are made anew.

        :raise Fault: there are objects of clients that are gone.
        """
        living = {id(member.vm) for member in self.fleet._members.values()}
        left = connections(living)
        if left:
            raise Fault(left)
        for number in range(FLEET_SIZE):
            with suppress(ControlError):
                self.fleet.destroy_machine(self.name(number))
            self.make(number)
        gc.collect()
        self.tally.memory.append(memory())
        self.tally.commands = self.fleet.statistics().commands


def connections(machines: set[int]) -> str:
    """What there is in this process of the clients of these machines (by `id`); nothing where they are forgotten."""
    gc.collect()
    found = [each for each in gc.get_objects() if type(each) is Connection and id(each._vm) in machines]
    return f"{len(found)} connections of clients that are gone are kept" if found else ""


def _open_files(vm: VirtualMachine) -> int:
    """How many files a machine without clients has open."""
    opened: list[int] = []

    def count(number: int) -> int:
        opened.append(number)
        return 0

    if vm.devices is not None:
        vm.devices.take(count)
    # A client may have had it serve its disks.
    serves = vm.system.has_exports and vm.system.exports.server is not None
    return len(vm.listeners) + len(opened) + serves


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
async def storm(tally: Tally, numbers: Iterable[int] = range(len(TARGETS))) -> AsyncIterator[Storm]:
    """Those of `TARGETS`, in a folder of their own.

    :raise Fault: the fleet itself has failed, or a process does not start.
    """
    errors, former, log.error = Log(), log.error, Log()
    log.error = errors
    with tempfile.TemporaryDirectory(prefix="qmpd-fuzz-") as folder:
        fleet = Fleet(folder, parse(None, [])[0], parse)
        fleet.listen()
        ready = trio.Event()
        result = Storm(folder, fleet, errors, tally)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fleet.run, 0, ready.set, lambda number: None)
                await ready.wait()
                result.base = files()
                for number in numbers:
                    result.make(number)
                try:
                    yield result
                finally:
                    for client in result.clients.values():
                        client.socket.close()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Not `except*`: what is raised in there comes out in a group or as it is, as the release of Python has it.
            ended = group.subgroup((KeyboardInterrupt, SystemExit))
            if ended is not None:
                raise _first(ended) from None
            lost = group.subgroup((Fault, Lost))
            if lost is not None:
                raise Fault(str(_first(lost))) from None
            raise
        finally:
            log.error = former
            for hosted in result.hosted.values():
                hosted.process.kill()


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
