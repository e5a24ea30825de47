"""What devices use: network backends, character devices, block nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block import iothreads
from qmpd.block.nodes import Drive
from qmpd.common.refusals import Refusal
from qmpd.hardware.assembly import UNATTACHED
from qmpd.hardware.floppies import FLOPPY, choose_type
from qmpd.machine.errors import MachineError
from qmpd.qom.naming import ID
from qmpd.qom.reader import CHARDEV

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.chardev.facts import ChardevFacts
    from qmpd.common.computer import Computer
    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Device
    from qmpd.hardware.network import Network
    from qmpd.qom.node import Node

# Of these there may be one in a machine.
_SINGLE = {"virtio-balloon-device": "Only one balloon device is supported"}
# What opens its character device when the guest opens the port.
OPENED_BY_GUEST = frozenset({"virtserialport"})


# Bytes of the name under which a guest finds what is shared with it.
_LONGEST_TAG = 31
# What is a disk or a CD, as its drive is: it looks whether it can have that, and then hands it on to a part of its own.
_ANY_MEDIUM = "usb-storage"
_NEVER_READ_ONLY = "ide-hd"
_IOTHREAD = "iothread"


class BackendRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def stick_has_drive_first(self) -> bool:
        """Whether a stick of USB has its drive itself before its disk has it."""

    @property
    def scsi_iothread_refused(self) -> bool:
        """Whether a SCSI disk is refused whose node another device keeps in another thread than the controller's."""

    @property
    def memory_files_of_pages(self) -> bool:
        """Whether memory in a file has whole pages alone."""


def chardevs_of(given: Mapping[str, Any]) -> list[str]:
    """The character devices that a device was given, by `chardev`, or by `chardev1` and so on where it has several."""
    return [value for name, value in given.items() if value and name.rstrip("0123456789") == CHARDEV]


def _scsi_controller(device: Device) -> Device | None:
    """The device that has the bus that a SCSI disk is on; None for other devices."""
    return None if device.bus is None or "SCSI" not in device.bus.types else device.bus.device


def _takes_iothread(controller: Device) -> bool:
    return controller.node.property(_IOTHREAD) is not None


def _writes(device: Device, drive: Drive) -> bool:
    """Whether a device writes to what is in its drive; a disk that must is refused one that is read-only."""
    if drive.node is None or (drive.removable and device.driver != FLOPPY):
        return False
    return not drive.node.read_only or device.driver == _NEVER_READ_ONLY


