"""Plays a scenario to a machine in the test's own process, under virtual time."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from qmpd.control import guest_options
from qmpd.emulator import program
from qmpd.emulator.complaints import Complaints
from qmpd.machine import GuestSettings, VirtualClock
from qmpd.qapi import load_release
from qmpd.server.virtual_machine import VirtualMachine
from tests.player import Lines, Served
from tests.unplug import plain
from tests.unplug.scenarios import SETTLE

if TYPE_CHECKING:
    from tests.unplug.scenarios import Scenario

SECOND = 1_000_000_000
SETTLED = SECOND * 4 // 10
GUESTS = {
    "halt": [("on-boot", "halt")],
    "eject": [("on-unplug", "release"), ("unplug-delay", "10ms")],
    "refuse": [("on-unplug", "refuse"), ("unplug-delay", "10ms")],
}
"""What stands for the boot sectors."""


class Machine(Served):
    """A machine with a scenario's options and guest."""

    def __init__(self, release: str, scenario: Scenario, path: str) -> None:
        boot = ["-drive", "driver=null-co,if=ide,index=0,read-zeroes=on"]
        options = ["-display", "none", "-nodefaults", *scenario.options, *(["-S"] if scenario.guest is None else boot)]
        line = [*options, "-qmp", f"unix:{path},server=on,wait=off"]
        _, start = program.read(load_release(release), line, Complaints("qemu-system-x86_64"))
        settings = program.make_machine(start)
        settings.release = release
        guest = GuestSettings(operating_system=False)
        if scenario.guest is not None:
            guest = GuestSettings(**guest_options.parse(GUESTS[scenario.guest]))
        settings.machine = replace(settings.machine, guest=guest)
        self.path = path
        self.clock = VirtualClock()
        self.vm = VirtualMachine(settings, self.clock, inventory=start.inventory)
        self.vm.listen()
        self.status: int | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        # Lines that have come behind a reply.
        self._waiting: list[str] = []

    async def begin(self) -> Lines:
        """A client that has negotiated."""
        client = Lines(self.path)
        await self.until_reply(client, {"execute": "qmp_capabilities"})
        self._waiting.clear()
        return client

    async def until_reply(self, client: Lines, request: dict[str, Any]) -> list[str]:
        """What comes, up to the reply; what comes behind it waits for the next step."""
        client.send(json.dumps(request))
        lines, self._waiting = self._waiting, []
        while not any(_is_reply(line) for line in lines):
            self.vm.system.disks.executor.settle()
            lines += [plain(line) for line in await client.take()]
        end = next(number for number, line in enumerate(lines, 1) if _is_reply(line))
        self._waiting = lines[end:]
        return lines[:end]

    async def pass_time(self, client: Lines, duration: int) -> list[str]:
        """What comes while so much time passes."""
        lines, self._waiting = self._waiting, []
        end = self.clock.monotonic_nanoseconds() + duration
        while (now := self.clock.monotonic_nanoseconds()) < end:
            deadline = self.vm.loop.next_deadline()
            self.clock.advance(max(0, min(end, deadline or end) - now) or (0 if deadline and deadline <= now else 1))
            self.vm.loop.wake()
            lines += [plain(line) for line in await client.take()]
        return lines


def _is_reply(line: str) -> bool:
    return line.startswith(('{"return"', '{"error"'))


async def played(release: str, scenario: Scenario) -> list[list[str]]:
    """What qmpd makes of a scenario."""
    with tempfile.TemporaryDirectory(prefix="qmpd-") as folder:
        machine = Machine(release, scenario, f"{folder}/qmp")
        came: list[list[str]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            client = await machine.begin()
            await machine.pass_time(client, SECOND)
            for step in scenario.steps:
                if isinstance(step, str):
                    seconds = SETTLED if step == SETTLE else int(step.partition(" ")[2]) * SECOND
                    came.append(await machine.pass_time(client, seconds))
                else:
                    came.append(await machine.until_reply(client, step))
            client.socket.close()
            await machine.end(0)
    return came


def differences(scenario: Scenario, came: list[list[str]], known: list[list[list[str]]]) -> list[str]:
    """How what came differs from the recording that is nearest."""
    ours = _merged(scenario, came)
    found = [
        [
            f"{step}: {mine}, not {theirs}"
            for step, mine, theirs in zip(scenario.steps, ours, _merged(scenario, each), strict=False)
            if mine != theirs
        ]
        for each in known
    ]
    return min(found, key=len)


def _merged(scenario: Scenario, came: list[list[str]]) -> list[list[str]]:
    """What came, without what a real program is now and then slower or quicker at.

    Firmware adds one reset or more, some time after the first; and a reset takes so long that what is about to go may
    have gone by its end.
    """
    result: list[list[str]] = []
    for step, lines in zip(scenario.steps, came, strict=False):
        kept = [line for line in lines if '"guest-reset"' not in line]
        before = scenario.steps[len(result) - 1] if result else None
        if step == SETTLE and isinstance(before, dict) and before["execute"] in ("system_reset", "cont"):
            whole = result.pop() + kept
            result += [[line for line in whole if _is_reply(line)], [line for line in whole if not _is_reply(line)]]
        else:
            result.append(kept)
    return result
