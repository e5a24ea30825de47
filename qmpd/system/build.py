"""What a machine is given on its command line: backends, then devices, in QEMU's order (system/vl.c)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from qmpd.block.graph import Drive
from qmpd.block.opening import Opener
from qmpd.common.dictionary_order import in_order
from qmpd.common.texts import Texts
from qmpd.hardware.inventory import Inventory
from qmpd.hardware.network import Netdev
from qmpd.machine.errors import MachineError
from qmpd.qapi.behaviour import Behaviour
from qmpd.qom.node import Property
from qmpd.qom.reader import Target
from qmpd.qom.tree import Builder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.hardware.inventory import InventoryRules
    from qmpd.machine import Machine, MachineSettings
    from qmpd.qapi import Release
    from qmpd.system.chardev import Chardev

    Connected = Callable[[str], bool]

_builders: WeakKeyDictionary[Release, Builder] = WeakKeyDictionary()
# How many flash chips a board has (`-machine pflash0=`).
_FLASHES = 2


class ColdPlugError(Exception):
    """A part of the machine is refused: number `index` of the settings' list `kind`; the text is QEMU's own."""

    __slots__ = ("index", "kind", "message")

    def __init__(self, kind: str, index: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.index = index
        self.message = message


def has_parts(settings: MachineSettings) -> bool:
    """Whether anything was given."""
    return bool(
        settings.devices
        or settings.objects
        or settings.netdevs
        or settings.blockdevs
        or settings.drives
        or settings.usb
    )


def make_inventory(release: Release, machine: Machine, rules: InventoryRules | None = None) -> Inventory:
    """A new inventory for a machine, without what the machine's settings give it; `rules` instead of the release's."""
    builder = _builders.get(release)
    if builder is None:
        builder = _builders[release] = Builder(release.hardware)
    return Inventory(machine, builder, release.object_types, Texts(release.hardware.texts), rules or release.behaviour)


def build(release: Release, machine: Machine, chardevs: list[Chardev], is_connected: Connected) -> Inventory:
    """Build what the command line gave the machine, and have the machine keep it.

    What cannot be had is left out: whoever reads a command line refuses it before (`check`).
    """
    inventory = machine.inventory = make_inventory(release, machine)
    if has_parts(machine.settings):
        with suppress(LookupError):
            show_chardevs(inventory, chardevs, is_connected)
            furnish(inventory, machine.settings)
    return inventory


def furnish(inventory: Inventory, settings: MachineSettings) -> list[ColdPlugError]:
    """Give the machine its parts; the result is what was refused, and is left out."""
    refused: list[ColdPlugError] = []
    if settings.objects:
        inventory.objects.begin()
        _add(_objects(inventory, settings), refused)
        inventory.objects.end()
    _add(_others(inventory, settings), refused)
    if settings.devices:
        inventory.devices.settle()
    return refused


def _add(parts: Iterator[tuple[str, int, _Part]], refused: list[ColdPlugError]) -> None:
    for kind, index, add in parts:
        try:
            add()
        except MachineError as error:
            refused.append(ColdPlugError(kind, index, error.message))


def check(release: Release, settings: MachineSettings) -> None:
    """Find out whether a machine can be put together as the settings say, as far as its parts are known.

    :raise ColdPlugError: it cannot.
    """
    if not release.hardware:
        return
    from qmpd.machine import Machine, SystemClock
    machine = Machine(settings, release.behaviour, SystemClock(), lambda _: None, lambda: None)
    refused = furnish(make_inventory(release, machine), settings)
    if refused:
        raise refused[0]


class Assembly:
    """A machine that is put together part by part, to find out what QEMU would refuse."""

    def __init__(self, release: Release, settings: MachineSettings) -> None:
        from qmpd.machine import Machine, SystemClock

        machine = Machine(settings, release.behaviour, SystemClock(), lambda _: None, lambda: None)
        # A command line's JSON has types, whatever the commands make of theirs, and nobody looks at its ids.
        rules = Behaviour(**{**vars(release.behaviour), "device_options_are_text": False, "device_id_check": "none"})
        self.inventory = make_inventory(release, machine, rules)

    def add(self, kind: str, arguments: Mapping[str, object]) -> None:
        """Add a part: an object, netdev, blockdev, drive or device, with what it was given.

        :raise ColdPlugError: it is refused.
        """
        try:
            _PARTS[kind](self.inventory, dict(arguments))()
        except MachineError as error:
            raise ColdPlugError(kind, 0, error.message) from None

    def begin_objects(self, any_wanted: bool) -> None:
        """Users' objects come next, if any, before those that the machine makes for itself."""
        self._begun = False
        if any_wanted:
            with suppress(LookupError):
                self.inventory.objects.begin()
                self._begun = True

    def end_objects(self) -> None:
        """All of the users' objects are there."""
        if self._begun:
            self.inventory.objects.end()

    def add_usb(self) -> None:
        """Add the board's USB controller."""
        with suppress(LookupError, MachineError):
            self.inventory.devices.add_usb()

    def add_netdev(self, arguments: Mapping[str, Any]) -> None:
        """Add a network backend whose id nobody looks at."""
        options = {name: value for name, value in arguments.items() if name not in ("type", "id")}
        netdev = Netdev(str(arguments["id"]), str(arguments["type"]), options)
        self.inventory.backends.network.netdevs.append(netdev)

    def add_device(self, arguments: Mapping[str, object], *, text: bool) -> None:
        """Add a device; `text`: what it was given is text.

        :raise ColdPlugError: it is refused.
        """
        try:
            self.inventory.devices.add(arguments, cold=True, text=text)
        except MachineError as error:
            raise ColdPlugError("devices", 0, error.message) from None

    def check_properties(
        self, driver: str, types: Mapping[str, str], given: Mapping[str, object], *, text: bool
    ) -> None:
        """Look at the properties of a device that cannot be added here.

        :raise ColdPlugError: there is no such property, or it does not take its value, or one is missing.
        """
        reader = self.inventory.devices.reader
        try:
            for name, value in given.items():
                if name not in types:
                    raise MachineError(f"Property '{driver}.{name}' not found")
                if types[name].startswith(_OBJECTS) or not isinstance(value, (str, int)):
                    continue
                reader.read(Target(Property(name, types[name]), name, driver), value, text=text)
            self.inventory.devices.check_needed(driver, given)
        except MachineError as error:
            raise ColdPlugError("devices", 0, error.message) from None


