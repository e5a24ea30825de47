"""What a machine has: its objects, and the devices and backends in it.

An inventory is made when somebody first asks for one, and makes each of its parts when that is asked for.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.graph import BlockGraph
from qmpd.hardware.assembly import MemoryLayout, assemble, family
from qmpd.hardware.backends import Backends
from qmpd.hardware.balloon import BALLOON, Balloon
from qmpd.hardware.devices import DeviceRules, Devices
from qmpd.hardware.network import Network
from qmpd.hardware.user_objects import Objects
from qmpd.qom.node import Node, Shape
from qmpd.qom.tree import Builder, ObjectTree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from qmpd.block.graph import Drive
    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Device
    from qmpd.machine.machine import Machine
    from qmpd.qom.tree import Types

_CHARDEVS = "/chardevs"


class InventoryRules(DeviceRules, Protocol):
    """What releases differ in beside their texts (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def unplug_refusal_event(self) -> str:
        """The event that tells that the guest will not let go of a device; empty where there is none."""

    @property
    def netdev_ids_checked(self) -> bool:
        """Whether `netdev_add` looks at its id."""


class Inventory:
    """The parts of one machine.

    `builder` is shared by all machines of a release.
    """

    __slots__ = (
        "_balloon", "_devices", "_machine", "_objects", "_tree", "backends", "builder", "rules", "texts", "types",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        builder: Builder,
        types: Types,
        texts: Texts,
        rules: InventoryRules,
    ) -> None:
        self._machine = machine
        self.builder = builder
        self.types = types
        self.texts = texts
        self.rules = rules
        self.backends = Backends(Network(texts, unique=rules.netdev_ids_checked), BlockGraph(texts), texts)
        self._tree: ObjectTree | None = None
        self._devices: Devices | None = None
        self._objects: Objects | None = None
        self._balloon: Balloon | None = None

    @property
    def devices(self) -> Devices:
        """The devices.

        :raise LookupError: nothing was captured of machines of this type.
        """
        if self._devices is None:
            machine = self._machine
            self._devices = Devices(
                self.tree, self.builder, self.types, self.backends, self.texts, self.rules, machine.emit, machine.later,
                settings=machine.settings,
            )
        return self._devices

    @property
    def objects(self) -> Objects:
        """The objects that users made.

        :raise LookupError: nothing was captured of machines of this type.
        """
        if self._objects is None:
            self._objects = Objects(
                self.tree, self.builder, self.types, self.backends, self.texts, self.devices.reader
            )
        return self._objects

    @property
    def has_devices(self) -> bool:
        """Whether anybody has asked for the devices: else they are what the settings say."""
        return self._devices is not None

    @property
    def balloon(self) -> Balloon:
        """The memory balloon; a device that comes after another one brings a balloon of its own."""
        device = self.backends.single(BALLOON)
        if self._balloon is None or self._balloon.device is not device:
            self._balloon = Balloon(self._machine, device)
        return self._balloon

    def move_tray(self, drive: Drive, *, opened: bool) -> None:
        """Open or close the tray of a drive, and tell of it where it moves."""
        if drive.has_tray and drive.tray_open is not opened:
            drive.tray_open = opened
            data: dict[str, object] = {"device": drive.name, "id": drive.qdev, "tray-open": opened}
            self._machine.emit("DEVICE_TRAY_MOVED", data)

    def open_port(self, port: Device, *, opened: bool) -> None:
        """The guest opens or closes a virtio-serial port, which is told of where that has an id."""
        self.backends.open_port(port, opened=opened)
        if port.identifier is not None:
            self._machine.emit("VSERPORT_CHANGE", {"id": port.identifier, "open": opened})

    def reset(self) -> None:
        """The devices have been reset: with the machine, or as the guest wakes.

        Trays close without a word, and what the balloon has taken stays (measured on the releases).
        """
        for drive in self.backends.block.drives:
            drive.locked = drive.tray_open = False
        for port in list(self.backends.open_ports):
            self.open_port(port, opened=False)
        if self._devices is not None:
            self._devices.reset()
        self.backends.network.reset()

    def remove_device(self, identifier: str) -> None:
        """Remove a device (`device_del`), or ask the guest to let go of it.

        :raise MachineError: it is refused.
        """
        guest = self._machine.guest
        device = self.devices.remove(identifier, guest_listens=guest is not None and guest.listens)
        if device is not None and self._machine.guest is not None:
            self._machine.guest.unplug_asked(device.path)

    def ask_again(self) -> None:
        """Ask the guest once more for what it has not done yet."""
        guest = self._machine.guest
        if guest is None:
            return
        if self._devices is not None:
            for device in self._devices.pending():
                guest.unplug_asked(device.path)
        if self._balloon is not None and self.balloon.taken != self.balloon.wanted:
            guest.balloon_asked()

    def guest_answers(self, path: str, *, releases: bool) -> None:
        """The guest lets go of the device at this path, or will not."""
        node = self.tree.find(path)
        device = None if node is None else self.devices.buses.devices.get(id(node))
        if device is None or not device.unplug_pending:
            return
        if releases:
            self.devices.take_away(device)
            return
        device.unplug_pending = False
        if self.rules.unplug_refusal_event:
            named = {} if device.identifier is None else {"device": device.identifier}
            self._machine.emit(self.rules.unplug_refusal_event, {**named, "path": path})

    @property
    def tree(self) -> ObjectTree:
        """All objects.

        :raise LookupError: nothing was captured of machines of this type.
        """
        if self._tree is None:
            settings = self._machine.settings
            type_name = f"{settings.machine_name}-machine" if settings.machine_name else None
            self._tree = self.around(assemble(self.builder, self._captured(), settings, type_name))
        return self._tree

    def around(self, root: Node) -> ObjectTree:
        """The tree that has this root, with this machine's numbers.

        :raise LookupError: nothing was captured of machines of this type.
        """
        settings = self._machine.settings
        layout = MemoryLayout(settings.memory, self._captured().get("low-memory"))
        values: dict[str, Callable[[], Any]] = {
            "memory": lambda: layout.size,
            "memory below 4 GiB": lambda: layout.below,
            "memory above 4 GiB": lambda: layout.above,
            "cpus": lambda: settings.topology.cpus,
            "time": self._time,
            # No thread stands behind anything: the process is what there is.
            "thread": os.getpid,
        }
        return ObjectTree(root, values, self.types, self.texts)

    def _captured(self) -> dict[str, Any]:
        """What was captured of machines like this one."""
        settings = self._machine.settings
        machine_type = settings.machine_name or settings.machine_type
        captured = self.builder.captured("machine", family(settings))
        if captured is None:
            raise LookupError(machine_type)
        return captured

    def parts(self) -> dict[str, Any]:
        """What there is by now; None for what nobody has asked for."""
        root = None if self._tree is None else self._tree.root
        return {
            "root": root, "backends": self.backends, "devices": self._devices, "objects": self._objects,
            "balloon": self._balloon,
        }  # fmt: skip

    def take_over(self, tree: ObjectTree | None, parts: Mapping[str, Any]) -> None:
        """Have these parts, which another process has made (`qmpd.hardware.snapshot`)."""
        self._tree = tree
        self.backends = parts["backends"]
        self._devices, self._objects = parts.get("devices"), parts.get("objects")
        self._balloon = parts.get("balloon")
        if self._devices is not None:
            self._devices.goes_on()

    def _time(self) -> dict[str, int]:
        """What the guest's clock shows, as QEMU's `struct tm`."""
        now = time.gmtime(self._machine.clock.wall_microseconds() // 1_000_000)
        return {
            "tm_year": now.tm_year - 1900,
            "tm_mon": now.tm_mon - 1,
            "tm_mday": now.tm_mday,
            "tm_hour": now.tm_hour,
            "tm_min": now.tm_min,
            "tm_sec": now.tm_sec,
        }

    def show_chardevs(self, chardevs: Collection[tuple[str, str, bool, object]]) -> None:
        """Let the tree have these character devices: the label, the backend's type, whether somebody is connected,
        and the address."""
        container = self.tree.container(_CHARDEVS)
        labels = {label for label, *_ in chardevs}
        self.backends.chardevs = dict.fromkeys(labels, False)
        for name in [name for name in container.children if name not in labels]:
            container.remove(name)
        for label, kind, connected, address in chardevs:
            node = container.children.get(label)
            if node is None:
                node = self._chardev(f"chardev-{kind}")
                container.add_child(label, node)
            if node.property("connected") is not None:
                node.set_value("connected", connected)
                node.set_value("addr", address)

    def _chardev(self, kind: str) -> Node:
        captured = self.builder.captured("chardev", kind)
        if captured is not None:
            return self.builder.build(captured["tree"])
        return Node(Shape([["type", "string", 0]], None), [kind])
