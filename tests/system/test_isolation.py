"""Machines that are made of one blueprint: whatever is done to one of them, the others answer as before."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from endurance.inputs import Maker
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qmpd.common.plain import to_plain
from qmpd.machine import VirtualClock
from qmpd.machine.blueprint import CPUTopology, Device, GuestSettings, MachineSettings
from qmpd.monitor.commands import modelled
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.qapi import load_release
from qmpd.system.system import System

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


class Member:
    """One of the machines, without a server."""

    def __init__(self, release: str, blueprint: MachineSettings) -> None:
        self.system = System(load_release(release), blueprint, VirtualClock(), lambda: None)
        self.dispatcher = Dispatcher(self.system)
        self.system.machine.start()
        self.session = self.dispatcher.open_session()
        self.ask("qmp_capabilities", {})

    def ask(self, name: str, arguments: dict[str, Any]) -> bytes:
        """Execute a command; what comes of it, events included."""
        self.session.take_outgoing()
        self.session.receive(json.dumps({"execute": name, "arguments": arguments}).encode())
        for _ in range(5):
            self.dispatcher.run_requests()
            if self.system.machine.pending:
                self.system.turn()
            self.system.machine.run_timers()
        return self.session.take_outgoing()

    def answers(self) -> list[bytes]:
        """What it says of itself."""
        return [self.ask(name, arguments) for name, arguments in QUESTIONS]


SOME = {
    "set-numa-node", "object-add", "device_add", "device_del", "qom-set", "balloon", "object-del", "netdev_del",
    "eject",
}  # fmt: skip
"""Commands that are tried more often than others."""


@pytest.mark.parametrize("release", ["7.2", "10.0"])
@given(st.integers(0, 2), st.integers(0, 1 << 32), st.booleans())
@example(2, 1, False)
@settings(max_examples=12, deadline=None)
def test_nothing_done_to_one_shows_in_another(release: str, which: int, seed: int, asked_before: bool) -> None:
    blueprint = BLUEPRINTS[which]
    as_plain = to_plain(blueprint)
    one, other, untouched = (Member(release, blueprint) for _ in range(3))
    if asked_before:
        other.answers()
    chance = random.Random(seed)
    maker = Maker(chance)
    known = load_release(release)
    names = sorted(modelled(known) & known.commands.keys() - {"quit"})
    for name in [*chance.choices(names, k=60), *chance.choices(sorted(SOME & set(names)), k=30)]:
        arguments = maker.of_type(known, known.introspection.command(name).arguments)
        one.ask(name, arguments)
    if which == 2:
        node = {"type": "node", "nodeid": 0, "cpus": [0], "memdev": "m0"}
        one.ask("set-numa-node", node)
        one.ask("x-exit-preconfig", {})
    elif one.system.guest is not None:
        one.system.guest.configure(boot_time=5, on_powerdown="reboot")
    assert to_plain(blueprint) == as_plain
    assert other.answers() == untouched.answers() == Member(release, blueprint).answers()


def test_a_numa_node_is_one_machines_own() -> None:
    one, other = Member("10.0", BEFORE), Member("10.0", BEFORE)
    for number in (0, 1):
        node = {"type": "node", "nodeid": number, "cpus": [number], "memdev": f"m{number}"}
        for machine in (one, other):
            assert machine.ask("set-numa-node", node) == b'{"return": {}}\r\n'
    for machine in (one, other):
        machine.ask("x-exit-preconfig", {})
    assert one.answers() == other.answers()
    assert b'"node-id": 1' in one.ask("query-cpus-fast", {})