# Properties that are other objects.
_OBJECTS = ("child<", "link<")
# What the name of a file begins with that is none.
_PROTOCOLS = ("null-co", "null-aio")
_FORMATS = ("raw", "qcow2")


class _Part:
    """Something to add, with what it is called."""

    def __init__(self, inventory: Inventory, arguments: dict[str, Any]) -> None:
        self.inventory = inventory
        self.arguments = arguments

    def __call__(self) -> None:
        """Add it.

        :raise MachineError: it is refused.
        """
        raise NotImplementedError


class _Object(_Part):
    def __call__(self) -> None:
        properties = {name: value for name, value in self.arguments.items() if name not in ("qom-type", "id")}
        ordered = {name: properties[name] for name in in_order(tuple(properties))}
        kind, identifier = cast("str", self.arguments["qom-type"]), cast("str", self.arguments["id"])
        text = not self.inventory.rules.keyval_options
        self.inventory.objects.add(kind, identifier, ordered, checked=True, text=text)


class _Netdev(_Part):
    def __call__(self) -> None:
        options = {name: value for name, value in self.arguments.items() if name not in ("type", "id")}
        self.inventory.backends.network.add(self.arguments["id"], self.arguments["type"], options)


class _Node(_Part):
    def __call__(self) -> None:
        Opener(self.inventory.backends.block).open(self.arguments, owned=True)


class _Drive(_Part):
    def __call__(self) -> None:
        add_drive(self.inventory, self.arguments)


