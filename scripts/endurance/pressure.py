"""What is hard on a server: many requests at once, large replies, clients that take their time, the queue of a client
with out-of-band execution, and connections that are reset."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from endurance.actor import Loose, Outcome, Sent, Wrong
from endurance.disking import Disking
from endurance.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from endurance.client import Client

PRESSURES = ("many", "lazy", "greedy", "crowd", "knock")
STILL = ("query-name", "query-uuid", "query-kvm", "bad", "query-qmp-schema")
"""Commands that change nothing, and whose replies nothing changes; the last one's is large."""

QUEUE = 8
"""Requests of a client that may wait, where out-of-band execution was negotiated (docs/interop/qmp-spec)."""


class Pressed(Disking):
    """Puts pressure on the machine."""

    def _still(self, client: Client, count: int, large: float) -> list[Sent]:
        """Commands that change nothing, `large` of them, from 0 to 1, with large replies."""
        random = self.random
        large *= client.negotiated and self.place.kind in self.ledger.schemas
        return [
            self._sent_oddly(client, STILL[-1] if random.random() < large else random.choice(STILL[:-1]))
            for _ in range(count)
        ]

    def _in_order(self, commands: list[Sent]) -> Callable[[list[str]], bool]:
        """Whether lines are the replies to these commands, in their order."""
        wanted = [[self._reply(model.copy(), command) for command in commands] for model in self.models]
        return lambda lines: lines in wanted

    def _same(self) -> list[Outcome]:
        """What may be where nothing has changed."""
        outcomes = []
        for model in self.models:
            outcome = Outcome(model.copy())
            outcome.model.tell_later()
            self._tell(outcome)
            outcomes.append(outcome)
        return outcomes

    async def _in_pieces(self, client: Client, commands: list[Sent]) -> None:
        """Send commands in a few pieces, cut anywhere."""
        random = self.random
        self.ledger.commands += len(commands)
        data = b"".join(command.text() + random.choice((b"", b"\n", b"\r\n")) for command in commands)
        self.ledger.note(f"{client.name} > {data!r}")
        cuts = sorted(random.randrange(len(data)) for _ in range(random.choice((0, 1, 1, 3, 9))))
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            await client.send(data[start:end])
            if random.random() < 0.5:
                await trio.lowlevel.checkpoint()

    async def do_many(self) -> None:
        """One client sends hundreds of commands at once."""
        client = self.random.choice(self.clients)
        commands = self._still(client, self.random.choice((50, 150, 400)), 0.02)
        await self._in_pieces(client, commands)
        await client.until_replies(len(commands))
        await self.compare(self._same(), loose={client: Loose(self._in_order(commands))})

    async def do_greedy(self) -> None:
        """One client asks for more than a server may owe to one that does not read; but this one reads."""
        client = self.random.choice(self.clients)
        commands = self._still(client, 350 if self.random.random() < 0.1 else 60, 1.0)
        await self._in_pieces(client, commands)
        await client.until_replies(len(commands))
        await self.compare(self._same(), loose={client: Loose(self._in_order(commands))})

    async def do_lazy(self) -> None:
        """A client reads nothing for a while and then slowly; the others go on meanwhile, and it misses nothing."""
        random = self.random
        if self.place.exclusive and len(self.clients) + len(self.steady) >= len(self.place.doors):
            self._leave_one()
        lazy = await self._connected(random.choice((0, 1, 20_000)))
        await lazy.until(b"\r\n")
        self._expect_greeting(lazy, "")
        await self._negotiate(lazy)
        self.clients.append(lazy)
        commands = self._still(lazy, random.choice((5, 20, 60)), random.choice((0.1, 0.5)))
        await self._in_pieces(lazy, commands)
        told: list[str] | None = []
        wanted = self._in_order(commands)
        for _ in range(random.choice((1, 2, 4))):
            await self._meanwhile(lazy)
            told = None if told is None or self.told is None else told + self.told
            if self.model.ended:
                # Whatever was on its way may be lost with the machine.
                self.ledger.lost_by_design += len(commands)
                self.clients.remove(lazy)
                lazy.close()
                return
        lazy.sip, lazy.pause = random.choice(((1 << 16, 0.0), (9_000, 0.001), (1 << 20, 0.01)))
        lazy.pause *= self.leisurely
        await lazy.until_replies(len(commands))
        lazy.sip, lazy.pause = 1 << 16, 0.0
        await self.compare(self._same(), loose={lazy: Loose(wanted, told)})
        await self._make_room()

    async def _meanwhile(self, lazy: Client) -> None:
        """What others do while one does not read."""
        others = [client for client in self.clients if client is not lazy]
        if not others or self.random.random() < 0.2:
            await trio.sleep(0.01)
            self.told = []
            return
        client = self.random.choice(others)
        batch = self._batch(client, 4)
        await self._send(batch)
        await client.until_replies(len(batch))
        replied = await self.compare(self._outcomes([batch]), without=lazy)
        if self.model.ended:
            self.ledger.lost_by_design += len(batch) - replied

    def _leave_one(self) -> None:
        client = self.random.choice(self.clients)
        self.clients.remove(client)
        client.close()

    # Out-of-band execution

    async def do_crowd(self) -> None:
        """A client with out-of-band execution sends more than may wait; what is urgent overtakes the rest."""
        client = next((each for each in self.clients if each.out_of_band), None)
        if client is None:
            self._leave_one()
            client = await self._connected()
            await client.until(b"\r\n")
            self._expect_greeting(client, "")
            await self._negotiate(client, 1.0)
            self.clients.append(client)
        commands = self._still(client, self.random.choice((7, 8, 9, 12, 30)), 0.03)
        for _ in range(self.random.choice((1, 2, 4))):
            commands.insert(self.random.randrange(len(commands) + 1), self._urgent(client))
        if self.control is not None and self.random.random() < 0.6:
            await self._crowd_that_hangs(client, commands)
        else:
            await self._in_pieces(client, commands)
            await client.until_replies(len(commands))
            await self.compare(self._same(), loose={client: Loose(lambda lines: self._overtakes(commands, lines))})

    def _overtakes(self, commands: list[Sent], lines: list[str]) -> bool:
        """Whether lines are the replies: each kind in its order, and nothing urgent more than `QUEUE` too late."""
        lines = list(map(self.shortened, lines))
        waiting = deque(self._reply(self.model.copy(), each) for each in commands if not each.out_of_band)
        urgent = deque(
            (self._reply(self.model.copy(), each), sum(not other.out_of_band for other in commands[:position]))
            for position, each in enumerate(commands)
            if each.out_of_band
        )
        done = 0
        for line in lines:
            if urgent and line == urgent[0][0]:
                _, before = urgent.popleft()
                if done < before - QUEUE:
                    return False
            elif waiting and line == waiting[0]:
                waiting.popleft()
                done += 1
                if urgent and done > urgent[0][1]:
                    return False
            else:
                return False
        return not waiting and not urgent

    async def _crowd_that_hangs(self, client: Client, commands: list[Sent]) -> None:
        """The same while the main loop hangs: what is answered then is known exactly, and the order of the rest."""
        await self._done("fault-hang-main-loop")
        await self._in_pieces(client, commands)
        await self._done("query-faults")
        at_once = self._answered_at_once(commands)
        await client.until_replies(len(at_once))
        with trio.move_on_after(0.01):
            await client.receive()
        text = client.take()
        if text != "".join(self._reply(self.model.copy(), each) for each in at_once):
            raise Wrong(f"{client.name} gets {text!r} from a main loop that hangs, and should from {at_once}")
        self.ledger.replies += len(at_once)
        await self._done("fault-clear")
        rest = [each for each in commands if each not in at_once]
        await client.until_replies(len(rest))
        await self.compare(self._same(), loose={client: Loose(lambda lines: self._overtakes(rest, lines))})

    @staticmethod
    def _answered_at_once(commands: list[Sent]) -> list[Sent]:
        """What is executed though nothing else is: the urgent ones before which there is room for all the others."""
        waiting, answered = 0, []
        for command in commands:
            if waiting >= QUEUE:
                break
            if command.out_of_band:
                answered.append(command)
            else:
                waiting += 1
        return answered

    # Connections that are reset

    async def do_knock(self) -> None:
        """Clients connect and are gone again, at different moments; nobody else notices."""
        random = self.random
        if self.place.exclusive and len(self.clients) + len(self.steady) >= len(self.place.doors):
            self._leave_one()
        for _ in range(random.choice((1, 5, 20))):
            client = await self._connected()
            stage = random.randrange(4)
            if stage:
                await client.until(b"\r\n")
                self._expect_greeting(client, "")
            if stage == 2:
                await client.send(b'{"execute":"qmp_capabilities"}{"execute":"query-')
            if stage == 3:
                await client.send(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-qmp-schema"}' * 5)
            if random.random() < 0.3:
                await trio.lowlevel.checkpoint()
            client.reset()
        await self.compare(self._same())
        if len(self.clients) < self._count:
            await self.join()


class Player(Pressed):
    """Does all of it to a machine of a fleet."""

    def choose(self) -> str:
        random = self.random
        if self.control is None or len(self.models) > 1 or random.random() < 0.35:
            return random.choice(("talk",) * 12 + ("leave",) * 2 + PRESSURES + ("disks",))
        faults = [each for each in FAULTS if not (self.kept and each == "kill")]
        return random.choice(("guest", "guest", "advance", random.choice(faults)))


class Kept(Player):
    """The same to one that lives for the whole run."""

    kept = True
