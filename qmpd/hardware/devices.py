"""Adding devices to a machine (QEMU's system/qdev-monitor.c); `qmpd.hardware.removal` takes them away.

A device goes through the same steps whenever it is added: its type is looked up, a bus is found for it, it gets its id,
its properties are set one after another, and at last it is realized: it takes a place on the bus, and what it is made
of comes into being.  Each step has its own reasons to refuse, and those of an earlier one come first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qmpd.common.dictionary_order import in_order
from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Refusal
from qmpd.hardware import (
    controllers,
    failover,
    firmware,
    indexes,
    limits,
    memory,
    migratable,
    places,
    presets,
    processors,
    screens,
    virtio,
    virtual_memory,
)
from qmpd.hardware.acpi_slots import AcpiSlots
from qmpd.hardware.assembly import list_as_cold, make_room
from qmpd.hardware.backends import chardevs_of
from qmpd.hardware.buses import Bus, Buses, Device
from qmpd.hardware.controllers import Controller
from qmpd.hardware.device_types import CPU, DeviceTypes
from qmpd.hardware.failover import FailoverPairs
from qmpd.hardware.removal import Removal
from qmpd.hardware.unmodelled import ASIDE
from qmpd.machine.errors import DeviceNotFound, MachineError
from qmpd.qom import reader as reading
from qmpd.qom.naming import ID, rename
from qmpd.qom.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.texts import Texts
    from qmpd.hardware.backends import Backends
    from qmpd.hardware.device_rules import DeviceRules
    from qmpd.hardware.home import Home
    from qmpd.qom.tree import Builder, ObjectTree, Types

    Options = Mapping[str, object]

PERIPHERAL = "/machine/peripheral"
PERIPHERAL_ANON = "/machine/peripheral-anon"
UNATTACHED = "/machine/unattached"
# The board's devices that come behind them.
_BEHIND_USB = frozenset({"PIIX4_PM", "ICH9 SMB", "ICH9-SMB"})
_MASTER, _USB_BUS = "masterbus", "usb-bus"
# What is no value of a property that is needed, where that is not the same as of others.
_EMPTY = {"serial": (None,)}


class Devices:
    """The devices of one machine, their `home`."""

    __slots__ = (
        "_anonymous", "_backends", "_builder", "_driver_types", "_home", "_rules", "_texts", "_tree", "_types",
        "_unattached", "buses", "pairs", "reader", "removal", "slots",
    )  # fmt: skip

    def __init__(
        self,
        tree: ObjectTree,
        builder: Builder,
        types: Types,
        backends: Backends,
        texts: Texts,
        rules: DeviceRules,
        home: Home,
        reader: reading.Reader,
        driver_types: DeviceTypes,
    ) -> None:
        self._home = home
        self._driver_types = driver_types
        self._tree = tree
        self._builder = builder
        self._types = types
        self._backends = backends
        self._texts = texts
        self._rules = rules
        self.reader = reader
        self.buses = Buses(tree, types)
        for device in self.buses.devices.values():
            places.restore(device)
        self._anonymous = 0
        self.slots = AcpiSlots()
        self.removal = Removal(tree, self.buses, backends, rules, home, self.slots)
        self.pairs = FailoverPairs(self.buses, rules, texts, home)
        numbers = [name[len("device[") : -1] for name in tree.container(UNATTACHED).children if name[:7] == "device["]
        self._unattached = 1 + max(map(int, numbers), default=-1)

    # Adding

    def add(self, options: Options, *, cold: bool = False, text: bool = False) -> Device | None:
        """Add a device, as `device_add` does, or as `-device` does while the machine is put together (`cold`).

        `options` are in the order in which they were given; `text`: they are text, as on the command line.  The id of a
        cold device has been looked at by then, where the release looks at it at all.  None: it is hidden for now.

        :raise MachineError: it is refused.
        """
        identifier = options.get("id")
        text = text or (self._rules.device_options_are_text and not cold)
        if text:
            options = {name: spelt for name, value in options.items() if (spelt := reading.as_text(value)) is not None}
        if not (cold and text and self._rules.device_options_in_order):
            options = {name: options[name] for name in in_order(tuple(options))}
        # A number is no id, even where it counts as text.
        identifier = identifier if isinstance(identifier, str) else None
        check = self._rules.device_id_check
        if cold and check != "late":
            check = "none"
        if identifier is not None and check in ("options", "identifier") and not is_identifier(identifier):
            raise Refusal("identifier-expected", name="id")
        checked = check == "options" or (check == "identifier" and self.pairs.is_hidden(identifier))
        if checked and identifier in self.removal.in_use:
            raise Refusal("option-id-duplicate", id=identifier, group="device")
        try:
            device = self._make(options, identifier, check, cold=cold, text=text)
        except Refusal:
            self.removal.drain()
            raise
        if device is None:
            if cold and identifier is not None:
                self.removal.in_use.add(identifier)
            return None
        guest = self._home.guest
        if guest is not None and guest.listens:
            if self.pairs.is_standby(device):
                guest.standby_added(device.path)
            if virtual_memory.unsettled(self._tree, [device]):
                guest.balloon_asked()
        if self._rules.adding_ends_lag:
            self.removal.drain()
        if identifier is not None:
            self.removal.in_use.add(identifier)
        return device

    def add_hidden(self, options: Options, *, text: bool) -> object:
        """Add a device that was hidden: its id is its own."""
        self.removal.in_use.discard(str(options["id"]))
        return self.add(options, text=text)

    def _make(self, options: Options, identifier: str | None, check: str, *, cold: bool, text: bool) -> Device | None:
        driver = options.get("driver")
        if not isinstance(driver, str):
            raise MachineError("Parameter 'driver' is missing")
        driver, captured = self._driver_types.find(driver, cold=cold)
        bus = self._bus(driver, captured, options, cold=cold)
        check_bus = partial(controllers.check_bus, self._tree, bus)
        if options.get(failover.PAIR) and self.pairs.hides(options, check_bus, cold=cold, text=text):
            return None
        if not cold:
            self._check_hotplug(driver, captured, bus)
        if identifier is not None:
            if check == "late" and not is_identifier(identifier):
                raise MachineError(f"Invalid qdev ID '{identifier}'")
            if identifier in self._tree.container(PERIPHERAL).children:
                raise MachineError(self._texts("device-id-duplicate", id=identifier))
            name = identifier
        else:
            name = f"device[{self._anonymous}]"
            self._anonymous += 1
        if "tree" not in captured:
            self._driver_types.refuse(driver, captured, options, identifier, self.reader, text=text)
        node = self._build(captured["tree"], identifier)
        for property_name, value in captured.get("values", {}).items():
            node.set_value(property_name, value)
        if processors.is_processor(node):
            processors.forget_place(node)
        elif driver in memory.PLACED:
            memory.forget_place(node)
        container = self._tree.container(PERIPHERAL if identifier is not None else PERIPHERAL_ANON)
        container.add_child(name, node)
        device = Device(node, driver, identifier, cold=cold)
        try:
            if self._home.settings.only_migratable:
                migratable.check(driver, self._rules)
            given = self._set(node, options, identifier, text=text, cold=cold)
            self._share_bus(node, identifier, given)
            self._realize(device, bus, captured, given)
        except Refusal:
            container.remove(name)
            raise
        return device

    def _bus(self, driver: str, captured: dict[str, Any], options: Options, *, cold: bool) -> Bus | None:
        """The bus that it goes on; None for a device that needs none."""
        kind, path = captured.get("bus"), options.get("bus")
        bus: Bus | None = None
        if isinstance(path, str):
            try:
                bus = self.buses.at(path)
            except MachineError as refusal:
                refusal.advises = not cold or self._rules.bus_listed_by_option
                raise
            if kind not in bus.types:
                raise MachineError(f"Device '{driver}' can't go on {bus.type} bus")
        elif kind is not None:
            bus = self.buses.first(kind=kind)
            if bus is None:
                raise MachineError(f"No '{kind}' bus found for device '{driver}'")
            if bus.full:
                raise MachineError(self._texts("bus-full", bus=kind, driver=driver))
        return bus

    def _check_hotplug(self, driver: str, captured: dict[str, Any], bus: Bus | None) -> None:
        """:raise MachineError: the device cannot be added while the machine exists."""
        self._driver_types.check_hotplug(captured)
        controllers.check_bus(self._tree, bus)
        if bus is None and not self._home.settings.board.hotplugs_freely:
            raise MachineError(f"Device '{driver}' can not be hotplugged on this machine")

    def check_needed(self, driver: str, options: Options) -> None:
        """Refuse a type that could not be captured where it was not given what it cannot do without.

        :raise MachineError: it was not.
        """
        self._driver_types.check_needed(driver, options)

    def _build(self, captured: list[Any], identifier: str | None) -> Node:
        """The device's objects; a bus whose device has no id is named after its type."""

        def new_name(name: str, child: Node | None) -> str:
            if identifier is None and child is not None:
                return self.buses.new_name(child.type)
            return name.replace(ID, identifier or "")

        node = self._builder.build(captured, owns=True)
        rename(node, new_name)
        return node

    def _set(
        self, node: Node, options: Options, identifier: str | None, *, text: bool, cold: bool
    ) -> dict[str, Any]:
        """Set the properties; gives what was set, read."""
        given = self._preset(node, cold=cold)
        preset = self._home.settings.presets
        for name, value in options.items():
            if name in ASIDE:
                continue
            to = reading.target(node, name, self._texts, identifier)
            read = self.reader.read(to, value, text=text)
            presets.check_unset(preset, self._types, node.type, name, read, passed_on=to.type != node.type)
            if read in chardevs_of(given) and chardevs_of({name: read}):
                raise MachineError(self._texts("chardev-in-use", owner=f"{to.type}.{name}", id=read))
            given[name] = read
            self.check_set(node, name, read)
            node.set_value(name, read)
            if to.type != node.type:
                for part in node.below():
                    if part is not node and part.type == to.type and part.property(to.name) is not None:
                        part.set_value(to.name, read)
        return given

    def _share_bus(self, node: Node, identifier: str | None, given: Mapping[str, Any]) -> None:
        """A USB controller that is another's companion has no bus: its ports are the other's."""
        if not given.get(_MASTER):
            return
        for child in [each for each in node.children.values() if each.type == _USB_BUS]:
            node.remove(child.name)
            if identifier is None:
                self.buses.take_back(_USB_BUS)

    def _preset(self, node: Node, *, cold: bool) -> dict[str, Any]:
        """Let a new device begin with what is preset; gives what was set, read."""
        settings = self._home.settings
        if not settings.presets:
            return {}
        return presets.apply(settings.presets, node.below(), self._types, self.reader, self._texts, cold=cold)

    def preset_board(self) -> None:
        """Let the devices that the board brings begin with what is preset."""
        wanted = [each for each in self._home.settings.presets if each.name not in presets.OF_BOARDS]
        if wanted:
            for device in list(self.buses.devices.values()):
                presets.apply(wanted, [device.node], self._types, self.reader, self._texts)
            if self.buses.root is not None:
                controllers.settle_root(self.buses.root, [each.node for each in self.buses.devices.values()])

    def check_set(self, node: Node, name: str, value: Any) -> None:
        """Refuse a value that a device does not take.

        :raise Refusal: it does not.
        """
        limits.check_set(self._types.is_a(node.type), name, value)
        indexes.check_set(name, value, self.buses.devices.values())

    def _realize(self, device: Device, bus: Bus | None, captured: dict[str, Any], given: dict[str, Any]) -> None:
        """Let it take its place and come into being."""
        node = device.node
        if bus is not None:
            if places.is_checked_first(bus):
                self._place(bus, device, given)
            bus.add(device)
            node.set_value("parent_bus", bus.node.path)
        try:
            self._plug_into_machine(device, given)
            needed = () if node.property("fsdev") is not None else captured.get("with", ())
            if any(given.get(name) in _EMPTY.get(name, (None, "")) for name in needed):
                raise MachineError(captured["refusal"].replace(ID, device.identifier or ""))
            if bus is not None:
                if places.needs_hub(bus, device.driver, given):
                    self.add_own(places.HUB, bus, {}, cold=device.cold)  # nobody asked for it
                if not places.is_checked_first(bus):
                    self._place(bus, device, given)
                controllers.check_slot(self._tree, bus, device)
                controllers.check_chassis(device, self.buses.devices.values())
            indexes.check(device, self.buses.devices.values())
            limits.check(self._types.is_a(node.type), node, given, self._rules)
            if bus is not None:
                virtio.check(node, bus, given)
            self._backends.attach(device, given, captured)
        except Refusal:
            if bus is not None:
                bus.remove(device)
            raise
        misfit = failover.misfit(device, bus, given)
        refusal = misfit or firmware.refusal(node, given.get("romfile"), cold=device.cold)
        if refusal is not None:
            self._fail_late(device)
            raise MachineError(refusal)
        for part in node.below():
            if part.property("hotplugged") is not None:
                part.set_value("hotplugged", not device.cold)
                if part is not node:
                    self.buses.devices[id(part)] = Device(part, part.type, None, cold=device.cold)
        self.buses.devices[id(node)] = device
        if device.cold:
            list_as_cold(node, captured.get("cold", ()))
        for part in node.below():
            self.buses.bring(part)
        if bus is not None:
            virtio.choose_interfaces(node, bus, given)
            if controllers.controller(self._tree, bus) is Controller.NOBODY and node.property("hotpluggable"):
                node.set_value("hotpluggable", False)
        cold_consoles = captured.get("cold-consoles", ()) if device.cold else ()
        screens.add_those_of(self._tree, self._builder, captured.get("consoles", cold_consoles), node)

    def add_text_console(self, text: screens.TextConsole) -> None:
        """Add what a character device `vc` shows its text on."""
        screens.add_text(self._tree, self._types, text)

    def _place(self, bus: Bus, device: Device, given: dict[str, Any]) -> None:
        places.place(bus, device, given, self._texts, always_check=self._rules.pci_function_check == "always")

    def _fail_late(self, device: Device) -> None:
        """A device is refused when its parts are there already: they go, and that is told."""
        if device.bus is not None:
            device.bus.remove(device)
        self._backends.detach(device)
        self._backends.release(device)
        parts = [part for part in device.node.below() if part.property("hotplugged") is not None]
        gone = [(Device(part, part.type, None, cold=False), part.path) for part in parts[1:]]
        self.removal.take_apart(gone, device.path)

    def _plug_into_machine(self, device: Device, given: Mapping[str, Any]) -> None:
        """What the machine itself has to say to a CPU or to memory.

        :raise MachineError: it does not take it.
        """
        others, settings = self.buses.devices.values(), self._home.settings
        if processors.is_processor(device.node):
            model, nowhere = device.driver.removesuffix(CPU), self._rules.node_of_unplaced_cpu
            processors.plug(device.node, model, settings, others, nowhere=nowhere)
        elif device.driver in memory.KINDS and not settings.board.has_cpus:
            memory.check_backend(given)
        elif device.driver in memory.KINDS:
            board = self._tree.find("/machine")
            if device.driver == memory.PERSISTENT and (board is None or not board.value("nvdimm")):
                raise MachineError("nvdimm is not enabled: missing 'nvdimm' in '-M'")
            memory.plug(self._tree, device.node, self._memory_region(), others, self._backends.used_objects)
        elif device.driver in memory.VIRTUAL:
            memory.check_room(given, settings, first=self._rules.memory_devices_checked_first)
            if given.get("memdev"):
                virtual_memory.place(self._tree, device, self._memory_region(), others, self._backends.used_objects)

    def _memory_region(self) -> memory.Region:
        machine = self._builder.captured("machine", self._home.settings.board.family) or {}
        return memory.region(self._home.settings, machine.get("low-memory"))

    def add_own(
        self, driver: str, bus: Bus, given: dict[str, Any], *, cold: bool, number: int | None = None
    ) -> None:
        """Add a device that belongs to the machine: behind its others, or as this number of them.

        :raise Refusal: it is refused.
        """
        captured = self._builder.captured("device", driver)
        if captured is None or "tree" not in captured:
            return
        node = self._build(captured["tree"], None)
        for name, value in given.items():
            presets.check_unset(self._home.settings.presets, self._types, driver, name, value)
        given = self._preset(node, cold=cold) | given
        container = self._tree.container(UNATTACHED)
        if number is None:
            container.add_child(f"device[{self._unattached}]", node)
        else:
            make_room(self._tree.root, container, number, 1)
            container.retype(f"device[{number}]", f"child<{node.type}>")
            container.attach(f"device[{number}]", node)
            self._backends.paths_changed()
        self._unattached += 1
        for name, value in given.items():
            if node.property(name) is not None:
                node.set_value(name, value)
        self._share_bus(node, None, given)
        self._realize(Device(node, driver, None, cold=cold), bus, captured, given)

    def bus_for(self, driver: str) -> Bus | None:
        """The first bus that devices of this type go on; None where there is none, or nothing is known of the type."""
        captured = self._builder.captured("device", driver)
        return None if captured is None or "tree" not in captured else self.buses.first(kind=captured["bus"])

    def add_usb(self) -> None:
        """Add the USB controller that the board has when it is to have one (`-usb`)."""
        for name, controllers_there in controllers.USB.items():
            bus = self.buses.first(name=name)
            for driver, given in controllers_there if bus is not None else ():
                assert bus is not None
                master = self.buses.first(kind=_USB_BUS)
                if "firstport" in given and master is not None:
                    given = {**given, _MASTER: master.name}
                self.add_own(driver, bus, given, cold=True, number=self._number_of_usb())

    def _number_of_usb(self) -> int | None:
        """The number of the board's next USB controller; None: it comes behind all that there are."""
        behind = [each.node for each in self.buses.devices.values() if each.node.type in _BEHIND_USB]
        own = [node.name for node in behind if node.parent is not None and node.parent.path == UNATTACHED]
        return min((int(name[len("device[") : -1]) for name in own), default=None)

    def add_usb_device(self, driver: str) -> None:
        """Add a device that belongs to the machine to its first USB bus, where it has one (`-usbdevice`)."""
        bus = self.buses.first(kind="usb-bus")
        if bus is not None:
            self.add_own(driver, bus, {}, cold=True)

    # Finding

    def find(self, identifier: str) -> Device:
        """The device of this id, or at this path.

        :raise MachineError: there is none.
        """
        if not identifier:
            raise self._unnamed()
        start = self._tree.root if identifier.startswith("/") else self._tree.container(PERIPHERAL)
        node = self._tree.descend(start, identifier.split("/"))
        if node is None:
            raise DeviceNotFound(f"Device '{identifier}' not found")
        device = self.buses.devices.get(id(node))
        if device is None:
            raise MachineError(self._texts("device-is-none", id=identifier))
        return device

    def _unnamed(self) -> MachineError:
        """Some releases take no id at all for the container of devices."""
        if self._rules.empty_device_id_found:
            return MachineError(self._texts("device-is-none", id=""))
        return DeviceNotFound("Device '' not found")

    def settle(self) -> None:
        """The machine has been put together."""
        if self.buses.root is not None:
            controllers.adopt_bridges(self.buses.root, [each.node for each in self.buses.devices.values()])

    def acpi_status(self) -> list[dict[str, Any]]:
        """What query-acpi-ospm-status tells."""
        always = not self._rules.cpu_unplug_needs_guest
        return self.slots.describe(self.buses.devices.values(), self._home.settings, always_cpus=always)

    def drivers(self) -> set[str]:
        """The types of the devices that there are."""
        return {device.driver for device in self.buses.devices.values()}
