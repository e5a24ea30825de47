"""Building a machine: the same operations for what a command line gives it and for what comes while it runs.

Whoever reads a command line calls the methods of `Building` in the order of QEMU's phases (system/vl.c); `furnish` does
so with all that is in a blueprint.  What they make is the inventory of the machine that is then served.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import orjson

from qmpd.block.nodes import Drive
from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal
from qmpd.common.texts import Texts
from qmpd.guest.effects import ACTING
from qmpd.hardware.board_drives import BOARD_INTERFACES, BoardDrive, add_board_drives
from qmpd.hardware.board_parts import add_board_parts
from qmpd.hardware.home import Workbench
from qmpd.hardware.inventory import Inventory, NotCaptured
from qmpd.hardware.screens import text_console
from qmpd.hardware.source import Source
from qmpd.qom.tree import Builder
from qmpd.system.drives import add_drive
from qmpd.system.node_options import NodeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.opening import Opener
    from qmpd.chardev.device import Chardev
    from qmpd.common.computer import Asker, Computer
    from qmpd.hardware.home import Home
    from qmpd.machine import MachineSettings
    from qmpd.qapi import Release

    Connected = Callable[[str], bool]
    Refuse = Callable[[Refusal], None]

_sources: WeakKeyDictionary[Release, Source] = WeakKeyDictionary()
# How many flash chips a board has (`-machine pflash0=`).
_FLASHES = 2


def _words(release: weakref.ref[Release], refusal: Refusal) -> str:
    found = release()
    assert found is not None
    return found.refusals.message(refusal)


def make_inventory(release: Release, home: Home, computer: Computer) -> Inventory:
    """A new inventory for a machine on this computer, without what the machine's settings give it."""
    source = _sources.get(release)
    if source is None:
        source = _sources[release] = Source(
            release.name,
            bool(release.hardware),
            Builder(release.hardware),
            release.object_types,
            Texts(release.hardware.texts, partial(_words, weakref.ref(release))),
            release.behaviour,
            release.command_line.choices("network-backends"),
            partial(_declared, weakref.ref(release)),
        )
    inventory = Inventory(home, source, computer)
    if "blockdev-add" in release.commands:
        inventory.backends.block.copies_noted_below = release.behaviour.copies_noted_below
        inventory.backends.block.servers.extended = release.behaviour.nbd_extended_headers
        inventory.backends.block.demanding = frozenset(release.behaviour.node_demands.split())
        inventory.backends.block.users_zero_as_told = release.behaviour.users_zero_as_told
        inventory.backends.block.inactive_children_refused = release.behaviour.inactive_children_refused
        inventory.backends.block.backing_is_checked = release.behaviour.backing_is_checked
    inventory.backends.block.declared = NodeOptions(release)
    inventory.backends.block.json_parser = release.behaviour.json_parser
    return inventory


def _declared(of: Callable[[], Release | None], kind: str) -> Mapping[str, str]:
    """The types of the properties of a type of object or device, by name; none where they are not known."""
    release = of()
    found: dict[str, str] = {}
    if release is not None:
        for command in ("qom-list-properties", "device-list-properties"):
            reply = release.captured(command, {"typename": kind}, "none", {})
            found |= {each["name"]: each["type"] for each in orjson.loads(reply)} if isinstance(reply, bytes) else {}
    return found


class _Nobody:
    """Who asks for what a blueprint says: open files have their numbers, and nothing is printed."""

    def descriptor(self, text: str) -> int:
        return descriptor_number(text)

    def complain(self, text: str) -> None:
        del text


def descriptor_number(text: str) -> int:
    """The number of an open file.

    :raise Refusal: it is none.
    """
    if not is_digits(text):
        raise Refusal("descriptor-number", text=text)
    return from_digits(text)