def add_drive(inventory: Inventory, given: Mapping[str, Any]) -> None:
    """`-drive`: a node of its own, in a drive that has the id.

    :raise MachineError: it is refused.
    """
    block = inventory.backends.block
    drive = Drive(given.get("id") or block.new_drive_name(given.get("if", "ide")), removable=True)
    if given.get("file"):
        read_only = given.get("readonly", given.get("read-only", "off")) in ("on", "yes", "true")
        driver = next((each for each in _PROTOCOLS if given["file"].startswith(f"{each}://")), None)
        file = {"driver": "file", "filename": given["file"]} if driver is None else {"driver": driver}
        options = {"driver": given.get("format") or "raw", "file": file, "read-only": read_only}
        if "node-name" in given:
            options["node-name"] = given["node-name"]
        drive.node = Opener(block).open(options)
        drive.node.drives.append(drive)
    elif given.get("driver") in _FORMATS:
        # On top of what is not modelled.
        drive.unmodelled = True
    elif given.get("driver"):
        options = {name: given[name] for name in ("driver", "node-name") if name in given}
        if given.get("size", "").isdigit():
            options["size"] = int(given["size"])
        drive.node = Opener(block).open({**options, "read-only": given.get("readonly") == "on"})
        drive.node.drives.append(drive)
    if drive.name in block.nodes:
        raise MachineError(f"Device name '{drive.name}' conflicts with an existing node name")
    block.drives.append(drive)


class _Flash(_Part):
    """A flash chip of the board, whose content is a node."""

    def __call__(self) -> None:
        block = self.inventory.backends.block
        node = block.nodes.get(self.arguments["node"])
        if node is None:
            return
        path = f"/machine/{self.arguments['name']}"
        block.attach(Drive("", node=node, qdev=path, label=path, writes=not node.read_only, shares=node.read_only))


class _Device(_Part):
    def __call__(self) -> None:
        self.inventory.devices.add(self.arguments, cold=True, text=True)


def _objects(inventory: Inventory, settings: MachineSettings) -> Iterator[tuple[str, int, _Part]]:
    for index, each in enumerate(settings.objects):
        yield "objects", index, _Object(inventory, dict(each))


def _others(inventory: Inventory, settings: MachineSettings) -> Iterator[tuple[str, int, _Part]]:
    for index, each in enumerate(settings.netdevs):
        yield "netdevs", index, _Netdev(inventory, dict(each))
    for index, each in enumerate(settings.blockdevs):
        yield "blockdevs", index, _Node(inventory, dict(each))
    for index, drive in enumerate(settings.drives):
        yield "drives", index, _Drive(inventory, dict(drive))
    if settings.usb:
        inventory.devices.add_usb()
    for number in range(_FLASHES):
        node = settings.machine_options.get(f"pflash{number}")
        if node is not None:
            yield "blockdevs", 0, _Flash(inventory, {"name": f"system.flash{number}", "node": node})
    for index, device in enumerate(settings.devices):
        yield "devices", index, _Device(inventory, {"driver": device.driver, **device.properties})


_PARTS: dict[str, type[_Part]] = {"objects": _Object, "netdevs": _Netdev, "blockdevs": _Node, "drives": _Drive}


def show_chardevs(inventory: Inventory, chardevs: list[Chardev], is_connected: Connected) -> None:
    """Let the objects have the character devices that there are now."""
    inventory.show_chardevs([
        (each.label, _backend(each.address), each.held or is_connected(each.label), _address(each))
        for each in chardevs
    ])


def _backend(address: str) -> str:
    """The type of the backend that has this address."""
    kind = address.partition(":")[0]
    return "socket" if kind in ("unix", "tcp", "fd", "vsock") else kind


def _address(chardev: Chardev) -> dict[str, object]:
    kind, _, rest = chardev.address.partition(":")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return {"type": "inet", "host": host, "port": port}
    return {"type": kind, "path": rest}
