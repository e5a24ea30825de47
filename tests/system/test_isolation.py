"""Machines of one fleet, made of one blueprint: whatever is done to one of them, the others answer as before."""

from __future__ import annotations

import json
import os
import random
import socket
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from endurance import plugging
from endurance.inputs import Maker
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qmpd.common.plain import to_plain
from qmpd.control.whole import interface
from qmpd.machine.blueprint import CPUTopology, Device, GuestSettings, MachineSettings
from qmpd.monitor.commands import modelled
from qmpd.qapi import load_release
from qmpd.server.fleet import Fleet
from qmpd.server.settings import VMSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands may write files, whose names are relative: into a folder that is nobody's."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


BLUEPRINT = MachineSettings(
    topology=CPUTopology(cpus=2, maximum=4, sockets=4),
    memory=256 << 20,
    memory_slots=2,
    memory_limit=1 << 30,
    name="one of many",
    guest=GuestSettings(boot_time=1000),
    devices=(
        Device(driver="virtio-scsi-pci", properties={"id": "s"}),
        Device(driver="e1000", properties={"id": "card", "netdev": "n"}),
        Device(driver="virtio-balloon-pci", properties={"id": "balloon"}),
        Device(driver="scsi-cd", properties={"id": "cd", "bus": "s.0"}),
        Device(driver="virtio-blk-pci", properties={"id": "disk", "drive": "b"}),
    ),
    netdevs=({"type": "user", "id": "n"},),
    objects=({"qom-type": "iothread", "id": "i"}, {"qom-type": "memory-backend-ram", "id": "m", "size": 64 << 20}),
    blockdevs=({"driver": "null-co", "node-name": "b"},),
    drives=({"if": "none", "id": "d"},),
)
BARE = MachineSettings()
BEFORE = MachineSettings(
    topology=CPUTopology(cpus=2, maximum=2, sockets=2),
    preconfig=True,
    objects=tuple({"qom-type": "memory-backend-ram", "id": f"m{number}", "size": 64 << 20} for number in (0, 1)),
)
BLUEPRINTS = (BLUEPRINT, BARE, BEFORE)

QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in (
        "query-status", "query-cpus-fast", "query-hotpluggable-cpus", "query-memory-size-summary",
        "query-memory-devices", "query-memdev", "query-named-block-nodes", "query-block", "query-chardev",
        "query-iothreads", "query-rx-filter",
        "query-balloon", "query-pci", "query-name", "query-migrate-capabilities", "query-fdsets", "query-blockstats",
    )),
    *(("qom-list", {"path": path}) for path in ("/machine", "/machine/peripheral", "/objects", "/chardevs")),
    ("qom-get", {"path": "/objects/i", "property": "poll-max-ns"}),
    ("qom-get", {"path": "/machine/peripheral/card", "property": "mac"}),
    ("qom-get", {"path": "/machine", "property": "smp"}),
    ("human-monitor-command", {"command-line": "info network"}),
    ("human-monitor-command", {"command-line": "info numa"}),
)  # fmt: skip


COUNT = 60
"""Commands of each sort."""

AT_ONCE = 8
VICTIMS = 6

SEEN = {
    "set-numa-node", "object-add", "device_add", "device_del", "qom-set", "balloon", "object-del", "netdev_del",
    "eject", "set-action", "block_resize", "blockdev-change-medium", "migrate-set-capabilities", "set_link",
}  # fmt: skip
"""Commands that are tried more often than others."""

# They would write to files of any name.
WRITING = {"screendump", "chardev-add"}
# A pace at which the machines' timers never let anybody rest.
RUSHING = {"clock-set"}


class Member:
    """A client of one of the fleet's machines, or of its control socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def line(self) -> bytes | None:
        """The next line; None at the end."""
        with trio.fail_after(20):
            while b"\n" not in self._buffer:
                try:
                    data = await self.stream.receive_some(1 << 16)
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    async def ask(self, requests: list[tuple[str, dict[str, Any]]]) -> list[bytes] | None:
        """Execute commands, all sent at once; their replies, None where the machine has ended meanwhile."""
        sent = [json.dumps({"execute": name, "arguments": given, "id": name}) for name, given in requests]
        try:
            await self.stream.send_all("".join(sent).encode())
        except trio.BrokenResourceError:
            return None
        replies: list[bytes] = []
        while len(replies) < len(requests):
            line = await self.line()
            if line is None:
                return None
            if "event" not in json.loads(line):
                replies.append(line)
        return replies

    async def send_file(self, request: bytes) -> None:
        """Send a request, and an open file with it."""
        number = os.open("/dev/null", os.O_RDONLY)
        try:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, number.to_bytes(4, "little"))
            await self.stream.socket.sendmsg([request], [rights])
        finally:
            os.close(number)
        await self.line()


class Running:
    """A fleet that runs."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._members: list[Member] = []

    async def connect(self, number: int, name: str = "qmp") -> Member:
        path = f"{self.fleet.directory}/vm-{number:05}/{name}.sock" if number >= 0 else self.fleet.path
        member = Member(await trio.open_unix_socket(path))
        self._members.append(member)
        await member.line()
        await member.ask([("qmp_capabilities", {})])
        return member

    async def answers(self, number: int) -> list[bytes]:
        """What a machine says of itself, without the name of its folder."""
        member = await self.connect(number)
        replies = await member.ask(list(QUESTIONS))
        await member.stream.aclose()
        assert replies is not None
        folder = f"{self.fleet.directory}/vm-{number:05}"
        return [reply.replace(folder.encode(), b"FOLDER") for reply in replies]

    async def end(self) -> None:
        for member in self._members:
            await member.stream.aclose()
        self.fleet.end()