class Backends:
    """The backends of one machine, as its devices see them."""

    __slots__ = (
        "_chardev_users", "_object_users", "_rules", "_singles", "_texts", "audiodevs", "block", "chardevs", "computer",
        "file_systems", "network", "open_ports", "tpmdevs",
    )  # fmt: skip

    def __init__(
        self, network: Network, block: BlockGraph, texts: Texts, computer: Computer, rules: BackendRules
    ) -> None:
        self.network = network
        self.block = block
        self._texts = texts
        self._rules = rules
        # The computer that the machine is on, and the character devices that there are, by their labels.
        self.computer = computer
        self.chardevs: Mapping[str, ChardevFacts] = {}
        # The audio and TPM backends, which are there from the start.
        self.audiodevs: list[str] = []
        self.tpmdevs: list[str] = []
        self._chardev_users: dict[str, list[Device]] = {}
        # The ids of the folders and the like that a guest can be given (`-fsdev`).
        self.file_systems: set[str] = set()
        # The ports that the guest has opened.
        self.open_ports: list[Device] = []
        self._singles: dict[str, Device] = {}
        self._object_users: dict[str, Device] = {}

    @property
    def used_objects(self) -> set[str]:
        """The paths of the objects that devices use."""
        return set(self._object_users)

    def has(self, kind: str) -> bool:
        """Whether there is the device of this type of which there may be one."""
        return kind in self._singles

    def single(self, kind: str) -> Device | None:
        """The device that has the part of this type of which there may be one."""
        return self._singles.get(kind)

    @property
    def memory_files_of_pages(self) -> bool:
        """Whether memory in a file has whole pages alone."""
        return self._rules.memory_files_of_pages

    def chardev_is_busy(self, label: str) -> bool:
        """Whether somebody uses a character device."""
        known = self.chardevs.get(label)
        room = 1 if known is None else known.room
        return (known is not None and known.is_busy) or self.chardev_users(label) >= room

    def chardev_users(self, label: str) -> int:
        """How many devices use a character device."""
        return len(self._chardev_users.get(label, ()))

    def users_of_chardev(self, label: str) -> list[Device]:
        """The devices that use a character device."""
        return list(self._chardev_users.get(label, ()))

    def chardev_is_open(self, label: str) -> bool:
        """Whether a device that uses a character device, if any, listens to it: from the start, or by now."""
        users = self._chardev_users.get(label, ())
        return any(self.port_is_open(user) for user in users)

    def port_is_open(self, device: Device) -> bool:
        """Whether the port that a device is is open: the guest has opened it, or it is none that is opened."""
        return device.driver not in OPENED_BY_GUEST or device in self.open_ports

    def chardevs_used_by(self, device: Device) -> list[str]:
        """The character devices that a device uses."""
        return [label for label, users in self._chardev_users.items() if device in users]

    def open_port(self, device: Device, *, opened: bool) -> None:
        """The guest has opened or closed the port that a device is."""
        if device in self.open_ports:
            self.open_ports.remove(device)
        if opened:
            self.open_ports.append(device)

    def check(self, kind: str, value: str, owner: str) -> None:
        """Refuse a backend that is not there or is in use.

        :raise MachineError: with `owner` (`TYPE.PROPERTY`) in its text.
        """
        if kind == "netdev":
            self.network.check(value, owner)
        elif kind == "drive":
            self.block.check(value, owner)
        elif kind == "audiodev":
            if value not in self.audiodevs:
                raise Refusal("audiodev-missing", owner=owner, id=value)
        elif kind == "tpmdev":
            if value not in self.tpmdevs:
                raise Refusal("property-value-missing", owner=owner, id=value)
        elif kind == "chardev":
            if value not in self.chardevs:
                raise Refusal("property-value-missing", owner=owner, id=value)
            if self.chardev_is_busy(value):
                raise Refusal("chardev-in-use", owner=owner, id=value)

    def attach(self, device: Device, given: Mapping[str, Any], captured: Mapping[str, Any]) -> None:
        """A device begins to use what it was given; `captured` is what is known of its type.

        :raise MachineError: it may not.
        """
        self._check_file_system(device, given)
        controller = given.get("bmc")
        if controller in self._object_users:
            raise MachineError("BMC object is already in use")
        for part in device.node.below():
            text = _SINGLE.get(part.type)
            if text is not None:
                if part.type in self._singles:
                    raise MachineError(text)
                self._singles[part.type] = device
        for label in chardevs_of(given):
            self._chardev_users.setdefault(label, []).append(device)
        for value in given.values():
            if isinstance(value, str) and (value.startswith("/objects/") or value == controller):
                self._object_users[value] = device
        self._attach_drive(device, given, captured)
        self.network.attach(device, dict(given), captured.get("rx-filter"))

    def _check_file_system(self, device: Device, given: Mapping[str, Any]) -> None:
        """Refuse to share what is not there, and a name for it that does not fit (hw/9pfs/9p.c).

        :raise MachineError: it is so.
        """
        if device.node.property("fsdev") is None:
            return
        identifier, tag = given.get("fsdev"), given.get("mount_tag")
        if identifier not in self.file_systems:
            shown = "NULL" if identifier is None else identifier
            raise MachineError(f"9pfs device couldn't find fsdev with the id = {shown}")
        if tag is None:
            raise MachineError(f"fsdev with id {identifier} needs mount_tag arguments")
        size = len(tag.encode("utf-8", "surrogateescape"))
        if size > _LONGEST_TAG:
            raise MachineError(f"mount tag '{tag}' ({size} bytes) is longer than maximum ({_LONGEST_TAG} bytes)")

    def _attach_drive(self, device: Device, given: Mapping[str, Any], captured: Mapping[str, Any]) -> None:
        """A device that has a drive gets it: the one that it was given, or an empty one of its own."""
        shown = captured.get("block")
        if shown is None:
            return
        name = given.get("drive") or ""
        drive = self.block.drive(name)
        if drive is None:
            drive = Drive("", node=self.block.nodes.get(name) if name else None)
        elif drive.node is None and not shown["removable"] and not drive.unmodelled and device.driver != _ANY_MEDIUM:
            raise MachineError("Device needs media, but drive is empty")
        drive.device = device
        # In queries a device goes by its id where it has one, but a part of a device has none.
        own = shown["qdev"] == ID
        path = device.path if own else shown["qdev"].replace("«self»", device.path).replace(ID, device.identifier or "")
        drive.qdev = device.identifier if own and device.identifier is not None else path
        looks = device.driver == _ANY_MEDIUM and self._rules.stick_has_drive_first
        drive.label = device.identifier or device.path if looks else drive.qdev
        drive.removable, drive.has_tray = shown["removable"], "tray_open" in shown
        drive.writes = _writes(device, drive)
        if device.driver == FLOPPY:
            choose_type(device, given, None if drive.node is None else drive.node.size)
        drive.shares = bool(given.get("share-rw"))
        for name in ("werror", "rerror"):
            if given.get(name, "auto") != "auto":
                setattr(drive, name, str(given[name]))
        if given.get("write-cache") in ("on", "off", True, False):
            drive.writeback = given["write-cache"] in ("on", True)
        self._attach_in_thread(device, drive)
        drive.label = drive.qdev

    def exchange_node(self, node: Node, name: str) -> None:
        """A device, or a part of it, has another node in place of its own (QEMU's `set_drive`).

        :raise Refusal: there is none of this name, or it cannot be used so.
        """
        from qmpd.block.placing import exchange

        for drive in self.block.drives:
            device = drive.device
            if device is not None and node in (device.node, *device.node.children.values()):
                found = self.block.find_node(name)
                if drive.node is not None and found.thread != drive.node.thread:
                    raise Refusal("node-other-thread")
                exchange(self.block, drive, found)
                return

    def _attach_in_thread(self, device: Device, drive: Drive) -> None:
        """Have a device use its drive, in the thread that its controller has (hw/scsi/virtio-scsi.c)."""
        node, controller = drive.node, _scsi_controller(device)
        if node is not None and controller is None:
            iothreads.move(node, iothreads.MAIN, drive)
        if node is not None and controller is not None and node.thread and not _takes_iothread(controller):
            raise Refusal("iothread-unsupported")
        self.block.attach(drive)
        if node is None or controller is None or not _takes_iothread(controller):
            return
        try:
            iothreads.move(node, controller.node.value(_IOTHREAD).rpartition("/")[2], drive)
        except Refusal:
            if self._rules.scsi_iothread_refused:
                self.block.detach(device)
                raise

    def paths_changed(self) -> None:
        """The board's devices have other numbers now: drives go by where their devices are."""
        for drive in self.block.drives:
            node: Node | None = None if drive.device is None else drive.device.node
            while node is not None and (node.parent is None or node.parent.path != UNATTACHED):
                node = node.parent
            if node is not None and drive.qdev.startswith(f"{UNATTACHED}/"):
                below = drive.qdev.removeprefix(f"{UNATTACHED}/").partition("/")
                drive.qdev = drive.label = f"{node.path}{below[1]}{below[2]}"

    def detach(self, device: Device) -> None:
        """A device is taken out of the machine."""
        for kind in [kind for kind, user in self._singles.items() if user is device]:
            del self._singles[kind]
        self.open_port(device, opened=False)
        self.network.detach(device)

    def release(self, device: Device) -> None:
        """A device is gone for good: what it used is free again."""
        nodes = [each.node for each in self.block.drives if each.device is device and each.node is not None]
        self.block.detach(device)
        for node in nodes:
            iothreads.leave(node)
        for label in self.chardevs_used_by(device):
            self._chardev_users[label].remove(device)
            if not self._chardev_users[label]:
                del self._chardev_users[label]
        for path in [path for path, user in self._object_users.items() if user is device]:
            del self._object_users[path]
