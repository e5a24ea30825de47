"""What the clients of a machine ask of it, what its guest does, and the passing of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endurance import plugged
from endurance.actor import Actor, Outcome, Sent, Wrong, merges
from endurance.model import CHOICES
from endurance.plugged import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from endurance.client import Client
    from endurance.model import Machine

ASKING = ("query-status", "query-name", "query-uuid", "query-kvm", "query-current-machine", "qmp_capabilities", "bad")
DOING = ("stop", "cont", "stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi")
GUEST_ACTIONS = ("reboot", "triple-fault", "shut-down", "hibernate", "suspend", "suspend", "suspend", "wake", "wake",
                 "halt", "panic", "crash-load", "expire-watchdog", "expire-watchdog", "internal-error", "io-error",
                 "proceed", "proceed", "debug-exit",
                 *("release-device", "refuse-device", "set-balloon") * 4)  # fmt: skip
SIZES = (plugged.MEMORY, plugged.MEMORY // 2, 100 << 20, 77 << 20)
ARGUMENTS: dict[str, dict[str, object]] = {"io-error": {"device": "disk0"}, "debug-exit": {"value": 5}}
ENDING = {"shutdown": "poweroff", "watchdog": "poweroff"}
"""What would let a machine end that is to be kept."""


class Talker(Actor):
    """Asks, leaves, plays the guest, and lets time pass."""

    def _command(self, client: Client) -> Sent:
        random = self.random
        chance = random.random()
        if chance < 0.004:
            return self._sent_oddly(client, "query-name" if self.kept else "quit")
        if chance < 0.1:
            name = random.choice(list(CHOICES))
            value = random.choice((*self._choices(name), "pause" if name == "shutdown" else "x"))
            return self._sent_oddly(client, "set-action", **{name: value})
        if chance < 0.14:
            return self._sent_oddly(client, "watchdog-set-action", action=random.choice(self._choices("watchdog")))
        if chance < 0.18:
            return self._sent_oddly(client, "query-name", unknown="x")
        if chance < 0.45:
            return self._plugging(client)
        name = random.choice(ASKING if chance < 0.65 else DOING)
        # Whoever has not negotiated stays so: who gets which event must not depend on the order of commands.
        return self._sent_oddly(client, "query-name" if name == "qmp_capabilities" and not client.negotiated else name)

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
        return self._sent_oddly(client, name, **arguments)

    def _choices(self, name: str) -> tuple[str, ...]:
        """The values of one of `set-action`'s arguments, without those that let a kept machine end."""
        return tuple(value for value in CHOICES[name] if not (self.kept and ENDING.get(name) == value))

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
            await batch[0].client.until_replies(len(batch))
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
        text = self.shortened(client.take())
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
        await self.compare(fitting)
        if not self.model.ended:
            await self.join()

    async def do_guest(self) -> None:
        """The guest does something."""
        action = self.random.choice(GUEST_ACTIONS)
        if action == "debug-exit" and self.kept:
            action = "halt"
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


def replies(text: str) -> list[str]:
    """The lines of `text` that are no events."""
    return [line for line in text.splitlines() if not line.startswith('{"timestamp"')]
