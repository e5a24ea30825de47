"""One machine of the soak and its clients; every byte that comes is compared with the model's.

Where several clients send at once the machine may take their commands in any order, so there are several things that
may happen; `Actor.models` are all machines that fit what was seen so far, almost always one.

What may be done to a machine is in `endurance.talk`, `endurance.faults`, `endurance.pressure` and `endurance.hosted`,
each one class on top of the one before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from endurance.client import Client, Lost
from endurance.identities import any_id, numbered
from endurance.model import RULES, Machine, reply_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from random import Random

    from endurance.client import Address
    from endurance.ledger import Ledger
    from endurance.steady import Steady

GUEST = "boot-time=2s,powerdown-delay=1500ms,unplug-delay=700ms,balloon-delay=300ms"
DEVICES = ["-device", "pvpanic", "-device", "ib700", "-device", "isa-debug-exit"]
OPTIONS = ["-machine", "pc", "-guest", GUEST, "-clock", "virtual", *DEVICES]
WITHOUT_GUEST = ["-machine", "none", "-clock", "virtual"]
KEPT = ["-no-shutdown"]
"""With these a machine lives until it is told to quit."""

PLUG_EVENTS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "BALLOON_CHANGE")
LARGE = 20_000
"""Bytes of a line from which on it is a reply to `query-qmp-schema`."""


class Wrong(Exception):  # noqa: N818 (what the server says is)
    """Something came that must not, or did not come."""


@dataclass
class Sent:
    """A command on its way; its id is written one way, and told in another."""

    client: Client
    name: str
    arguments: dict[str, Any]
    identity: str
    sent_identity: str
    out_of_band: bool = False

    def text(self) -> bytes:
        """The command as it is sent."""
        name = "exec-oob" if self.out_of_band else "execute"
        arguments = f', "arguments": {json.dumps(self.arguments)}' if self.arguments else ""
        return f'{{"{name}": "{self.name}", "id": {self.sent_identity}{arguments}}}'.encode()


@dataclass
class Outcome:
    """What may happen: the machine afterwards, what each client gets (by name), and which events there were."""

    model: Machine
    streams: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def key(self) -> str:
        """What differs where two outcomes do."""
        return f"{self.model.key()} {sorted(self.streams.items())}"

    def copy(self) -> Outcome:
        """Another one like it."""
        return Outcome(self.model.copy(), dict(self.streams), list(self.events))

    def say(self, client: Client, text: str) -> None:
        """`text` goes to this client."""
        self.streams[client.name] = self.streams.get(client.name, "") + text


@dataclass
class Loose:
    """What a client gets of which the order between replies and events is open: `replies` as they come, `events` first
    of all those that come with the outcome."""

    replies: Callable[[list[str]], bool]
    events: list[str] | None = field(default_factory=list)

    def fits(self, text: str, told: list[str], negotiated: bool) -> bool:
        """Whether this is what has come, with the events that were told meanwhile."""
        lines = text.splitlines(keepends=True)
        heard = [line for line in lines if line.startswith('{"timestamp"')]
        wanted = [*(self.events or ()), *told] if negotiated else []
        return (self.events is None or heard == wanted) and self.replies([line for line in lines if line not in heard])


@dataclass(frozen=True)
class Place:
    """Where a machine is: its monitors' sockets, each for one client at a time where they are `exclusive`, and its
    control socket, where it has one.  What it says of its schema depends on `kind` alone."""

    kind: str
    doors: Sequence[Address]
    control: str | None = None
    exclusive: bool = False


def difference(found: str, wanted: str) -> str:
    """Where two texts part, and how they go on."""
    place = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), None)
    place = min(len(found), len(wanted)) if place is None else place
    begin = max(0, place - 60)
    told, should = found[begin : begin + 400], wanted[begin : begin + 400]
    return f"after {begin} bytes: {told!r}\n  and should (before its own status): {should!r}"


def merges(threads: list[list[Sent]]) -> Iterator[list[Sent]]:
    """All orders in which commands may be taken that keep the order in each thread."""
    rest = [thread for thread in threads if thread]
    if not rest:
        yield []
    for position, thread in enumerate(rest):
        for tail in merges([*rest[:position], thread[1:], *rest[position + 1 :]]):
            yield [thread[0], *tail]


class Actor:
    """Plays the clients of one machine, which lives for the whole run where it is `kept`.

    `create` makes the machine, of a name, a release and options, and says where it is.
    """

    kept = False
    family = "soak"
    """What its machines' names begin with."""
    leisurely = True
    """Whether there are clients that take their time: where time is virtual each pause takes real one."""

    def __init__(
        self,
        number: int,
        clients: int,
        random: Random,
        ledger: Ledger,
        create: Callable[[str, str, list[str]], Awaitable[Place]],
    ) -> None:
        self.number = number
        self.random = random
        self.ledger = ledger
        self._create = create
        self._count = clients
        self._generation = 0
        self._identity = 0
        self._connections = 0
        self.name = ""
        self.place = Place("", [])
        self.clients: list[Client] = []
        # Those who have left, too.
        self._all: list[Client] = []
        self.control: Client | None = None
        self.models: list[Machine] = []
        # Those who never stop asking (`endurance.steady`), and what was told since the last comparison; None: either.
        self.steady: list[Steady] = []
        self.told: list[str] | None = []

    # The machine's life

    async def begin(self) -> None:
        """Have a new machine, with clients."""
        self.close()
        self._generation += 1
        self.name = f"{self.family}-{self.number}-{self._generation}"
        await self._make()
        self.ledger.machines += 1
        for _ in range(self._count):
            await self.join()
        await self._learn_schema()
        if self.place.control is not None and (self.kept or self.random.random() < 0.8):
            self.control = Client("control")
            self._all.append(self.control)
            await self.control.connect(self.place.control)
            await self.ask("qmp_capabilities")

    async def _make(self) -> None:
        random = self.random
        release = random.choice(list(RULES))
        guest = random.random() < 0.8
        options = [*(OPTIONS if guest else WITHOUT_GUEST), *(KEPT if self.kept else ())]
        self.place = await self._create(self.name, release, options)
        self._expect(release, guest)

    def _expect(self, release: str, guest: bool) -> None:
        """Begin with a model of what was made."""
        self.models = [Machine(release, guest, shutdown="pause" if self.kept else "poweroff")]
        self.ledger.note(f"{self.name} is a {release}, {'with a' if guest else 'without'} guest")

    def close(self) -> None:
        """Close all connections."""
        for client in self._all:
            client.close()
        self._all.clear()
        self.clients = []
        self.control = None

    @property
    def model(self) -> Machine:
        return self.models[0]

    async def join(self, before: str = "") -> Client:
        """One more client is greeted, after `before`, and most of them negotiate."""
        client = await self._connected()
        self.clients.append(client)
        await client.until(b'"QMP"')
        await client.until(b"\r\n", 1 + bool(before))
        self._expect_greeting(client, before)
        await self._negotiate(client)
        return client

    async def _connected(self, room: int = 0) -> Client:
        self._connections += 1
        client = Client(f"{self.name}.{self._connections}")
        self._all = [each for each in self._all if each.socket.fileno() != -1]
        self._all.append(client)
        await client.connect(self._door(), room)
        self.ledger.clients += 1
        return client

    def _door(self) -> Address:
        """A monitor that takes one more client."""
        if not self.place.exclusive:
            return self.random.choice(self.place.doors)
        taken = [each.address for each in self.clients] + [each.address for each in self.steady]
        return self.random.choice([door for door in self.place.doors if door not in taken])

    def _expect_greeting(self, client: Client, before: str) -> None:
        text = client.take()
        if not text.startswith(before):
            raise Wrong(f"{client.name} gets {text!r} instead of {before!r}")
        text = text[len(before) :]
        wanted = self.ledger.greetings.setdefault(self.place.kind, text)
        version = json.loads(text)["QMP"]["version"]["qemu"]
        if text != wanted or (version["major"], version["minor"]) != self.model.rules.version[:2]:
            raise Wrong(f"{client.name} is greeted with {text!r}")
        self.ledger.note(f"{client.name} < {text}")

    async def _negotiate(self, client: Client, chance: float | None = None) -> None:
        if chance is None:
            chance = self.random.random()
        if chance < 0.1:
            return
        client.out_of_band = chance > 0.7
        enable: dict[str, object] = {"enable": ["oob"]} if client.out_of_band else {}
        await client.send(json.dumps({"execute": "qmp_capabilities", "arguments": enable}).encode())
        await client.until(b"\r\n")
        reply = client.take()
        if reply != '{"return": {}}\r\n':
            raise Wrong(f"{client.name} negotiates and gets {reply!r}")
        client.negotiated = True

    async def _learn_schema(self) -> None:
        """What `query-qmp-schema` returns is what it returned the first time; nobody expects more of it."""
        asking = next((client for client in self.clients if client.negotiated), None)
        if self.place.kind in self.ledger.schemas or asking is None:
            return
        await asking.send(b'{"execute": "query-qmp-schema", "id": "learn"}')
        await asking.until_replies(1)
        line = asking.take()
        start, end = '{"return": ', ', "id": "learn"}\r\n'
        if not (line.startswith(start) and line.endswith(end) and len(line) > LARGE):
            raise Wrong(f"{asking.name} gets {line[:200]!r} as a schema")
        self.ledger.schemas[self.place.kind] = line[len(start) : -len(end)]

    def shortened(self, text: str) -> str:
        """The text with the schema left out where that stands in it."""
        if len(text) < LARGE or self.place.kind not in self.ledger.schemas:
            return text
        return text.replace(self.ledger.schemas[self.place.kind], '"<schema>"')

    # Sending, and comparing what comes

    def _sent(self, client: Client, name: str, **arguments: object) -> Sent:
        """A command whose id is its own."""
        self._identity += 1
        told, sent = numbered(self._identity)
        return Sent(client, name, arguments, told, sent)

    def _sent_oddly(self, client: Client, name: str, **arguments: object) -> Sent:
        """A command with any id."""
        self._identity += 1
        sent, told = any_id(self.random, self._identity)
        return Sent(client, name, arguments, told, sent)

    def _urgent(self, client: Client) -> Sent:
        command = self._sent(client, "migrate-pause")
        command.out_of_band = True
        return command

    async def _send(self, commands: list[Sent]) -> None:
        self.ledger.commands += len(commands)
        data = b"\n".join(command.text() for command in commands) + b"\n"
        self.ledger.note(f"{commands[0].client.name} > {data!r}")
        await commands[0].client.send(data)

    def _perform(self, outcome: Outcome, command: Sent, reply: bool = True) -> str:
        """Execute a command in an outcome; what its reply is."""
        model = outcome.model
        line = self._reply(model, command)
        at_once = not model.rules.reply_first or command.name in ("stop", "cont", "device_add")
        if at_once:
            self._tell(outcome)
        if reply:
            outcome.say(command.client, line)
        if not at_once:
            self._tell(outcome)
        return line

    @staticmethod
    def _reply(model: Machine, command: Sent) -> str:
        return reply_line(model, command.name, command.arguments, command.client.negotiated, command.identity)

    def _tell(self, outcome: Outcome, without: Client | None = None) -> None:
        """The events since the last time go to everybody who has negotiated."""
        for event in outcome.model.take():
            outcome.events.append(event)
            for client in self.clients:
                if client.negotiated and client is not without:
                    outcome.say(client, event)

    async def compare(
        self,
        outcomes: list[Outcome],
        without: Client | None = None,
        loose: dict[Client, Loose] | None = None,
    ) -> int:
        """Ask each client for the status, and see which of the outcomes are what has come; how many replies that are.

        :raise Wrong: none is.
        """
        loose = loose or {}
        asked = [client for client in self.clients if client is not without]
        barrier = {client.name: self._sent(client, "query-status") for client in asked}
        for client in asked:
            if not client.at_end:
                await client.send(barrier[client.name].text())
        for client in asked:
            await client.until(f'"id": {barrier[client.name].identity}'.encode())
            if not client.at_end:
                await client.until(b"\r\n", client.inbox.count(b"\r\n") + (not client.inbox.endswith(b"\r\n")))
        found = {client.name: self.shortened(client.take()) for client in asked}
        for client in asked:
            self.ledger.note(f"{client.name} < {found[client.name]}")
        heard = [[self.shortened(line) for line in await steady.heard()] for steady in self.steady]
        fitting: dict[str, Outcome] = {}
        for outcome in outcomes:
            wanted = dict(outcome.streams)
            for client in asked:
                line = "" if outcome.model.ended else self._reply(outcome.model, barrier[client.name])
                wanted[client.name] = ("" if client in loose else wanted.get(client.name, "")) + line
            ends = all(client.at_end == outcome.model.ended for client in asked)
            if ends and self._fits(outcome, asked, found, wanted, loose, heard):
                fitting[outcome.model.key()] = outcome
        if not fitting:
            self._complain(outcomes, found, asked, heard)
        chosen = next(iter(fitting.values()))
        self._count_what_came(chosen, asked)
        lines = [line for text in found.values() for line in text.splitlines() if not line.startswith('{"timestamp"')]
        replied = sum(line.count('"id": ') for line in lines)
        self.ledger.replies += replied
        self.models = [outcome.model for outcome in fitting.values()]
        sure = all(outcome.events == chosen.events for outcome in fitting.values())
        self.told = chosen.events if sure else None
        return replied

    def _fits(
        self,
        outcome: Outcome,
        asked: list[Client],
        found: dict[str, str],
        wanted: dict[str, str],
        loose: dict[Client, Loose],
        heard: list[list[str]],
    ) -> bool:
        if any(events != outcome.events for events in heard):
            return False
        for client in asked:
            text, line = found[client.name], wanted[client.name]
            if client not in loose:
                fits = text == line
            else:
                before = text.removesuffix(line)
                fits = text.endswith(line) and loose[client].fits(before, outcome.events, client.negotiated)
            if not fits:
                return False
        return True

    def _count_what_came(self, chosen: Outcome, asked: list[Client]) -> None:
        self.ledger.commands += 0 if chosen.model.ended else len(asked)
        for text in chosen.streams.values():
            self.ledger.events += text.count('"timestamp"')
            for name in PLUG_EVENTS:
                self.ledger.plug_events[name] += text.count(f'"event": "{name}"')

    def _complain(
        self, outcomes: list[Outcome], found: dict[str, str], asked: list[Client], heard: list[list[str]]
    ) -> None:
        first = outcomes[0]
        lines = [f"{self.name} says what it must not, or does not say what it must (one of {len(outcomes)} ways):"]
        for client in asked:
            wanted = first.streams.get(client.name, "")
            lines.append(f"{client.name}{' (closed)' * client.at_end} {difference(found[client.name], wanted)}")
        lines += [f"somebody else hears {events}, and should {first.events}" for events in heard]
        raise Wrong("\n".join([*lines, f"{first.model}"]))

    # The control socket

    async def ask(self, name: str, **arguments: object) -> str:
        """Send a control command; its reply: empty, or the error's description."""
        assert self.control is not None
        message = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self.ledger.note(f"{self.name} control > {message}")
        await self.control.send(json.dumps(message).encode())
        greeting = name == "qmp_capabilities"
        await self.control.until(b"\r\n", 1 + greeting)
        text = self.control.take()
        if not text:
            raise Wrong(f"{self.name}: the control socket says nothing to {message}")
        reply = json.loads(text.splitlines()[-1])
        return reply["error"]["desc"] if "error" in reply else ""

    async def _done(self, name: str, **arguments: object) -> None:
        """Send a control command that must not fail."""
        error = await self.ask(name, **arguments)
        if error:
            raise Wrong(f"{self.name}: {name} {arguments} fails: {error}")

    # What may happen next

    def choose(self) -> str:
        """What to do next: the name of a method `do_...`."""
        raise NotImplementedError

    async def step(self) -> str:
        """Do one thing and compare; what it was.

        :raise Wrong: something is not as it has to be.
        """
        what = self.choose()
        self.ledger.note(f"{self.name}: {what}")
        try:
            await getattr(self, f"do_{what.replace('-', '_')}")()
        except Lost as lost:
            raise Wrong(f"{self.name}, {what}: {lost}") from None
        self.ledger.done[what] += 1
        if self.model.ended:
            if self.kept:
                raise Wrong(f"{self.name}, {what}: the machine has ended, and should live")
            for client in self.clients:
                await client.until_end()
            await self.begin()
        return what
