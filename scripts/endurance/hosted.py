"""A machine of the soak that has a process for itself and lives for the whole run: TCP, open files that clients hand
over, character devices, live update, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from endurance import children
from endurance.actor import DEVICES, GUEST, KEPT, Outcome, Place, Sent, Wrong
from endurance.faults import FAULTS
from endurance.model import EPOCH, RULES
from endurance.pressure import PRESSURES, Pressed
from endurance.process import ROOT, SERVE, SYSTEM, Process, free_port, transcript_is_whole
from endurance.steady import Steady

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from endurance.client import Address, Client
    from endurance.ledger import Ledger

STEADY = 2
"""Clients that never stop asking."""

UNREAD = 160 << 20
"""Bytes by which a process may grow while a client does not read what it has asked for."""

TRANSCRIPT = 96 << 20
"""What a full transcript takes, where there is a control socket: 64 MiB of messages, and their entries."""

MOST_COMMANDS, MOST_FILES = 6, 3
"""Commands that are sent together, and files that go with one."""
NO_FILE = "No file descriptor supplied via SCM_RIGHTS"
_TIMESTAMP = re.compile(r'"timestamp": \{"seconds": (\d+), "microseconds": (\d+)\}')
_NO_TIME = f'"timestamp": {{"seconds": {EPOCH // 1_000_000}, "microseconds": 0}}'


class Hosted(Pressed):
    """Has a process started; `finish` ends it."""

    kept = True
    family = "hosted"
    steps: tuple[str, ...] = ("talk",) * 5 + ("leave", *PRESSURES, "overflow")

    def __init__(
        self, number: int, clients: int, random: Random, ledger: Ledger, folder: Path, nursery: trio.Nursery
    ) -> None:
        super().__init__(number, clients, random, ledger, self._nobody)
        self._folder = folder / f"hosted-{number}"
        self._nursery = nursery
        self.process: Process

    @staticmethod
    async def _nobody(name: str, release: str, options: list[str]) -> Place:
        raise NotImplementedError

    def choose(self) -> str:
        random = self.random
        if self.control is not None and len(self.models) == 1 and random.random() < 0.5:
            faults = [each for each in FAULTS if each != "kill"]
            return random.choice(("guest", "guest", "advance", random.choice(faults)))
        return random.choice(self.steps)

    async def begin(self) -> None:
        """Start the process, or go on with it where something was wrong: with new clients."""
        if self._generation:
            await self._stop_steady()
            self.process.kill()
        await super().begin()
        for _ in range(STEADY):
            name = f"{self.name}.steady{len(self.steady)}"
            schema = self.ledger.schemas.get(self.place.kind)
            steady = Steady(name, self.random_of(name), self.ledger, schema)
            await steady.connect(self._door())
            self.steady.append(steady)
            self._nursery.start_soon(steady.run)

    def random_of(self, name: str) -> Random:
        """A source of chance of somebody's own."""
        return type(self.random)(f"{name}/{self.random.random()}")

    async def _stop_steady(self) -> None:
        for steady in self.steady:
            steady.client.close()
            steady._stopping = True
        self.steady.clear()

    async def _exchange(self, client: Client, name: str, **arguments: object) -> dict[str, Any]:
        """Send a command that nothing else goes on beside; the reply, which is no event's."""
        command = self._sent(client, name, **arguments)
        await self._send([command])
        await client.until_replies(1)
        text = self.shortened(client.take())
        self.ledger.note(f"{client.name} < {text}")
        self.ledger.replies += 1
        try:
            reply: dict[str, Any] = json.loads(text)
        except ValueError:
            raise Wrong(f"{client.name} gets {text!r} for {name} {arguments}") from None
        if reply.pop("id", None) != json.loads(command.identity):
            raise Wrong(f"{client.name} gets {text!r} for {command.text()!r}")
        return reply

    async def _returned(self, client: Client, name: str, **arguments: object) -> Any:
        reply = await self._exchange(client, name, **arguments)
        if "return" not in reply:
            raise Wrong(f"{client.name}: {name} {arguments} fails: {reply}")
        return reply["return"]

    async def _negotiated(self) -> Client:
        """A client that has negotiated, without out-of-band execution."""
        found = next((each for each in self.clients if each.negotiated and not each.out_of_band), None)
        if found is None:
            self._leave_one()
            found = await self._connected()
            await found.until(b"\r\n")
            self._expect_greeting(found, "")
            await self._negotiate(found, 0.5)
            self.clients.append(found)
        return found

    async def _settles(self, what: str, holds: Any) -> None:
        """Wait until something is so that nobody tells of.

        :raise Wrong: it does not come to be.
        """
        with trio.move_on_after(10.0):
            while not holds():  # noqa: ASYNC110
                await trio.sleep(0.005)
            return
        raise Wrong(f"{self.name}: {what}")

    async def do_overflow(self) -> None:
        """A client asks for a great deal and reads nothing: the machine does not keep all of it."""
        if self.random.random() < 0.7 or self.place.kind not in self.ledger.schemas:
            await self.do_lazy()
            return
        if self.place.exclusive and len(self.clients) + len(self.steady) >= len(self.place.doors):
            self._leave_one()
        before = self.process.resident()
        client = await self._connected()
        await client.send(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-qmp-schema"}\n' * 1500)
        most = before
        for _ in range(30):
            await self.compare(self._same())
            most = max(most, self.process.resident())
            await trio.sleep(0.02)
        client.reset()
        if most > before + UNREAD:
            raise Wrong(f"{self.name} grows by {(most - before) >> 20} MB for a client that does not read")
        if len(self.clients) < self._count:
            await self.join()

    # The end

    async def finish(self) -> None:
        """Have a signal end the machine: everybody is told, and nothing is left behind.

        :raise Wrong: it is not so.
        """
        self.process.look()
        if self.process.grows:
            raise Wrong(f"{self.name} grows: {[size >> 10 for size in self.process.memory]} kB")
        end = await self._prepare_end()
        for steady in self.steady:
            await steady.stop()
        await end()
        told = [await steady.drain() for steady in self.steady]
        for client in self.clients:
            await client.until_end()
            text = client.take()
            self.ledger.note(f"{client.name} < {text}")
            if client.negotiated:
                told.append([line for line in text.splitlines(keepends=True) if line.startswith('{"timestamp"')])
            elif text:
                raise Wrong(f"{client.name} has not negotiated and gets {text!r}")
        for events in told:
            if not events or '"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}' not in events[-1]:
                raise Wrong(f"{self.name} is ended by a signal and says {events}")
            if events != told[0]:
                raise Wrong(f"{self.name} ends, and its clients hear different things: {told}")
        await self._settles("the process does not end", self.process.ended)
        if self.process.status:
            raise Wrong(f"{self.name} ends with status {self.process.status}: {self.process.errors.read_text()}")
        await self._look_at_what_is_left()

    async def _prepare_end(self) -> Callable[[], Awaitable[None]]:
        """What is needed for the end, and how it is brought about."""
        return self._end

    async def _end(self) -> None:
        self.process.signal(signal.SIGTERM)

    async def _look_at_what_is_left(self) -> None:
        for text in self.process.complaints():
            raise Wrong(f"{self.name} has said:\n{text}")
        if f"terminating on signal 15 from pid {os.getpid()} " not in self.process.errors.read_text():
            raise Wrong(f"{self.name} does not say who has ended it: {self.process.errors.read_text()}")
        transcript = self._folder / "transcript"
        if transcript.exists() and (what := transcript_is_whole(transcript)):
            raise Wrong(f"the transcript of {self.name}: {what}")
        await self._settles("files are left behind", lambda: not self._left())

    def _left(self) -> list[str]:
        names = {path.name for path in self._folder.iterdir()} - {"stderr", "transcript"}
        return [name for name in names if not name.startswith(("child-", "chardev-"))]

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for steady in self.steady:
            steady.client.close()


class Program(Hosted):
    """`qmpd-system-x86_64`: monitors that take one client each, some of them over TCP; files come with commands."""

    steps = (*Hosted.steps, "files", "files", "chardev", "chardev")
    plays = True
    """Whether it has a guest and a control socket.  Where not its time is the computer's."""

    _begun = 0

    async def _make(self) -> None:
        random, folder = self.random, self._folder
        folder.mkdir(exist_ok=True)
        release = random.choice(list(RULES))
        doors: list[Address] = []
        options = ["-nodefaults", "-display", "none", *KEPT]
        for number in range(self._count + STEADY + 1):
            if number % 2:
                doors.append(("127.0.0.1", free_port()))
                options += ["-qmp", f"tcp:127.0.0.1:{doors[-1][1]},server=on,wait=off"]
            else:
                doors.append(str(folder / f"qmp{number}.sock"))
                options += ["-qmp", f"unix:{doors[-1]},server=on,wait=off"]
        control: str | None = None
        own = ""
        if self.plays:
            control = str(folder / "control.sock")
            options += ["-machine", "pc", *DEVICES]
            own = f"-control unix:{control} -clock virtual -guest {GUEST} -transcript {folder / 'transcript'}"
        else:
            options += ["-machine", "none"]
        self.process = Process(folder, [*SYSTEM, *options], QMPD_RELEASE=release, QMPD_OPTIONS=own)
        for door in (doors[-1], *([control] if control else [])):
            await self.process.listens(door)
        if self.plays:
            self.process.growth += TRANSCRIPT
        self.place = Place(release, doors, control, exclusive=True)
        self._expect(release, self.plays)
        self._begun = time.time_ns() // 1000

    # Times that nobody can foretell

    def shortened(self, text: str) -> str:
        """The text without the schema, and, where the computer's time goes on in it, without times."""
        text = super().shortened(text)
        return text if self.plays else _TIMESTAMP.sub(self._timeless, text)

    def _timeless(self, match: re.Match[str]) -> str:
        told = int(match[1]) * 1_000_000 + int(match[2])
        if not self._begun <= told <= time.time_ns() // 1000:
            raise Wrong(f"{self.name} tells of {told} microseconds, and it is {time.time_ns() // 1000}")
        return _NO_TIME

    # Open files

    async def do_files(self) -> None:
        """A client sends files with its commands, behind large replies that are still on their way."""
        client = await self._negotiated()
        if not isinstance(client.address, str):
            await self._descriptors_over_tcp(client)
            return
        random, place = self.random, self.place
        files = [os.memfd_create(f"soak{number}") for number in range(MOST_COMMANDS * MOST_FILES + 1)]
        try:
            commands: list[tuple[Sent, list[int], int | None]] = []
            if place.kind in self.ledger.schemas and random.random() < 0.7:
                commands += [(self._sent(client, "query-qmp-schema"), [], None) for _ in range(random.choice((1, 4)))]
            commands += self._with_files(client, list(files))
            for command, sent, _ in commands:
                self.ledger.commands += 1
                self.ledger.note(f"{client.name} > {command.text()!r} with {len(sent)} files")
                await client.send_files(command.text() + b"\n", sent)
            await client.until_replies(len(commands))
            replies = [json.loads(line) for line in self.shortened(client.take()).splitlines()]
            self.ledger.replies += len(replies)
            taken = await self._look_at_files(client, commands, replies)
            await self._give_back(client, taken)
            ours = {(os.fstat(each).st_dev, os.fstat(each).st_ino) for each in files}
            await self._settles(
                "files that clients have sent stay open", lambda: not ours & set(self.process.files().values())
            )
        finally:
            for file in files:
                os.close(file)
        await self.compare(self._same())

    def _with_files(self, client: Client, files: list[int]) -> list[tuple[Sent, list[int], int | None]]:
        """Commands, the files that go with each, and the one that it takes.

        That is the first of those that came with it, or last before it where nobody has taken one of them; the rest of
        them is closed.
        """
        random = self.random
        waiting: list[int] = []
        commands = []
        for number in range(random.randint(2, MOST_COMMANDS)):
            sent = [files.pop() for _ in range(random.choice((0, 1, 1, 1, 2, MOST_FILES)))]
            waiting = sent or waiting
            kind = random.choice(("add-fd", "getfd", "query-name"))
            if self._kept_when_removed and kind == "add-fd":
                kind = "getfd"
            arguments: dict[str, object] = {}
            if kind == "add-fd":
                arguments = {"fdset-id": 1000 + number, "opaque": f"file {number}"}
            elif kind == "getfd":
                arguments = {"fdname": f"file{number}"}
            taken = None
            if arguments and waiting:
                taken, waiting = waiting[0], []
            commands.append((self._sent(client, kind, **arguments), sent, taken))
        # What nobody has asked for goes with the next files that come.
        commands.append((self._sent(client, "getfd", fdname="last"), [files.pop()], None))
        command, sent, _ = commands[-1]
        commands[-1] = (command, sent, sent[0])
        return commands

    @property
    def _kept_when_removed(self) -> bool:
        """Whether `remove-fd` leaves the file open."""
        return self.model.release in ("5.2", "7.2") and self.model.state != "running"

    async def _look_at_files(
        self, client: Client, commands: list[tuple[Sent, list[int], int | None]], replies: list[dict[str, Any]]
    ) -> list[Sent]:
        """Each command has taken the file that was sent with it; those that have one."""
        self.process.look()
        open_now = set(self.process.files().values())
        taken = []
        for (command, _, file), reply in zip(commands, replies, strict=True):
            wrong = Wrong(f"{client.name} sends {command.text()!r} with file {file} and gets {reply}")
            if reply.get("id") != json.loads(command.identity):
                raise wrong
            if command.name not in ("add-fd", "getfd"):
                continue
            if file is None:
                if reply.get("error", {}).get("desc") != NO_FILE:
                    raise wrong
                continue
            if "return" not in reply:
                raise wrong
            taken.append(command)
            identity = (os.fstat(file).st_dev, os.fstat(file).st_ino)
            if command.name == "add-fd":
                number = reply["return"]["fd"]
                if reply["return"]["fdset-id"] != command.arguments["fdset-id"]:
                    raise wrong
                if self.process.files().get(str(number)) != identity:
                    raise Wrong(f"{client.name}: {command.text()!r} has taken another file than it was sent with")
            elif identity not in open_now:
                raise Wrong(f"{client.name}: {command.text()!r} has not taken the file that it was sent with")
        return taken

    async def _give_back(self, client: Client, taken: list[Sent]) -> None:
        """Have the machine close what it has taken."""
        sets = {each["fdset-id"]: each["fds"] for each in await self._returned(client, "query-fdsets")}
        for command in taken:
            if command.name == "getfd":
                await self._returned(client, "closefd", fdname=command.arguments["fdname"])
                continue
            number = command.arguments["fdset-id"]
            if [each.get("opaque") for each in sets[number]] != [command.arguments["opaque"]]:
                raise Wrong(f"{client.name} has added {command.arguments}, and set {number} has {sets[number]}")
            await self._returned(client, "remove-fd", **{"fdset-id": number})

    async def _descriptors_over_tcp(self, client: Client) -> None:
        reply = await self._exchange(client, "getfd", fdname="none")
        if reply.get("error", {}).get("desc") != NO_FILE:
            raise Wrong(f"{client.name} asks for a file over TCP and gets {reply}")
        await self.compare(self._same())

    # Character devices

    async def do_chardev(self) -> None:
        """`chardev-add` fails, or makes a device that goes again: nothing is left of it either way."""
        client = await self._negotiated()
        self.process.look()
        devices = await self._devices(client)
        files = self.process.files()
        for _ in range(self.random.randint(1, 4)):
            fails = self.random.random() < 0.7
            backend = self._failing_backend() if fails else self._backend()
            reply = await self._exchange(client, "chardev-add", id="soaked", backend=backend)
            if ("error" in reply) != fails:
                raise Wrong(f"{self.name}: chardev-add {backend} says {reply}")
            if not fails:
                await self._returned(client, "chardev-remove", id="soaked")
        again = await self._devices(client)
        if again != devices:
            raise Wrong(f"{self.name} has devices {again}, and should {devices}")
        await self._settles("files of devices stay open", lambda: self.process.files().keys() <= files.keys())
        await self.compare(self._same())

    async def _devices(self, client: Client) -> dict[str, str]:
        """What each character device is called, whether somebody is connected or not: others come and go meanwhile."""
        told = await self._returned(client, "query-chardev")
        names = {each["label"]: each["filename"].removeprefix("disconnected:") for each in told}
        return {label: name.partition(" <-> ")[0] for label, name in names.items()}

    def _backend(self) -> dict[str, Any]:
        path, socket = str(self._folder / "chardev-out"), _unix(str(self._folder / "chardev-sock"))
        backends: tuple[dict[str, Any], ...] = (
            {"type": "null", "data": {}},
            {"type": "ringbuf", "data": {"size": 4096}},
            {"type": "file", "data": {"out": path}},
            {"type": "file", "data": {"out": path, "in": "/dev/null"}},
            {"type": "socket", "data": {"addr": socket, "server": True, "wait": False}},
        )
        return self.random.choice(backends)

    def _failing_backend(self) -> dict[str, Any]:
        path, taken = str(self._folder / "chardev-out"), self.place.doors[1]
        assert not isinstance(taken, str)
        port = {"type": "inet", "data": {"host": taken[0], "port": str(taken[1])}}
        missing = {"type": "fd", "data": {"str": "none"}}
        backends: tuple[dict[str, Any], ...] = (
            {"type": "file", "data": {"out": path, "in": "/nonexistent/in"}},
            {"type": "file", "data": {"out": "/nonexistent/out"}},
            {"type": "file", "data": {"out": "/nonexistent/out", "in": "/dev/null"}},
            {"type": "socket", "data": {"addr": _unix("/nonexistent/sock"), "server": True, "wait": False}},
            {"type": "socket", "data": {"addr": _unix("/nonexistent/sock"), "server": False}},
            {"type": "socket", "data": {"addr": port, "server": True, "wait": False}},
            {"type": "socket", "data": {"addr": missing, "server": True, "wait": False}},
            {"type": "ringbuf", "data": {"size": 4095}},
            {"type": "pipe", "data": {"device": "/nonexistent/pipe"}},
        )
        return self.random.choice(backends)


class Bare(Program):
    """The same without a guest, without a control socket, and in the computer's time: as most use it."""

    plays = False


class Updated(Hosted):
    """`qmpd serve` with live update: its process is replaced while its clients go on."""

    steps = (*Hosted.steps, "update", "update")

    async def _make(self) -> None:
        folder = self._folder
        folder.mkdir(exist_ok=True)
        release = self.random.choice(list(RULES))
        door, control = str(folder / "qmp.sock"), str(folder / "control.sock")
        options = ["--release", release, "-extension", "live-update", "-socket", door, "-control", f"unix:{control}"]
        guest = ["-machine", "pc", "-guest", GUEST, "-clock", "virtual", *DEVICES, *KEPT]
        self.process = Process(folder, [*SERVE, *options, *guest])
        await self.process.listens(door)
        await self.process.listens(control)
        self.process.growth += TRANSCRIPT
        self.place = Place(f"{release}+live-update", [door], control)
        self._expect(release, True)

    async def do_update(self) -> None:
        """The process is replaced, or is to be and is not."""
        client = await self._negotiated()
        kind = self.random.random()
        if kind < 0.6:
            await self._update(client)
        elif kind < 0.7:
            await self._cancelled(client)
        else:
            await self._failed(client)
        self.process.look()
        await self._settles("a child is left", lambda: not self.process.children())

    async def _prepared(self, client: Client, **arguments: object) -> None:
        """Have a child that is ready, which everybody is told."""
        await self._returned(client, "live-update-prepare", timeout=60_000, **arguments)
        for each in self.clients:
            if each.negotiated:
                await each.until(b'"INIT_COMPLETE"')
        self.model._event("INIT_COMPLETE")
        outcome = Outcome(self.model.copy())
        self._tell(outcome)
        await self.compare([outcome])

    async def _update(self, client: Client) -> None:
        await self._prepared(client)
        self.process.look()
        former = self.process.pid
        # Others ask while it happens, and so does the one that wants it.
        others = [each for each in self.clients if each is not client]
        asking = self.random.sample(others, min(len(others), self.random.choice((0, 1, 2))))
        batches = [self._batch(each, 2) for each in asking]
        commit = [self._sent(client, "live-update-commit", timeout=30_000), *self._batch(client, 3)]
        for batch in batches:
            await self._send(batch)
        await self._send(commit)
        batches.append(commit)
        for batch in batches:
            await batch[0].client.until_replies(len(batch))
        await self.compare(self._outcomes(batches))
        self.process.look()
        if self.process.pid == former:
            raise Wrong(f"{self.name} is still run by process {former}")
        await self._settles(f"process {former} is still there", lambda: self.process.is_gone(former))
        self.ledger.updates += 1

    async def _cancelled(self, client: Client) -> None:
        if self.random.random() < 0.5:
            await self._prepared(client)
        else:
            await self._returned(client, "live-update-prepare", timeout=60_000)
        await self._returned_amid_news(client, "live-update-cancel")
        await self._stage(client, "none")
        await self._compare_amid_news()

    async def _failed(self, client: Client) -> None:
        """A child that does not do what it should costs the machine nothing."""
        random = self.random
        if random.random() < 0.5:
            program = children.never_ready(self._folder, random.choice(list(children.NEVER_READY)))
            await self._returned(client, "live-update-prepare", program=program, timeout=300)
        else:
            name, moment = random.choice(list(children.FAILING)), random.choice(children.MOMENTS)
            program = children.failing(self._folder, name, moment, ROOT)
            await self._prepared(client, program=program)
            began = time.monotonic()
            reply = await self._exchange(client, "live-update-commit", timeout=400)
            if "error" not in reply:
                raise Wrong(f"{self.name}: a child that {name} at '{moment}' has taken over: {reply}")
            if time.monotonic() - began > 5.0:
                raise Wrong(f"{self.name} stands still for a child that {name} at '{moment}'")
        await self._stage(client, "failed")
        self.process.look()
        await self._settles(f"a child that is {program} is left", lambda: not self.process.children())
        await self._returned(client, "live-update-cancel")
        await self.compare(self._same())

    async def _stage(self, client: Client, wanted: str) -> None:
        """Wait until the update is at this stage."""
        deadline = time.monotonic() + 20.0
        while (status := await self._returned_amid_news(client, "live-update-query"))["stage"] != wanted:
            if time.monotonic() > deadline:
                raise Wrong(f"{self.name} comes to stage {status}, not to {wanted}")
            await trio.sleep(0.01)

    async def _returned_amid_news(self, client: Client, name: str) -> Any:
        """What a command returns while INIT_COMPLETE may come."""
        command = self._sent(client, name)
        await self._send([command])
        await client.until_replies(1)
        self.ledger.replies += 1
        reply = ""
        for line in client.take().splitlines(keepends=True):
            if line.startswith('{"timestamp"'):
                client.inbox += line.encode()
            else:
                reply = line
        return json.loads(reply)["return"]

    async def _compare_amid_news(self) -> None:
        """Nobody knows whether INIT_COMPLETE came before the end of an update that was none."""
        late = Outcome(self.model.copy())
        late.model._event("INIT_COMPLETE")
        self._tell(late)
        await self.compare([Outcome(self.model.copy()), late])

    async def _prepare_end(self) -> Callable[[], Awaitable[None]]:
        if self.random.random() < 0.3:
            return self._end
        client = await self._negotiated()
        await self._prepared(client)
        return lambda: self._end_amid_update(client)

    async def _end_amid_update(self, client: Client) -> None:
        """A signal comes to a process which is about to be replaced, or just was."""
        self.process.look()
        former = self.process.pid
        await client.send(b'{"execute": "live-update-commit", "arguments": {"timeout": 30000}}')
        with trio.move_on_after(self.random.choice((0.0, 0.001, 0.01, 0.05, 1.0))):
            await client.until_replies(1)
        if not self.process.is_leaving(former):
            with suppress(ProcessLookupError):
                os.kill(former, signal.SIGTERM)
            await trio.sleep(0.005)
            if not self.process.is_leaving(former):
                # It was there to hear the signal, whoever acts on it.
                await client.until(b'"SHUTDOWN"')
                if b'"SHUTDOWN"' not in client.inbox:
                    raise Wrong(f"{self.name} has lost a signal that came while it was replaced")
                return
        self.process.look()
        self.process.signal(signal.SIGTERM)


def _unix(path: str) -> dict[str, object]:
    return {"type": "unix", "data": {"path": path}}
