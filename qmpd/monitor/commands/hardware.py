"""Queries that list parts of the machine: iothreads, memory backends, memory and PCI devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.hardware import memory
from qmpd.hardware.assembly import family
from qmpd.monitor.commands import command
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.results import as_put_in
from qmpd.system.parts import are_objects_known, devices_of, inventory_of, is_bare, objects_of, tree_of
from qmpd.system.threads import iothread

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session

_IOTHREAD = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
_captured_pci = answer_unmodelled("query-pci")
_captured_memdev = answer_unmodelled("query-memdev")


@command("query-iothreads")
def query_iothreads(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    if is_bare(dispatcher) or not are_objects_known(dispatcher):
        return []
    found: list[dict[str, Any]] = []
    for number, node in enumerate(objects_of(dispatcher).of_type("iothread")):
        values = {name: node.value(name) for name in _IOTHREAD if node.property(name) is not None}
        found.append({"id": node.name, "thread-id": iothread(dispatcher, node.name, number), **values})
    return found


@command("query-memdev")
def query_memdev(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """Each backend is shown with the members that the captured one has."""
    captured = _captured_memdev(dispatcher, session, arguments)
    if is_bare(dispatcher) or not are_objects_known(dispatcher):
        return captured
    tree = tree_of(dispatcher)
    assert isinstance(captured, bytes)
    known: list[dict[str, Any]] = orjson.loads(bytes(captured))
    members = known[0] if known else {"id": "", "size": 0, "merge": True, "dump": True, "prealloc": False}
    found = [
        {name: node.name if name == "id" else tree.plain(node, node.value(name)) for name in reversed(members)}
        for node in objects_of(dispatcher).of_type("memory-backend")
    ]
    return found[::-1]


@command("query-pci")
def query_pci(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """What the machine had from the start, as captured, and the devices that came since.

    No firmware numbers the buses behind bridges here, so what is on those is not shown (hw/pci/pci-qmp-cmds.c).
    """
    captured = dispatcher.release.hardware.find("pci", family(dispatcher.settings))
    if captured is None:
        return _captured_pci(dispatcher, session, arguments)
    buses: list[dict[str, Any]] = captured["buses"]
    if not is_bare(dispatcher) and inventory_of(dispatcher).has_devices:
        root = devices_of(dispatcher).buses.first(kind="PCI")
        if buses and root is not None:
            there = {(each["slot"], each["function"]) for each in buses[0]["devices"]}
            builder = inventory_of(dispatcher).builder
            for device in root.children:
                facts = builder.captured("device", device.driver) or {}
                place = divmod(device.slot, 8) if isinstance(device.slot, int) else (0, 0)
                if "pci" in facts and place not in there:
                    named = {"bus": buses[0]["bus"], "slot": place[0], "function": place[1]}
                    buses[0]["devices"].append({**facts["pci"], **named, "qdev_id": device.identifier or ""})
            buses[0]["devices"].sort(key=lambda each: (each["slot"], each["function"]))
    return as_put_in(buses)


@command("query-memory-devices")
def query_memory_devices(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    inventory = inventory_of(dispatcher)
    if not inventory.has_devices:
        return []
    there = memory.plugged(inventory.devices.buses.devices.values())
    return [memory.describe(inventory.tree, device) for device in there]
