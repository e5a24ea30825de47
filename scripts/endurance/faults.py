"""What goes wrong on purpose: the faults of the control socket, and clients that vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from endurance.actor import Outcome, Sent, Wrong
from endurance.talk import Talker

if TYPE_CHECKING:
    from endurance.client import Client

HARMLESS = ("stop", "cont", "query-status", "query-name")
FAULTS = ("delay", "stall", "drop", "garbage", "early-event", "close", "refuse", "exhaust", "hang", "kill", "vanish")
GARBAGE = "~garbage~\r\n"


class Faulty(Talker):
    """Has the control socket bring about faults."""

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
        await client.until_replies(2)
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
        client = await self._connected()
        await client.until_end()
        if text := client.take():
            raise Wrong(f"{client.name} is turned away with {text!r}")
        client.close()
        await self.compare([Outcome(self.model.copy())])

    async def do_refuse(self) -> None:
        """Nobody listens for a while."""
        await self._done("fault-refuse-connections")
        try:
            client = await self._connected()
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
        client = await self._connected()
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
                await other.until_replies(1)
                self._perform(outcome, urgent)
        await self._done("fault-clear")
        self._perform(outcome, command)
        await client.until_replies(1)
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
        """A client sends and is gone, in order or not: what it has asked for may have been done or not."""
        client = self.random.choice(self.clients)
        batch = [self._sent(client, self.random.choice(HARMLESS)) for _ in range(self.random.randint(1, 4))]
        await self._send(batch)
        self.clients.remove(client)
        if self.random.random() < 0.5:
            client.close()
        else:
            client.reset()
        outcomes = []
        for count in range(len(batch) + 1):
            outcome = Outcome(self.model.copy())
            for command in batch[:count]:
                self._perform(outcome, command)
            outcomes.append(outcome)
        self.ledger.lost_by_design += len(batch)
        await self._done("query-faults")
        await self.compare(outcomes)
        await self.join()

    async def _make_room(self) -> None:
        """There are no more clients in the end than there were."""
        while len(self.clients) > self._count:
            client = self.random.choice(self.clients)
            self.clients.remove(client)
            client.close()
