"""Putting together the objects that a machine has from the start: one that was captured, with this machine's own
memory, CPUs and names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qmpd.hardware import controllers
from qmpd.hardware.memory import MemoryLayout, Region
from qmpd.hardware.processors import Place, set_properties
from qmpd.qom.node import Node, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.machine.blueprint import CPUTopology, MachineSettings
    from qmpd.qom.tree import Builder

UNATTACHED = "/machine/unattached"
_UNATTACHED_DEVICE = re.compile(r"/machine/unattached/device\[([0-9]+)\]")
_ALONE, _FIRST, _OTHER = range(3)
_FOUR_GIBIBYTES = 4 << 30
_LOW_MEMORY, _DEVICE_MEMORY = "ram-below-4g[0]", "device-memory[0]"
_BUS_MASTER = "bus master[0]"
_ACPI, _HAS, _TO_CPU, _BUS = "acpi-device", "has-acpi", "smi-irq", "parent_bus"
_TRUE = frozenset({"on", "yes", "true", "y"})


def frame(builder: Builder, captured: dict[str, Any], settings: MachineSettings) -> Node:
    """The tree of a machine whose board is not finished, its root; `captured` is a machine of `qmpd.qapi.hardware`."""
    root = builder.build(captured["tree"])
    machine = root.children["machine"]
    type_name = f"{settings.machine_name}-machine"
    if settings.machine_name and type_name != machine.type:
        machine.set_value("type", type_name)
        root.retype("machine", f"child<{type_name}>")
    return root


def make_board(builder: Builder, captured: dict[str, Any], settings: MachineSettings, root: Node) -> None:
    """Give a machine the memory and the CPUs that it is to have, and fill in its own properties."""
    machine = root.children["machine"]
    unattached = machine.children.get("unattached")
    layout = MemoryLayout(settings.memory, captured.get("low-memory"))
    if unattached is not None and layout.above:
        _add_high_memory(unattached)
    region = Region(settings, layout)
    with_region = builder.captured("device-memory", settings.board.family) if region.limit else None
    if unattached is not None and with_region is not None:
        _add_region(machine, unattached.children[_LOW_MEMORY], region, with_region["names"])
    if "cpu" in captured:
        _add_cpus(builder, root, captured, settings)
    if unattached is not None and not settings.acpi:
        _leave_out_acpi(machine, unattached, settings.board.power_device)
    _fill_in(machine, settings)


def _leave_out_acpi(machine: Node, unattached: Node, kind: str) -> None:
    """Take away a board's ACPI device, its wire to the CPU, and what is on its buses: all are the last of the board."""
    device = next((node for node in machine.below() if node.type == kind), None)
    if device is None or (home := device.parent) is None:
        return
    path, below = device.path, {node.path for node in device.below()}
    wires = [str(device.value(each.name)) for each in device.properties() if each.name.startswith(_TO_CPU)]
    there = unattached.children.items()
    for name in [name for name, node in there if node.path in wires or node.value(_BUS) in below]:
        unattached.remove(name)
    controllers.leave(path, machine.below())
    home.remove(device.name)
    if home.property(_HAS) is not None:
        home.set_value(_HAS, value=False)
    machine.remove(_ACPI)


# CPUs


def _add_cpus(builder: Builder, root: Node, captured: dict[str, Any], settings: MachineSettings) -> None:
    count, second = settings.topology.cpus, captured["second-cpu"]
    unattached = root.children["machine"].children["unattached"]
    if count > 1:
        make_room(root, unattached, second, count - 1)
    kinds = captured["cpu"]
    model = builder.captured("cpu", settings.cpu_model)
    first = captured["cpu-path"].rpartition("/")[2]
    of_package = _of_package(builder, kinds, settings.topology)
    for index in range(count):
        name = first if index == 0 else f"device[{second + index - 1}]"
        node = builder.build(kinds[_OTHER if index else _FIRST if count > 1 else _ALONE], owns=True)
        values = {} if model is None else model["values"]
        for key, value in (*values.items(), *of_package.items()):
            node.set_value(key, value)
        set_properties(node, settings)
        for key, value in _identity(settings, index, node).items():
            node.set_value(key, value)
        local = node.children.get("lapic")
        if local is not None:
            local.set_value("id", node.value("apic-id"))
        unattached.retype(name, f"child<{node.type}>")
        unattached.attach(name, node)


def _of_package(builder: Builder, kinds: list[Any], topology: CPUTopology) -> dict[str, Any]:
    """What a CPU says otherwise than the captured ones: several were in one package, one was alone in its own."""
    shared = topology.dies * topology.modules * topology.cores * topology.threads > 1
    if shared == (topology.cpus > 1):
        return {}
    usual, found = (builder.build(kinds[_FIRST if several else _ALONE]) for several in (not shared, shared))
    return {name: found.value(name) for name in found.shape.places if found.value(name) != usual.value(name)}


