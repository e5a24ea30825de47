"""A client that never stops asking, for as long as its machine lives, and wants every reply in its place."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from endurance.client import END, EVENT, PATIENCE, Client, Lost
from endurance.identities import any_id

if TYPE_CHECKING:
    from random import Random

    from endurance.client import Address
    from endurance.ledger import Ledger

ASKED = ("no-such-command", "query-uuid", "query-kvm")
"""What it asks for: nothing that faults are set up for (`endurance.faults.HARMLESS`), and nothing that changes."""

LARGE = "query-qmp-schema"


class Unexpected(Exception):  # noqa: N818 (of the server)
    """A reply is missing, twice there, in another's place, or another one."""


class Steady:
    """`run` asks; meanwhile `heard` says which events have come since it was last called."""

    def __init__(self, name: str, random: Random, ledger: Ledger, schema: str | None) -> None:
        self.client = Client(name)
        self.asked = 0
        self.answered = 0
        self.schema = schema
        self._random = random
        self._ledger = ledger
        self._expected: deque[str] = deque()
        self._asked_at: deque[float] = deque()
        self._events: list[str] = []
        self._rest = b""
        self._progress = trio.Event()
        self._stopping = False
        self._failed: Exception | None = None
        self.ended = trio.Event()

    @property
    def address(self) -> Address:
        """What it is connected to."""
        return self.client.address

    async def connect(self, address: Address) -> None:
        """Connect and negotiate; what it is greeted with nobody looks at.

        :raise Lost: there is no answer.
        """
        await self.client.connect(address)
        await self.client.send(b'{"execute":"qmp_capabilities"}')
        await self.client.until(END, 2)
        self.client.take()

    async def run(self) -> None:
        """Ask until `stop` is called, or the connection ends; what goes wrong is kept for `heard`."""
        random = self._random
        try:
            while not self._stopping and not self.client.at_end:
                await self._ask(random.choice((1, 1, 2, 8, 40)))
                if random.random() < 0.1:
                    # What comes meanwhile it leaves where it is.
                    await trio.sleep(0.05)
                while self._expected and not self.client.at_end:
                    await self._receive()
                await trio.sleep(random.choice((0.0, 0.001, 0.02)))
        except (Unexpected, Lost) as error:
            self._failed = error
        except (trio.ClosedResourceError, OSError, ValueError):
            pass  # it was closed here
        finally:
            self.ended.set()
            self._go_on()

    async def _ask(self, count: int) -> None:
        random = self._random
        data = ""
        for _ in range(count):
            self.asked += 1
            sent, told = any_id(random, self.asked)
            large = self.schema is not None and random.random() < 0.01
            name = LARGE if large else random.choice(ASKED)
            data += f'{{"execute": "{name}", "id": {sent}}}' + random.choice(("", "\n", " \r\n"))
            self._expected.append(self._reply(name, told))
            self._asked_at.append(trio.current_time())
        text = data.encode()
        cut = random.randrange(len(text)) if random.random() < 0.3 else len(text)
        await self.client.send(text[:cut])
        await self.client.send(text[cut:])
        self._ledger.commands += count

    def _reply(self, name: str, identity: str) -> str:
        if name == "no-such-command":
            text = "The command no-such-command has not been found"
            return f'{{"id": {identity}, "error": {{"class": "CommandNotFound", "desc": "{text}"}}}}'
        if name == "query-uuid":
            return f'{{"return": {{"UUID": "00000000-0000-0000-0000-000000000000"}}, "id": {identity}}}'
        if name == "query-kvm":
            return f'{{"return": {{"enabled": false, "present": true}}, "id": {identity}}}'
        return f'{{"return": {self.schema}, "id": {identity}}}'

    async def _receive(self) -> None:
        client = self.client
        with trio.move_on_after(PATIENCE) as scope:
            await client.receive()
        if scope.cancelled_caught:
            raise Lost(f"{client.name} waits for {self._expected[0][:300]!r}" if self._expected else client.name)
        if not client.inbox.endswith(END) and len(client.inbox) < 1 << 20 and not client.at_end:
            return
        *lines, rest = bytes(client.inbox).split(END)
        client.take()
        client.inbox += rest
        for line in lines:
            if line.startswith(EVENT):
                self._events.append(line.decode() + END.decode())
            else:
                self._take(line.decode())
        self._go_on()

    def _take(self, line: str) -> None:
        if not self._expected or line != self._expected[0]:
            wanted = self._expected[0][:300] if self._expected else "nothing"
            number = self.answered + 1
            raise Unexpected(f"{self.client.name} gets {line[:300]!r} as reply {number}, and should {wanted!r}")
        self._expected.popleft()
        self.answered += 1
        self._ledger.replies += 1
        waited = trio.current_time() - self._asked_at.popleft()
        self._ledger.longest_wait = max(self._ledger.longest_wait, waited)

    def _go_on(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def heard(self) -> list[str]:
        """The events since the last time: all that were told before this is called.

        :raise Unexpected: something has gone wrong since.
        :raise Lost: replies do not come.
        """
        # What is asked from now on is answered after all that has happened.
        wanted = self.asked + 1
        while self.answered < wanted and not self.ended.is_set():
            await self._progress.wait()
        if self._failed is not None:
            raise self._failed
        if self.answered < wanted and not self._stopping:
            raise Unexpected(f"the connection of {self.client.name} has ended after {self.answered} replies")
        events, self._events = self._events, []
        return events

    async def stop(self) -> None:
        """Ask nothing more, and wait for what is still to come.

        :raise Unexpected: something has gone wrong since the last look.
        :raise Lost: replies do not come.
        """
        self._stopping = True
        await self.ended.wait()
        if self._failed is not None:
            raise self._failed

    async def drain(self) -> list[str]:
        """The events until the connection ends; only after `stop`."""
        while not self.client.at_end:
            await self._receive()
        events, self._events = self._events, []
        return events