@asynccontextmanager
async def running(release: str, blueprint: MachineSettings, count: int) -> AsyncIterator[Running]:
    template = VMSettings(release=release, machine=blueprint, clock="virtual")

    def parse(release: str | None, options: list[str]) -> tuple[VMSettings, None]:
        return template, None

    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(folder, template, parse)
        fleet.listen()
        ready = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.run, count, ready.set, lambda number: None)
            await ready.wait()
            result = Running(fleet)
            try:
                yield result
            finally:
                await result.end()


class Chance:
    """What is done to the victims."""

    def __init__(self, seed: int, release: str) -> None:
        self._random = random.Random(seed)
        self._maker = Maker(self._random)
        self._release = load_release(release)

    def commands(self) -> list[tuple[str, dict[str, Any]]]:
        """Commands of the release, with any arguments that fit, and such as plug things in and out."""
        known = self._release
        names = sorted(modelled(known) & known.commands.keys() - {"quit"} - WRITING)
        chosen = [*self._random.choices(names, k=COUNT), *self._random.choices(sorted(SEEN & set(names)), k=COUNT)]
        made = [(name, self._of(name)) for name in chosen]
        made += [plugging.command(self._random) for _ in range(COUNT)]
        self._random.shuffle(made)
        return made

    def _of(self, name: str) -> dict[str, Any]:
        found = self._maker.of_type(self._release, self._release.introspection.command(name).arguments)
        assert isinstance(found, dict)
        return found

    def puppetry(self) -> list[tuple[str, dict[str, Any]]]:
        """Control commands: what a guest does, the clock, faults, made-up replies."""
        control = interface()
        names = sorted(control.commands.keys() - RUSHING)
        made = []
        for name in self._random.choices(names, k=COUNT):
            arguments = self._maker.of_type(control, control.introspection.command(name).arguments)
            made.append((name, arguments))
        return [*made, *(plugging.guest_part(self._random) for _ in range(COUNT))]


class Victims:
    """The machines to which things are done: where one ends of it, the next one is the victim."""

    def __init__(self, fleet: Running) -> None:
        self._fleet = fleet
        self.number = 0
        self._members: dict[str, Member] = {}

    async def suffer(self, requests: list[tuple[str, dict[str, Any]]], name: str = "qmp") -> None:
        """Execute requests, a few at once."""
        for start in range(0, len(requests), AT_ONCE):
            if name not in self._members:
                self._members[name] = await self._fleet.connect(self.number, name)
            if await self._members[name].ask(requests[start : start + AT_ONCE]) is None:
                self._members.clear()
                self.number += 1
                if self.number == VICTIMS:
                    break

    async def take_file(self) -> None:
        """Keep an open file for a client."""
        member = self._members["qmp"] = await self._fleet.connect(self.number)
        await member.send_file(b'{"execute": "getfd", "arguments": {"fdname": "a"}}')


async def play(release: str, blueprint: MachineSettings, seed: int, asked_before: bool, puppetry: bool) -> None:
    as_plain = to_plain(blueprint)
    chance = Chance(seed, release)
    async with running(release, blueprint, VICTIMS + 3) as fleet:
        before = await fleet.answers(VICTIMS) if asked_before else None
        victims = Victims(fleet)
        await victims.take_file()
        if blueprint is BEFORE:
            node = {"type": "node", "nodeid": 0, "cpus": [0, 1], "memdev": "m0"}
            await victims.suffer([("set-numa-node", node), ("x-exit-preconfig", {})])
        await victims.suffer(chance.commands())
        if puppetry:
            await victims.suffer([("guest-set", {"boot-time": 5, "on-powerdown": "reboot"})], "control")
            await victims.suffer(chance.puppetry(), "control")
        elif victims.number < VICTIMS:
            await victims.suffer([("quit", {})])
        # What is created and destroyed beside them is nothing to the others.
        own = await fleet.connect(-1)
        last = f"vm-{VICTIMS + 2:05}"
        await own.ask([("create", {"name": "mine"}), ("destroy", {"name": "mine"}), ("destroy", {"name": last})])
        assert to_plain(blueprint) == as_plain
        found = await fleet.answers(VICTIMS)
        assert found == await fleet.answers(VICTIMS + 1)
        assert before is None or found == before
    async with running(release, blueprint, 1) as fleet:
        assert found == await fleet.answers(0)


@pytest.mark.parametrize("release", ["7.2", "10.0"])
@given(st.integers(0, 2), st.integers(0, 1 << 32), st.booleans(), st.booleans())
@example(2, 1, False, False)
@settings(max_examples=10, deadline=None)
def test_nothing_done_to_one_shows_in_another(
    release: str, which: int, seed: int, asked_before: bool, puppetry: bool
) -> None:
    trio.run(partial(play, release, BLUEPRINTS[which], seed, asked_before, puppetry))


async def test_a_numa_node_is_one_machines_own() -> None:
    async with running("10.0", BEFORE, 2) as fleet:
        members = [await fleet.connect(number) for number in (0, 1)]
        for number in (0, 1):
            node = {"type": "node", "nodeid": number, "cpus": [number], "memdev": f"m{number}"}
            for member in members:
                assert await member.ask([("set-numa-node", node)]) == [b'{"return": {}, "id": "set-numa-node"}\r']
        for member in members:
            await member.ask([("x-exit-preconfig", {})])
        assert await fleet.answers(0) == await fleet.answers(1)
        replies = await members[0].ask([("query-cpus-fast", {})])
        assert replies is not None
        assert b'"node-id": 1' in replies[0]