def make_room(root: Node, unattached: Node, first: int, count: int) -> None:
    """Make room for so many devices of the board at number `first`: those there move up, and what points to them."""

    def moved(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"{UNATTACHED}/device[{number + count if number >= first else number}]"

    for node in root.below():
        for name, place in node.shape.places.items():
            value = node.captured[place]
            if type(value) is str and value.startswith(UNATTACHED):
                new = _UNATTACHED_DEVICE.sub(moved, value)
                if new != value:
                    node.set_value(name, new)
    static = unattached.shape.static
    assert static is not None
    known = unattached.put_in()
    properties = [list(each) for each in known[:static]]
    children = dict(unattached.children)
    unattached.children.clear()
    for each in known[static:]:
        name = _UNATTACHED_DEVICE.sub(moved, f"{UNATTACHED}/{each.name}")[len(UNATTACHED) + 1 :]
        properties.append([name, each.kind, each.code])
        child = children.get(each.name)
        if child is not None:
            unattached.attach(name, child)
        if each.name == f"device[{first - 1}]":
            properties += [[f"device[{first + index}]", "child<>", 0] for index in range(count)]
    unattached.become(Shape(properties, static))


def _identity(settings: MachineSettings, index: int, node: Node) -> dict[str, int]:
    """Where CPU number `index` sits, as its properties say."""
    place = Place.of_index(settings.topology, index)
    known = {f"{level}-id": number for level, number in place.levels.items()}
    known["apic-id"] = place.apic_id(settings.topology)
    home = settings.node_of_cpu(index)
    if home is not None:
        known["node-id"] = home
    return {name: number for name, number in known.items() if node.property(name) is not None}


# Memory


def _add_high_memory(unattached: Node) -> None:
    """The region of the memory above 4 GiB comes right after the one below."""
    model = unattached.children.get(_LOW_MEMORY)
    static = unattached.shape.static
    if model is None or static is None:
        return
    node = Node(model.shape, list(model.captured))
    node.set_value("addr", _FOUR_GIBIBYTES)
    node.set_value("size", "«memory above 4 GiB»")
    properties: list[list[Any]] = []
    for each in unattached.shape.properties:
        properties.append(list(each))
        if each.name == model.name:
            properties.append(["ram-above-4g[0]", each.kind, 0])
    unattached.shape = Shape(properties, static)
    unattached.attach("ram-above-4g[0]", node)


def _add_region(machine: Node, model: Node, region: Region, names: list[str]) -> None:
    """The region of the memory that can be plugged in is the machine's own; `names` are then its properties."""
    node = Node(model.shape, list(model.captured))
    node.set_value("addr", region.start)
    node.set_value("size", region.size)
    added = [_DEVICE_MEMORY, f"child<{node.type}>", 0]
    known = {each.name: list(each) for each in machine.shape.properties}
    listed = [known.pop(name, added) for name in names if name in known or name == _DEVICE_MEMORY]
    # A type of machine can have properties that the captured one has not.
    machine.shape = Shape([*listed, *known.values()], machine.shape.static)
    machine.attach(_DEVICE_MEMORY, node)


def _fill_in(machine: Node, settings: MachineSettings) -> None:
    """The machine's own properties: what was given for them, and those that are made of several numbers."""
    for name, text in settings.machine_options.items():
        found = machine.property(name)
        if found is not None and found.kind == "bool":
            machine.set_value(name, text in _TRUE)
        elif found is not None and found.kind in ("OnOffAuto", "string") and name != "type":
            machine.set_value(name, text)
    topology = settings.topology
    counts = {
        "cpus": topology.cpus, "maxcpus": topology.maximum, "sockets": topology.sockets, "dies": topology.dies,
        "clusters": topology.clusters, "modules": topology.modules, "cores": topology.cores,
        "threads": topology.threads,
    }  # fmt: skip
    for each in machine.shape.properties:
        value = machine.value(each.name)
        if each.kind == "SMPConfiguration" and isinstance(value, dict):
            machine.set_value(each.name, {name: counts.get(name, number) for name, number in value.items()})
        elif each.kind == "BootConfiguration" and isinstance(value, dict):
            machine.set_value(each.name, {**value, **settings.boot})
        elif each.kind == "MemorySizeConfiguration" and isinstance(value, dict):
            limit = {"slots": settings.memory_slots, "max-size": settings.memory_limit}
            grows = settings.memory_limit > settings.memory
            machine.set_value(each.name, {**value, "size": settings.memory, **(limit if grows else {})})


def list_as_cold(node: Node, listed: Sequence[str]) -> None:
    """A PCI device that is there before the machine is gets its view of memory when the machine is ready.

    `listed` is the part of its properties that is then listed in another order, where that is known.
    """
    if node.shape.static is not None and node.property(_BUS_MASTER) is not None:
        node.put_last(_BUS_MASTER)
    elif listed:
        node.list_anew(listed)
