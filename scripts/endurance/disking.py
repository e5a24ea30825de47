"""Clients of the soak that work with disks (`endurance.disked`): one step is a walk, at whose end nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from endurance.actor import Outcome
from endurance.disked import Disks
from endurance.faults import Faulty

if TYPE_CHECKING:
    from endurance.actor import Sent
    from endurance.client import Client
    from endurance.disked import Event, Told
    from endurance.model import Machine

STEPS = (4, 8, 15)


class Disking(Faulty):
    """Works with disks."""

    async def do_disks(self) -> None:
        """One client makes nodes, bitmaps, jobs and exports, and takes all of it away again."""
        random = self.random
        able = [client for client in self.clients if client.negotiated]
        if not able:
            return
        client = random.choice(able)
        disks = Disks(self.model.rules.reply_first, newest_first=self.model.rules.version >= (10, 0, 0))
        for _ in range(random.choice(STEPS)):
            await self._disk_command(client, disks, *disks.choose(random))
        while (command := disks.next_to_clean()) is not None:
            await self._disk_command(client, disks, *command)

    async def _disk_command(self, client: Client, disks: Disks, name: str, arguments: dict[str, Any]) -> None:
        command = self._sent(client, name)
        command.arguments = arguments
        told = disks.execute(name, arguments)
        outcomes = []
        for model in self.models:
            outcome = Outcome(model.copy())
            outcome.model.tell_later()
            self._tell(outcome)
            self._say(outcome, told.before)
            outcome.say(client, _reply(command, told))
            self._say(outcome, told.after)
            outcomes.append(outcome)
        await self._send([command])
        # What comes after the reply comes before the next command is executed.
        await client.until_replies(1)
        await self.compare(outcomes)

    def _say(self, outcome: Outcome, events: tuple[Event, ...]) -> None:
        machine: Machine = outcome.model
        for name, data in events:
            machine.tell(name, data)
        self._tell(outcome)


def _reply(command: Sent, told: Told) -> str:
    if told.refused:
        error = f'"error": {{"class": "{told.error_class}", "desc": "{told.refused}"}}'
        return f'{{"id": {command.identity}, {error}}}\r\n'
    return f'{{"return": {{}}, "id": {command.identity}}}\r\n'
