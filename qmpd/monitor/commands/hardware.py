"""Queries that list parts of the machine: iothreads, memory backends, memory and PCI devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.hardware import memory, virtio, virtual_memory
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.registry import command
from qmpd.monitor.results import as_put_in

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_IOTHREAD = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
_captured_pci = answer_unmodelled("query-pci")
_captured_memdev = answer_unmodelled("query-memdev")
_captured_acpi = answer_unmodelled("query-acpi-ospm-status")


@command("query-iothreads")
def query_iothreads(system: System, session: Client, arguments: Arguments) -> object:
    if system.is_bare or not system.has_known_objects:
        return []
    found: list[dict[str, Any]] = []
    for number, node in enumerate(system.objects.of_type("iothread")):
        values = {name: node.value(name) for name in _IOTHREAD if node.property(name) is not None}
        found.append({"id": node.name, "thread-id": system.iothread(node.name, number), **values})
    return found


@command("query-memdev")
def query_memdev(system: System, session: Client, arguments: Arguments) -> object:
    """Each backend is shown with the members that the captured one has."""
    captured = _captured_memdev(system, session, arguments)
    if system.is_bare or not system.has_known_objects:
        return captured
    tree = system.tree
    assert isinstance(captured, bytes)
    known: list[dict[str, Any]] = orjson.loads(bytes(captured))
    members = known[0] if known else {"id": "", "size": 0, "merge": True, "dump": True, "prealloc": False}
    found = [
        {name: node.name if name == "id" else tree.plain(node, node.value(name)) for name in reversed(members)}
        for node in system.objects.of_type("memory-backend")
    ]
    return found[::-1]


@command("query-acpi-ospm-status")
def query_acpi_status(system: System, session: Client, arguments: Arguments) -> object:
    """A machine without ACPI answers as captured."""
    captured = _captured_acpi(system, session, arguments)
    if system.is_bare or not system.has_known_objects:
        return captured
    return system.devices.acpi_status()


@command("query-pci")
def query_pci(system: System, session: Client, arguments: Arguments) -> object:
    """What the machine had from the start, as captured, and the devices that came since.

    No firmware numbers the buses behind bridges here, so what is on those is not shown (hw/pci/pci-qmp-cmds.c).
    """
    captured = system.release.hardware.find("pci", system.settings.board.family)
    if captured is None:
        return _captured_pci(system, session, arguments)
    buses: list[dict[str, Any]] = captured["buses"]
    if not system.settings.acpi:
        place = system.settings.board.power_place
        buses = [
            {**bus, "devices": [each for each in bus["devices"] if (each["slot"], each["function"]) != place]}
            for bus in buses
        ]
    if not system.is_bare and system.inventory.has_devices:
        root = system.devices.buses.first(kind="PCI")
        if buses and root is not None:
            there = {(each["slot"], each["function"]) for each in buses[0]["devices"]}
            builder = system.inventory.builder
            for device in root.children:
                facts = builder.captured("device", device.driver) or {}
                place = divmod(device.slot, 8) if isinstance(device.slot, int) else (0, 0)
                if "pci" in facts and place not in there:
                    named = {"bus": buses[0]["bus"], "slot": place[0], "function": place[1]}
                    shown = virtio.shown_on_pci(device.node, facts["pci"])
                    buses[0]["devices"].append({**shown, **named, "qdev_id": device.identifier or ""})
            buses[0]["devices"].sort(key=lambda each: (each["slot"], each["function"]))
    return as_put_in(buses)


@command("query-memory-devices")
def query_memory_devices(system: System, session: Client, arguments: Arguments) -> object:
    inventory = system.inventory
    if not inventory.has_devices:
        return []
    tree, there = inventory.tree, memory.occupied(inventory.devices.buses.devices.values())
    return [(virtual_memory if each.driver in memory.VIRTUAL else memory).describe(tree, each) for each in there]