class Building:
    """Puts an inventory together, part by part.

    Each method raises what the part itself raises: a `Refusal` where QEMU refuses it, the kind `NotModelled` where QEMU
    would do what qmpd does not know; nothing of the part is left then.
    """

    __slots__ = ("_begun", "inventory")

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._begun = False

    def begin_objects(self) -> None:
        """Users' objects come next, before those that the machine makes for itself.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        self.inventory.objects.begin()
        self._begun = True

    def end_objects(self) -> None:
        """All of the users' objects are there."""
        if self._begun:
            self.inventory.objects.end()
            self._begun = False

    def add_object(self, arguments: Mapping[str, object]) -> None:
        """Add an object (`-object`), with what `object-add` is given.

        :raise Refusal: it is refused.
        """
        properties = {name: value for name, value in arguments.items() if name not in ("qom-type", "id")}
        kind, identifier = cast("str", arguments["qom-type"]), cast("str", arguments["id"])
        text = not self.inventory.rules.keyval_options
        self.inventory.objects.add(kind, identifier, properties, checked=True, text=text)

    def add_netdev(self, arguments: Mapping[str, Any], asker: Asker | None = None) -> None:
        """Add a network backend (`-netdev`), with what `netdev_add` is given.

        :raise Refusal: it is refused.
        """
        self.inventory.add_netdev(arguments, asker or _Nobody(), cold=True)

    def add_file_system(self, identifier: str) -> None:
        """Have something to share with the guest (`-fsdev`), which has been looked at."""
        self.inventory.backends.file_systems.add(identifier)

    def add_node(self, arguments: Mapping[str, Any]) -> None:
        """Add a block node (`-blockdev`), with what `blockdev-add` is given.

        :raise Refusal: it is refused.
        """
        from qmpd.block.flat import flatten

        _opener(self.inventory.backends.block).open(flatten(arguments), owned=True)

    def add_drive(self, pairs: Mapping[str, Any]) -> None:
        """Add a drive (`-drive`).

        :raise NotModelled: what would be in it is not; the drive is there.
        :raise Refusal: it is refused.
        """
        add_drive(self.inventory, pairs)

    def preset_board(self) -> None:
        """Set what `-global` says of the devices that the board brings."""
        if self.inventory.settings.presets:
            self.inventory.devices.preset_board()

    def add_board_parts(self) -> None:
        """Make the devices that the board makes for itself.

        :raise Refusal: one is refused.
        """
        settings = self.inventory.settings
        if settings.board_parts:
            add_board_parts(self.inventory.devices, settings.board_parts, settings.board)

    def add_usb(self) -> None:
        """Add the board's USB controller (`-usb`).

        :raise Refusal: it is refused.
        """
        self.inventory.devices.add_usb()

    def add_usb_device(self, driver: str) -> None:
        """Add a USB device that has no id (`-usbdevice`).

        :raise Refusal: it is refused.
        """
        self.inventory.devices.add_usb_device(driver)

    def add_flashes(self) -> None:
        """Put the nodes of `-machine pflash0=` and the like into the board's flash chips."""
        block, options = self.inventory.backends.block, self.inventory.settings.machine_options
        for number in range(_FLASHES):
            node = block.nodes.get(options.get(f"pflash{number}", ""))
            if node is not None:
                self._add_flash(number, Drive("", node=node))

    def add_board_drives(self) -> None:
        """Put the drives into the board's own places that are for one (`-drive if=ide` and the like).

        :raise Refusal: the device there refuses one.
        """
        chosen = [each for each in self.inventory.settings.drives if "unit" in each]
        places = [
            BoardDrive(each["if"], int(each["bus"]), int(each["unit"]), each["id"], each.get("media") == "cdrom")
            for each in chosen
            if each["if"] in BOARD_INTERFACES
        ]
        if places:
            add_board_drives(self.inventory.devices, places)
        for each in chosen:
            drive = self.inventory.backends.block.drive(each["id"])
            if each["if"] == "pflash" and drive is not None:
                self._add_flash(int(each["unit"]), drive)

    def _add_flash(self, number: int, drive: Drive) -> None:
        drive.qdev = drive.label = f"/machine/system.flash{number}"
        drive.removable = False
        drive.writes = drive.node is not None and not drive.node.read_only
        drive.shares = not drive.writes
        self.inventory.backends.block.attach(drive)

    def add_device(self, arguments: Mapping[str, object], *, text: bool) -> None:
        """Add a device (`-device`); `text`: what it was given is text.

        :raise Refusal: it is refused.
        """
        self.inventory.devices.add(arguments, cold=True, text=text)

    def add_text_consoles(self, texts: Iterable[tuple[str, Mapping[str, int]]]) -> None:
        """Add what character devices show text on, by their ids, each with the size that was asked for.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        for label, size in texts:
            self.inventory.devices.add_text_console(text_console(label, size))

    def settle(self) -> None:
        """All devices are there."""
        if self.inventory.has_devices:
            self.inventory.devices.settle()


def _opener(block: BlockGraph) -> Opener:
    # With it come the formats of images, which a machine without disks does without.
    from qmpd.block.opening import Opener

    return Opener(block)


def _parts(building: Building, settings: MachineSettings) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is to be done to build what the settings say, and the options that ask for it, in QEMU's order."""
    if settings.objects:
        yield "-object", building.begin_objects
    for each in settings.objects:
        yield f"-object {each['qom-type']},id={each['id']}", partial(building.add_object, each)
    yield "-object", building.end_objects
    for each in settings.netdevs:
        yield f"-netdev {each['type']},id={each['id']}", partial(building.add_netdev, each)
    for each in settings.blockdevs:
        yield f"-blockdev {each['driver']}", partial(building.add_node, each)
    for drive in settings.drives:
        given = ",".join(f"{name}={value}" for name, value in drive.items())
        yield f"-drive {given}", partial(building.add_drive, drive)
    yield "-global", building.preset_board
    yield "-machine", building.add_board_parts
    if settings.usb:
        yield "-usb", building.add_usb
    yield "-machine", building.add_flashes
    yield "-drive", building.add_board_drives
    for device in settings.devices:
        arguments = {"driver": device.driver, **device.properties}
        yield device.location or f"-device {device.driver}", partial(_add_device, building, arguments)
    yield "-device", building.settle


