"""The devices of a machine and the buses that they sit on, and how a bus is found (QEMU's qdev)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.machine.errors import DeviceNotFound, MachineError
from qmpd.qom.node import Property

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.qom.node import Node
    from qmpd.qom.tree import ObjectTree, Types

_CHILD = re.compile(r"child\[([0-9]+)\]")
_NUMBERED = re.compile(r"(.*)\.([0-9]+)")
_SYSTEM_BUS = "System"
# How many devices there may be on a bus of such a type; no limit on any other.
_CAPACITY = {"virtio-bus": 1, "ccid-bus": 1, "sd-bus": 1}


class Device:
    """A device: its object, the bus that it is on, and the buses that it brings, the newest first.

    `identifier` is None for one without an id; `number` is its place on the bus.
    """

    __slots__ = ("bus", "buses", "cold", "driver", "identifier", "node", "number", "slot", "used")

    def __init__(self, node: Node, driver: str, identifier: str | None, *, cold: bool) -> None:
        self.node = node
        self.driver = driver
        self.identifier = identifier
        self.cold = cold
        self.bus: Bus | None = None
        self.buses: list[Bus] = []
        self.number = 0
        # Where it is on its bus, in the way of that bus: PCI's devfn, SCSI's (id, lun), a port's number or path.
        self.slot: object = None
        # Whether it was there when the machine was last reset.
        self.used = cold

    @property
    def path(self) -> str:
        """The path of its object."""
        return self.node.path

    def below(self) -> Iterator[Device]:
        """The devices on its buses, and those on theirs, the newest first, each before itself."""
        for bus in self.buses:
            for child in bus.children:
                yield from child.below()
        yield self


class Bus:
    """A bus: its object, the device that brings it, and the devices on it, the newest first."""

    __slots__ = ("children", "device", "free", "name", "next_number", "node", "type", "types")

    def __init__(self, node: Node, name: str, types: frozenset[str]) -> None:
        """`types` is what its type is."""
        self.node = node
        self.name = name
        self.type = node.type
        self.types = types
        self.device: Device | None = None
        self.children: list[Device] = []
        self.next_number = 0
        # The places that are free, on a bus that gives them out in an order of its own; None until it does.
        self.free: list[str] | None = None

    @property
    def full(self) -> bool:
        """Whether no other device fits."""
        limit = next((limit for kind, limit in _CAPACITY.items() if kind in self.types), None)
        return limit is not None and len(self.children) >= limit

    def add(self, device: Device) -> None:
        """Put a device on it."""
        device.bus, device.number = self, self.next_number
        self.next_number += 1
        self.children.insert(0, device)
        self.node.add(Property(f"child[{device.number}]", f"link<{device.driver}>"), device.path)

    def remove(self, device: Device) -> None:
        """Take a device off."""
        self.children.remove(device)
        self.node.remove(f"child[{device.number}]")
        device.bus = None


class Buses:
    """All buses of a machine, found from the one that all others hang on."""

    __slots__ = ("_names", "_tree", "_types", "devices", "root")

    def __init__(self, tree: ObjectTree, types: Types) -> None:
        """Find the devices and buses that the tree has."""
        self._tree = tree
        self._types = types
        self.root: Bus | None = None
        self.devices: dict[int, Device] = {}
        # How many buses of a type have been named after it.
        self._names: dict[str, int] = {}
        for node in tree.root.below():
            if node.property("hotplugged") is not None:
                self.devices[id(node)] = Device(node, node.type, None, cold=True)
        found = [bus for node in tree.root.below() if (bus := self._adopt(node)) is not None]
        for bus in found:
            self._fill(bus)

    def bring(self, node: Node) -> None:
        """Take an object for the bus that it is, if it is one, with the devices on it."""
        bus = self._adopt(node)
        if bus is not None:
            self._fill(bus)

    def _adopt(self, node: Node) -> Bus | None:
        """The bus that an object is, put under its device; None where it is none."""
        if node.property("hotplug-handler") is None:
            return None
        types = self._types.is_a(node.type)
        if "bus" not in types:
            return None
        name = node.name if node.type != _SYSTEM_BUS else "main-system-bus"
        bus = Bus(node, name, types)
        if node.type == _SYSTEM_BUS and self.root is None:
            self.root = bus
        parent = node.parent
        device = None if parent is None else self.devices.get(id(parent))
        if device is not None:
            bus.device = device
            device.buses.insert(0, bus)
        numbered = _NUMBERED.fullmatch(name)
        if numbered is not None and numbered[1] == node.type.lower():
            self._names[node.type] = max(self._names.get(node.type, 0), int(numbered[2]) + 1)
        return bus

    def _fill(self, bus: Bus) -> None:
        places = {int(match[1]): each for each in bus.node.properties() if (match := _CHILD.fullmatch(each.name))}
        for number in sorted(places):
            target = self._tree.find(self._tree.get(bus.node, places[number].name))
            device = None if target is None else self.devices.get(id(target))
            if device is not None:
                device.bus, device.number = bus, number
                bus.children.insert(0, device)
            bus.next_number = number + 1

    def new_name(self, kind: str) -> str:
        """The name of a bus whose device has no id."""
        number = self._names.get(kind, 0)
        self._names[kind] = number + 1
        return f"{kind.lower()}.{number}"

    def take_back(self, kind: str) -> None:
        """Give the name that `new_name` gave last to the next bus of this type."""
        self._names[kind] -= 1

    # Finding one

    def first(self, *, name: str | None = None, kind: str = "") -> Bus | None:
        """The bus of this name, or the first one that is of type `kind`; one with room where there is one."""
        return None if self.root is None else self._search(self.root, name, kind)

    def _search(self, bus: Bus, name: str | None, kind: str) -> Bus | None:
        matches = bus.name == name if name is not None else kind in bus.types
        if matches and not bus.full:
            return bus
        pick = bus if matches else None
        for device in bus.children:
            for child in device.buses:
                found = self._search(child, name, kind)
                if found is not None and not found.full:
                    return found
                pick = pick or found
        return pick

    def at(self, path: str) -> Bus:
        """The bus that `bus=` names: a name, or names of buses and devices in turn.

        :raise MachineError: there is none.
        """
        parts = [part for part in path.split("/") if part]
        if path.startswith("/"):
            bus = self.root
        else:
            first = path.split("/", 1)[0]
            bus = self.first(name=first)
            if bus is None:
                raise MachineError(f"Bus '{first}' not found")
            parts = parts[1:]
        assert bus is not None
        while parts:
            wanted = parts.pop(0)
            device = self._on(bus, wanted)
            if not parts:
                if len(device.buses) == 1:
                    bus = device.buses[0]
                    break
                has = "multiple child buses" if device.buses else "no child bus"
                raise MachineError(f"Device '{wanted}' has {has}")
            wanted = parts.pop(0)
            child = next((each for each in device.buses if each.name == wanted), None)
            if child is None:
                buses = ", ".join(f'"{each.name}"' for each in device.buses)
                listed = f'child buses at "{device.identifier or device.driver}": {buses}'
                raise MachineError(f"Bus '{wanted}' not found", (listed,))
            bus = child
        if bus.full:
            raise MachineError(f"Bus '{path}' is full")
        return bus

    def _on(self, bus: Bus, name: str) -> Device:
        for device in bus.children:
            if device.identifier == name:
                return device
        for device in bus.children:
            if device.driver == name:
                return device
        there = ", ".join(
            f'"{device.driver}"' + (f'/"{device.identifier}"' if device.identifier else "") for device in bus.children
        )
        raise DeviceNotFound(f"Device '{name}' not found", (f'devices at "{bus.name}": {there}',))
