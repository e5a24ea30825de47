"""One machine of the soak, its clients and what they do; every byte that comes is compared with the model's.

Where several clients send at once the machine may take their commands in any order, so there are several things that
may happen; `Actor.models` are all machines that fit what was seen so far, almost always one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from endurance import plugged
from endurance.client import Client, Lost
from endurance.model import CHOICES, RULES, Machine, reply_line
from endurance.plugged import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from endurance.ledger import Ledger

GUEST = "boot-time=2s,powerdown-delay=1500ms,unplug-delay=700ms,balloon-delay=300ms"
OPTIONS = ["-machine", "pc", "-guest", GUEST, "-clock", "virtual",
           "-device", "pvpanic", "-device", "ib700", "-device", "isa-debug-exit"]  # fmt: skip
WITHOUT_GUEST = ["-machine", "none", "-clock", "virtual"]

ASKING = ("query-status", "query-name", "query-uuid", "query-kvm", "query-current-machine", "qmp_capabilities", "bad")
HARMLESS = ("stop", "cont", "query-status", "query-name")
DOING = ("stop", "cont", "stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi")
GUEST_ACTIONS = ("reboot", "triple-fault", "shut-down", "hibernate", "suspend", "suspend", "suspend", "wake", "wake",
                 "halt", "panic", "crash-load", "expire-watchdog", "expire-watchdog", "internal-error", "io-error",
                 "proceed", "proceed", "debug-exit",
                 *("release-device", "refuse-device", "set-balloon") * 4)  # fmt: skip
SIZES = (plugged.MEMORY, plugged.MEMORY // 2, 100 << 20, 77 << 20)
ARGUMENTS: dict[str, dict[str, object]] = {"io-error": {"device": "disk0"}, "debug-exit": {"value": 5}}
FAULTS = ("delay", "stall", "drop", "garbage", "early-event", "close", "refuse", "exhaust", "hang", "kill", "vanish")
PLUG_EVENTS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "BALLOON_CHANGE")
GARBAGE = "~garbage~\r\n"


class Wrong(Exception):  # noqa: N818 (what the server says is)
    """Something came that must not, or did not come."""


@dataclass
class Sent:
    """A command on its way."""

    client: Client
    name: str
    arguments: dict[str, Any]
    identity: str
    out_of_band: bool = False

    def text(self) -> bytes:
        """The command as it is sent."""
        message: dict[str, object] = {"exec-oob" if self.out_of_band else "execute": self.name, "id": self.identity}
        if self.arguments:
            message["arguments"] = self.arguments
        return json.dumps(message).encode()


@dataclass
class Outcome:
    """What may happen: the machine afterwards, and what each client gets (by name)."""

    model: Machine
    streams: dict[str, str] = field(default_factory=dict)
    control: str | None = None

    def key(self) -> str:
        """What differs where two outcomes do."""
        return f"{self.model.key()} {sorted(self.streams.items())}"

    def copy(self) -> Outcome:
        """Another one like it."""
        return Outcome(self.model.copy(), dict(self.streams), self.control)

    def say(self, client: Client, text: str) -> None:
        """`text` goes to this client."""
        self.streams[client.name] = self.streams.get(client.name, "") + text


def merges(threads: list[list[Sent]]) -> Iterator[list[Sent]]:
    """All orders in which commands may be taken that keep the order in each thread."""
    rest = [thread for thread in threads if thread]
    if not rest:
        yield []
    for position, thread in enumerate(rest):
        for tail in merges([*rest[:position], thread[1:], *rest[position + 1 :]]):
            yield [thread[0], *tail]


class Actor:
    """Plays the clients of one machine.  `create` makes the machine and gives its folder."""

    def __init__(
        self,
        number: int,
        clients: int,
        random: Random,
        ledger: Ledger,
        create: Callable[[str, str, list[str]], Any],
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
        self.folder = ""
        self.clients: list[Client] = []
        # Those who have left, too.
        self._all: list[Client] = []
        self.control: Client | None = None
        self.models: list[Machine] = []

    # The machine's life

    async def begin(self) -> None:
        """Have a new machine, with clients."""
        random = self.random
        self.close()
        self._generation += 1
        self.name = f"soak-{self.number}-{self._generation}"
        release = random.choice(list(RULES))
        guest = random.random() < 0.8
        self.folder = await self._create(self.name, release, OPTIONS if guest else WITHOUT_GUEST)
        self.models = [Machine(release, guest)]
        self.ledger.note(f"{self.name} is a {release}, {'with a' if guest else 'without'} guest")
        self.ledger.machines += 1
        for _ in range(self._count):
            await self.join()
        if guest and random.random() < 0.8:
            self.control = Client("control")
            self._all.append(self.control)
            self.control.connect(f"{self.folder}/control.sock")
            await self.ask("qmp_capabilities")

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
        client = self._connected()
        self.clients.append(client)
        await client.until(b'"QMP"')
        await client.until(b"\r\n", 1 + bool(before))
        self._expect_greeting(client, before)
        await self._negotiate(client)
        return client

    def _connected(self) -> Client:
        self._connections += 1
        client = Client(f"{self.name}.{self._connections}")
        self._all.append(client)
        client.connect(f"{self.folder}/qmp.sock")
        self.ledger.clients += 1
        return client

    def _expect_greeting(self, client: Client, before: str) -> None:
        text = client.take()
        if not text.startswith(before):
            raise Wrong(f"{client.name} gets {text!r} instead of {before!r}")
        text = text[len(before) :]
        wanted = self.ledger.greetings.setdefault(self.model.release, text)
        version = json.loads(text)["QMP"]["version"]["qemu"]
        if text != wanted or (version["major"], version["minor"]) != self.model.rules.version[:2]:
            raise Wrong(f"{client.name} is greeted with {text!r}")
        self.ledger.note(f"{client.name} < {text}")

    async def _negotiate(self, client: Client) -> None:
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

    # Sending, and comparing what comes

    def _sent(self, client: Client, name: str, **arguments: object) -> Sent:
        self._identity += 1
        return Sent(client, name, arguments, f"n{self._identity}")

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
        line = reply_line(model, command.name, command.arguments, command.client.negotiated, command.identity)
        at_once = not model.rules.reply_first or command.name in ("stop", "cont")
        if at_once:
            self._tell(outcome)
        if reply:
            outcome.say(command.client, line)
        if not at_once:
            self._tell(outcome)
        return line

    def _tell(self, outcome: Outcome, without: Client | None = None) -> None:
        """The events since the last time go to everybody who has negotiated."""
        for event in outcome.model.take():
            for client in self.clients:
                if client.negotiated and client is not without:
                    outcome.say(client, event)

    async def compare(self, outcomes: list[Outcome], without: Client | None = None) -> int:
        """Ask each client for the status, and see which of the outcomes are what has come; how many replies that are.

        :raise Wrong: none is.
        """
        asked = [client for client in self.clients if client is not without]
        barrier = {client.name: self._sent(client, "query-status") for client in asked}
        for client in asked:
            if not client.at_end:
                await client.send(barrier[client.name].text())
        for client in asked:
            await client.until(f'"id": "{barrier[client.name].identity}"'.encode())
            if not client.at_end:
                await client.until(b"\r\n", client.inbox.count(b"\r\n") + (not client.inbox.endswith(b"\r\n")))
        found = {client.name: client.take() for client in asked}
        for client in asked:
            self.ledger.note(f"{client.name} < {found[client.name]}")
        fitting: dict[str, Outcome] = {}
        for outcome in outcomes:
            wanted = dict(outcome.streams)
            for client in asked:
                line = ""
                if not outcome.model.ended:
                    command = barrier[client.name]
                    line = reply_line(outcome.model, command.name, {}, client.negotiated, command.identity)
                wanted[client.name] = wanted.get(client.name, "") + line
            ends = all(client.at_end == outcome.model.ended for client in asked)
            if ends and all(found[client.name] == wanted[client.name] for client in asked):
                fitting[outcome.model.key()] = outcome
        if not fitting:
            self._complain(outcomes, found, asked)
        chosen = next(iter(fitting.values()))
        self.ledger.commands += 0 if chosen.model.ended else len(asked)
        for text in chosen.streams.values():
            self.ledger.events += text.count('"timestamp"')
            for name in PLUG_EVENTS:
                self.ledger.plug_events[name] += text.count(f'"event": "{name}"')
        replied = sum(text.count('"id": "') for text in found.values())
        self.ledger.replies += replied
        self.models = [outcome.model for outcome in fitting.values()]
        return replied

    def _complain(self, outcomes: list[Outcome], found: dict[str, str], asked: list[Client]) -> None:
        ended = [client.name for client in asked if client.at_end]
        wanted = [(outcome.streams, outcome.model) for outcome in outcomes[:3]]
        raise Wrong(f"{self.name} says {found} (closed: {ended}),\nand should (one of {len(outcomes)}) {wanted}")

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

    async def step(self) -> str:
        """Do one thing and compare; what it was.

        :raise Wrong: something is not as it has to be.
        """
        random = self.random
        if self.control is None or len(self.models) > 1 or random.random() < 0.35:
            what = random.choice(("talk", "talk", "talk", "talk", "talk", "leave"))
        else:
            what = random.choice(("guest", "guest", "advance", random.choice(FAULTS)))
        self.ledger.note(f"{self.name}: {what}")
        try:
            await getattr(self, f"do_{what.replace('-', '_')}")()
        except Lost as lost:
            raise Wrong(f"{self.name}, {what}: {lost}") from None
        if what in FAULTS:
            self.ledger.faults[what] += 1
        if self.model.ended:
            for client in self.clients:
                await client.until_end()
            await self.begin()
        return what

    def _command(self, client: Client) -> Sent:
        random = self.random
        chance = random.random()
        if chance < 0.004:
            return self._sent(client, "quit")
        if chance < 0.1:
            name = random.choice(list(CHOICES))
            value = random.choice((*CHOICES[name], "pause" if name == "shutdown" else "x"))
            return self._sent(client, "set-action", **{name: value})
        if chance < 0.14:
            return self._sent(client, "watchdog-set-action", action=random.choice(CHOICES["watchdog"]))
        if chance < 0.18:
            return self._sent(client, "query-name", unknown="x")
        if chance < 0.45:
            return self._plugging(client)
        name = random.choice(ASKING if chance < 0.65 else DOING)
        # Whoever has not negotiated stays so: who gets which event must not depend on the order of commands.
        return self._sent(client, "query-name" if name == "qmp_capabilities" and not client.negotiated else name)

    def _plugging(self, client: Client) -> Sent:
        random = self.random
        device = {"id": random.choice(plugged.DEVICES)}
        made: list[tuple[str, dict[str, object]]] = [
            ("device_add", {"driver": plugged.BALLOON, **device}),
            ("device_add", {"driver": plugged.RNG, **device}),
            ("device_del", {**device}),
            ("device_del", {**device}),
            ("balloon", {"value": random.choice((*SIZES, 100_000_000, 1 << 40))}),
            ("query-balloon", {}),
            (random.choice(("netdev_add", "netdev_del")), {"id": random.choice(plugged.NETDEVS)}),
            (random.choice(("object-add", "object-del")), {"id": random.choice(plugged.OBJECTS)}),
        ]
        name, arguments = random.choice(made)
        if name == "netdev_add":
            arguments["type"] = "user"
        if name == "object-add":
            arguments["qom-type"] = "iothread"
        return self._sent(client, name, **arguments)

    def _batch(self, client: Client, most: int) -> list[Sent]:
        commands = [self._command(client) for _ in range(self.random.randint(1, most))]
        if client.out_of_band and self.random.random() < 0.4:
            position = self.random.randrange(len(commands) + 1)
            commands.insert(position, self._urgent(client))
        return commands

    def _outcomes(self, batches: list[list[Sent]]) -> list[Outcome]:
        threads = []
        for batch in batches:
            threads += [[each for each in batch if each.out_of_band], [each for each in batch if not each.out_of_band]]
        outcomes: dict[str, Outcome] = {}
        for model in self.models:
            for order in merges(threads):
                going = [Outcome(model.copy())]
                for command in order:
                    going = [each for outcome in going for each in self._sooner_or_later(outcome)]
                    for outcome in going:
                        if not outcome.model.ended:
                            self._perform(outcome, command)
                        elif command.out_of_band:
                            # Nobody waits for its reply, but as long as the connection is open it may come.
                            outcomes[outcome.key()] = outcome.copy()
                            self._perform(outcome, command)
                for outcome in going:
                    outcome.model.tell_later()
                    self._tell(outcome)
                    # Most orders come to the same.
                    outcomes[outcome.key()] = outcome
        return list(outcomes.values())

    def _sooner_or_later(self, outcome: Outcome) -> list[Outcome]:
        """What comes later than what brought it about comes before the next command, or not yet."""
        if not outcome.model.owes:
            return [outcome]
        sooner = outcome.copy()
        sooner.model.tell_later()
        self._tell(sooner)
        return [outcome, sooner]

    async def do_talk(self) -> None:
        """One client or several at once send a few commands each."""
        random = self.random
        most = {1: 6, 2: 3, 3: 2}[count := min(len(self.clients), random.choice((1, 1, 2, 2, 3)))]
        batches = [self._batch(client, most) for client in random.sample(self.clients, count)]
        for batch in batches:
            await self._send(batch)
        for batch in batches:
            await batch[0].client.until(b'"id": "', len(batch))
        replied = await self.compare(self._outcomes(batches))
        if self.model.ended:
            self.ledger.lost_by_design += sum(map(len, batches)) - replied

    async def do_leave(self) -> None:
        """A client closes its end, and still gets what it has asked for; another one comes."""
        client = self.random.choice(self.clients)
        batch = self._batch(client, 4)
        await self._send(batch)
        client.half_close()
        await client.until_end()
        text = client.take()
        self.ledger.replies += len(replies(text))
        self.ledger.lost_by_design += len(batch) - len(replies(text))
        self.clients.remove(client)
        # Events are not for it any more from some moment on, so that only replies count here.
        outcomes = self._outcomes([batch])
        fitting = [each for each in outcomes if replies(each.streams.get(client.name, "")) == replies(text)]
        client.close()
        if not fitting:
            wanted = [each.streams.get(client.name) for each in outcomes[:3]]
            raise Wrong(f"{client.name} leaves with {text!r} instead of one of {wanted}")
        if self.clients:
            await self.compare(fitting)
        else:
            self.models = [each.model for each in fitting]
        if not self.model.ended:
            await self.join()

    async def do_guest(self) -> None:
        """The guest does something."""
        action = self.random.choice(GUEST_ACTIONS)
        self.ledger.actions += 1
        arguments = ARGUMENTS.get(action, {})
        if action in ("release-device", "refuse-device"):
            arguments = {"device": self.random.choice(plugged.DEVICES)}
        elif action == "set-balloon":
            arguments = {"size": self.random.choice(SIZES)}
        await self._play(f"guest-{action}", arguments, lambda model: model.act(action, arguments))

    async def do_advance(self) -> None:
        """Time passes."""
        milliseconds = self.random.choice((1, 7, 40, 300, 1100, 5000))
        arguments: dict[str, object] = {"time": f"{milliseconds}ms"}
        await self._play("clock-advance", arguments, lambda model: model.advance(milliseconds * 1_000_000))

    async def _play(self, name: str, arguments: dict[str, object], play: Callable[[Machine], None]) -> None:
        outcome = Outcome(self.model.copy())
        refusal = ""
        try:
            play(outcome.model)
        except Refused as refused:
            refusal = refused.text
        outcome.model.tell_later()
        self._tell(outcome)
        error = await self.ask(name, **arguments)
        if error != refusal:
            raise Wrong(f"{self.name}: {name} {arguments} says {error!r}, and should {refusal!r}; {self.model}")
        await self.compare([outcome])

    # Faults

    def _victim(self) -> tuple[Client, Sent, Outcome]:
        client = self.random.choice(self.clients)
        return client, self._sent(client, self.random.choice(HARMLESS)), Outcome(self.model.copy())

    async def do_delay(self) -> None:
        """A reply comes later, and what was sent behind it waits."""
        client, first, outcome = self._victim()
        second = self._sent(client, "query-uuid")
        await self._done("fault-delay-reply", time="77.7ms", command=first.name, count=1)
        await self._send([first, second])
        line = self._perform(outcome, first, reply=False)
        # That the command was taken shows nowhere else; the control socket sees to it that it was.
        await self._done("query-faults")
        outcome.model.advance(77_700_000)
        self._tell(outcome)
        if not outcome.model.ended:
            outcome.say(client, line)
            self._perform(outcome, second)
        else:
            self.ledger.lost_by_design += 2
        await self._done("clock-advance", time="77.7ms")
        await client.until(b'"id": "', 2)
        await self.compare([outcome])

    async def do_stall(self) -> None:
        """Half a reply comes, and the rest when the fault is cleared."""
        client, command, outcome = self._victim()
        await self._done("fault-stall", command=command.name, count=1)
        await self._send([command])
        line = self._perform(outcome, command)
        whole = outcome.streams[client.name]
        half = whole[: whole.index(line) + len(line) // 2]
        await self._done("query-faults")
        await client.until(half.encode())
        if client.take() != half:
            raise Wrong(f"{client.name} stalls, but not after {half!r}")
        await self._done("fault-clear")
        outcome.streams[client.name] = whole[len(half) :]
        await self.compare([outcome])
        # Its id may have come in the first half.
        self.ledger.replies += '"id": "' in half[half.rfind("\n") + 1 :]

    async def do_drop(self) -> None:
        """The connection is dropped around a reply."""
        client, command, outcome = self._victim()
        when = self.random.choice(("before-reply", "within-reply", "after-reply"))
        await self._done("fault-drop-connection", when=when, command=command.name, count=1)
        await self._send([command])
        line = self._perform(outcome, command)
        whole = outcome.streams.pop(client.name)
        kept = {"before-reply": 0, "within-reply": len(line) // 2, "after-reply": len(line)}[when]
        wanted = whole[: whole.index(line) + kept]
        self.ledger.lost_by_design += when != "after-reply"
        await client.until_end()
        if (text := client.take()) != wanted:
            raise Wrong(f"{client.name} is dropped {when} with {text!r} instead of {wanted!r}")
        self.ledger.replies += when == "after-reply"
        self.clients.remove(client)
        client.close()
        await self._done("query-faults")
        await self.compare([outcome])
        await self.join()

    async def do_garbage(self) -> None:
        """Bytes that are no message come around a reply, or instead of it."""
        client, command, outcome = self._victim()
        when = self.random.choice(("before-reply", "instead-of-reply", "after-reply"))
        await self._done("fault-garbage", when=when, command=command.name, count=1, data=GARBAGE)
        await self._send([command])
        line = self._perform(outcome, command)
        instead = {"before-reply": GARBAGE + line, "instead-of-reply": GARBAGE, "after-reply": line + GARBAGE}[when]
        outcome.streams[client.name] = outcome.streams[client.name].replace(line, instead)
        self.ledger.lost_by_design += when == "instead-of-reply"
        await client.until(GARBAGE.encode())
        await self.compare([outcome])

    async def do_early_event(self) -> None:
        """A client gets an event before it is greeted."""
        await self._done("fault-early-event", event="WAKEUP", count=1)
        self.model.said.clear()
        self.model._event("WAKEUP")
        await self.join(self.model.take()[0])
        await self._make_room()
        await self.compare([Outcome(self.model.copy())])

    async def do_close(self) -> None:
        """A client is turned away."""
        await self._done("fault-close-connections", count=1)
        client = self._connected()
        await client.until_end()
        if text := client.take():
            raise Wrong(f"{client.name} is turned away with {text!r}")
        client.close()
        await self.compare([Outcome(self.model.copy())])

    async def do_refuse(self) -> None:
        """Nobody listens for a while."""
        await self._done("fault-refuse-connections")
        try:
            client = self._connected()
        except ConnectionRefusedError:
            pass
        else:
            raise Wrong(f"{client.name} connects, and nobody should listen")
        await self._done("fault-clear")
        await self.join()
        await self._make_room()
        await self.compare([Outcome(self.model.copy())])

    async def do_exhaust(self) -> None:
        """A client is accepted when there are descriptors again."""
        await self._done("fault-exhaust-descriptors")
        client = self._connected()
        await self.compare([Outcome(self.model.copy())])
        with trio.move_on_after(0):
            await client.receive()
        if text := client.take():
            raise Wrong(f"{client.name} is served without a descriptor: {text!r}")
        await self._done("fault-clear")
        await client.until(b"\r\n")
        self._expect_greeting(client, "")
        self.clients.append(client)
        await self._negotiate(client)
        await self._make_room()
        await self.compare([Outcome(self.model.copy())])

    async def do_hang(self) -> None:
        """The main loop hangs; out-of-band commands work meanwhile."""
        client, command, outcome = self._victim()
        await self._done("fault-hang-main-loop")
        await self._send([command])
        await self._done("query-faults")
        with trio.move_on_after(0):
            await client.receive()
        if text := client.take():
            raise Wrong(f"{client.name} gets {text!r} from a main loop that hangs")
        for other in self.clients:
            if other.out_of_band and other is not client:
                urgent = self._urgent(other)
                await self._send([urgent])
                await other.until(b'"id": "')
                self._perform(outcome, urgent)
        await self._done("fault-clear")
        self._perform(outcome, command)
        await client.until(b'"id": "')
        await self.compare([outcome])

    async def do_kill(self) -> None:
        """The machine ends as if it were killed: no event, no reply."""
        assert self.control is not None
        await self.control.send(b'{"execute":"fault-kill"}')
        for client in self.clients:
            await client.until_end()
            if text := client.take():
                raise Wrong(f"{client.name} gets {text!r} from a machine that was killed")
        self.model.ended = True

    async def do_vanish(self) -> None:
        """A client sends and is gone: what it has asked for may have been done or not."""
        client = self.random.choice(self.clients)
        batch = [self._sent(client, self.random.choice(HARMLESS)) for _ in range(self.random.randint(1, 4))]
        await self._send(batch)
        self.clients.remove(client)
        client.close()
        outcomes = []
        for count in range(len(batch) + 1):
            outcome = Outcome(self.model.copy())
            for command in batch[:count]:
                self._perform(outcome, command)
            outcomes.append(outcome)
        self.ledger.lost_by_design += len(batch)
        await self._done("query-faults")
        if not self.clients:
            self.models = [outcome.model for outcome in outcomes]
        await self.join()
        if len(self.clients) > 1:
            newcomer = self.clients.pop()
            await self.compare(outcomes)
            self.clients.append(newcomer)

    async def _make_room(self) -> None:
        """There are no more clients in the end than there were."""
        while len(self.clients) > self._count:
            client = self.random.choice(self.clients)
            self.clients.remove(client)
            client.close()


def replies(text: str) -> list[str]:
    """The lines of `text` that are no events."""
    return [line for line in text.splitlines() if not line.startswith('{"timestamp"')]