def _add_device(building: Building, arguments: Mapping[str, Any]) -> None:
    try:
        building.add_device(arguments, text=True)
    except NotCaptured:
        # What these do to the machine is known, whatever it is made of.
        if arguments["driver"] not in ACTING:
            raise


def furnish(inventory: Inventory, refuse: Refuse) -> None:
    """Give the machine what its settings say; `refuse` is told of each part that is refused, and is left out."""
    inventory.backends.block.inactive = inventory.settings.incoming is not None
    for option, add in _parts(Building(inventory), inventory.settings):
        try:
            add()
        except Refusal as refusal:
            refuse(refusal.at(option))


def build(release: Release, settings: MachineSettings, computer: Computer, refuse: Refuse) -> Inventory:
    """Build what the settings say, for a machine that is still to come (`Inventory.move_to`).

    `refuse` is told of each part that is refused; it may raise that.
    """
    inventory = make_inventory(release, Workbench(settings), computer)
    try:
        furnish(inventory, refuse)
    except BaseException:
        inventory.close()
        raise
    return inventory


_INTERNET = ("tcp", "telnet", "websocket")
"""What addresses of sockets of the Internet begin with."""


def show_chardevs(inventory: Inventory, chardevs: list[Chardev], is_connected: Connected) -> None:
    """Let the objects have the character devices that there are now."""
    inventory.show_chardevs([
        (each.label, _backend(each.address), each.held or is_connected(each.label), _address(each))
        for each in chardevs
    ])


def _backend(address: str) -> str:
    """The type of the backend that has this address."""
    kind = address.partition(":")[0]
    return "socket" if kind in ("unix", "fd", "vsock", *_INTERNET) else kind


def _address(chardev: Chardev) -> dict[str, object]:
    kind, _, rest = chardev.address.partition(":")
    if kind in _INTERNET:
        host, _, port = rest.rpartition(":")
        return {"type": "inet", "host": host, "port": port}
    return {"type": kind, "path": rest}
