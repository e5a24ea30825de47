"""What a machine has: its objects, and the devices and backends in it.

An inventory is made when somebody first asks for one, and makes each of its parts when that is asked for.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from qmpd.block.graph import BlockGraph
from qmpd.common.refusals import NotModelled
from qmpd.hardware import memory, own_memory, virtual_memory
from qmpd.hardware.assembly import frame, make_board
from qmpd.hardware.backends import Backends
from qmpd.hardware.balloon import BALLOON, INTERVAL, Balloon
from qmpd.hardware.device_types import DeviceTypes
from qmpd.hardware.devices import Devices
from qmpd.hardware.home import Workbench
from qmpd.hardware.memory import MemoryLayout
from qmpd.hardware.network import Netdev, Network
from qmpd.hardware.network_rules import NetworkContext
from qmpd.hardware.user_objects import Objects
from qmpd.qom.node import Node, Shape
from qmpd.qom.reader import DRIVE, Reader
from qmpd.qom.setting import check_value
from qmpd.qom.tree import ObjectTree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from qmpd.block.nodes import Drive
    from qmpd.common.computer import Asker, Computer
    from qmpd.hardware.buses import Device
    from qmpd.hardware.home import Home, Listener
    from qmpd.hardware.source import Source
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.schedule.activity import Activities
    from qmpd.schedule.clock import Clock
    from qmpd.schedule.schedule import Schedule

_CHARDEVS = "/chardevs"

# What waits for its requests when it is reset.
_VIRTIO_DISK = "virtio-blk"


class NotCaptured(NotModelled):
    """Nothing is known of what machines of a type are made of."""

    __slots__ = ()

    def __init__(self, release: str, machine_type: str | None) -> None:
        """`machine_type` is None where the release has no machine of which anything is known."""
        super().__init__(f"the objects of machine {machine_type}")
        if machine_type is None:
            self.message = (
                f"qmpd does not know what the machines of release {release} are made of: qmpd capture --hardware "
                "finds out"
            )
        else:
            self.message = f"qmpd does not know the objects of machine {machine_type}"


class Inventory:
    """The parts of one machine, their `home`."""

    __slots__ = (
        "_balloon", "_board_is_made", "_devices", "_home", "_objects", "_release", "_tree", "backends", "builder",
        "captured", "computer", "declared", "network_kinds", "reader", "rules", "texts", "types",
    )  # fmt: skip

    def __init__(self, home: Home, source: Source, computer: Computer) -> None:
        """`computer` is that that the machine is on."""
        self._home = home
        self.computer = computer
        self.network_kinds = source.network_kinds
        self.declared = source.declared
        self._release = source.release
        self.captured = source.captured
        self.builder = source.builder
        self.types = source.types
        self.texts = source.texts
        self.rules = source.rules
        network = Network(source.rules, source.network_kinds)
        self.backends = Backends(network, BlockGraph(source.texts, computer), source.texts, computer, source.rules)
        self._connect_block()
        self.reader: Reader | None = None
        self._tree: ObjectTree | None = None
        self._board_is_made = False
        self._devices: Devices | None = None
        self._objects: Objects | None = None
        self._balloon: Balloon | None = None

    # The machine that has the parts

    @property
    def settings(self) -> MachineSettings:
        """What the machine was started with."""
        return self._home.settings

    @property
    def clock(self) -> Clock:
        """The machine's clock."""
        return self._home.clock

    @property
    def schedule(self) -> Schedule:
        """The machine's timers, and its own time."""
        return self._home.schedule

    @property
    def has_run(self) -> bool:
        """Whether the machine's vCPUs have ever run."""
        return self._home.has_run

    @property
    def guest(self) -> Listener | None:
        """The machine's guest."""
        return self._home.guest

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event."""
        self._home.emit(name, data)

    def report(self, line: str) -> None:
        """Say something on standard error."""
        self._home.report(line)

    @property
    def activities(self) -> Activities:
        """The machine's long work."""
        return self._home.activities

    def move_to(self, home: Home) -> None:
        """Be this machine's parts from now on."""
        before, self._home = self._home, home
        if isinstance(before, Workbench):
            before.clear(home)

    @property
    def memory(self) -> int:
        """How much memory there is, in bytes: what the machine began with, and what is plugged in."""
        return self.settings.memory + self.plugged_memory

    @property
    def plugged_memory(self) -> int:
        """How much memory is plugged in, in bytes."""
        return 0 if self._devices is None else memory.total(self.tree, self._devices.buses.devices.values())

    # Disks

    def vcpus_run(self) -> None:
        """The virtual CPUs are set going again: requests that have failed are tried again."""
        block = self.backends.block
        if not self.rules.moved_disks_stay_shared and any(drive.is_open for drive in block.drives):
            from qmpd.block.activation import close_to_others

            close_to_others(block)
        if block.again is not None:
            block.again()

    def drain(self) -> None:
        """Let what is going on at the disks come to rest: jobs pause for a moment."""
        self.backends.block.drain_all()

    def driven(self, *, by_firmware: bool) -> None:
        """Whether firmware drives the disks: SeaBIOS asks virtio's for no cache (`virtio_blk_set_status`)."""
        for drive in self.backends.block.drives:
            known = drive.device is not None and drive.device.driver.startswith(_VIRTIO_DISK)
            drive.by_firmware = by_firmware and known

    def continued(self) -> None:
        """Somebody has asked for the machine to go on: whatever errors its drives have met are forgotten.

        :raise Refusal: it has given its disks to another machine, which has them.
        """
        block = self.backends.block
        for drive in block.drives:
            drive.io_status = "ok"
        if not block.inactive and any(node.inactive for node in block.nodes.values()):
            from qmpd.block.activation import take_back

            take_back(block, shared=self.rules.moved_disks_stay_shared)

    def _connect_block(self) -> None:
        """Let disks know of what others have."""
        block = self.backends.block
        block.find_object = self.type_of_object
        block.servers.connector = self.computer.connect
        block.servers.credentials = self.client_credentials
        block.servers.secret = self.secret

    def secret(self, identifier: str) -> bytes:
        """What the secret of this id holds.

        :raise Refusal: there is none, or it cannot be read.
        """
        from qmpd.hardware.credentials import secret_of

        return secret_of(self.tree, identifier, self.computer)

    def client_credentials(self, identifier: str) -> dict[str, Any]:
        """The properties of the object with the TLS credentials of a client.

        :raise Refusal: there is none.
        """
        from qmpd.hardware.credentials import tls_credentials

        return tls_credentials(self.tree, identifier, endpoint="client")

    def type_of_object(self, name: str) -> str | None:
        """The type of the object of this name (`-object`); None where there is none."""
        node = None if self._tree is None else self.tree.find(f"/objects/{name}")
        return None if node is None else node.type

    # Parts

    @property
    def devices(self) -> Devices:
        """The devices.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        if self._devices is None:
            tree = self.tree
            assert self.reader is not None
            self._devices = Devices(
                tree, self.builder, self.types, self.backends, self.texts, self.rules, self, self.reader,
                self.driver_types(),
            )  # fmt: skip
        return self._devices

    def driver_types(self) -> DeviceTypes:
        """The types of devices that there are for the machine."""
        return DeviceTypes(self.builder, self.types, self.texts, self.rules, self, self.declared, self.computer)

    @property
    def objects(self) -> Objects:
        """The objects that users made.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        if self._objects is None:
            tree = self.skeleton
            assert self.reader is not None
            self._objects = Objects(tree, self.builder, self.types, self.backends, self.texts, self.reader)
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
            self._balloon = Balloon(self, device)
        return self._balloon

    def add_netdev(self, values: Mapping[str, Any], asker: Asker, *, cold: bool = False) -> Netdev:
        """Add a network backend (`netdev_add`); at one of the command line's ids nobody looks any more (`cold`).

        :raise Refusal: it is refused.
        """
        context = NetworkContext(self.computer, self.backends.chardevs, asker)
        return self.backends.network.add(values, context, cold=cold)

    def move_tray(self, drive: Drive, *, opened: bool) -> None:
        """Open or close the tray of a drive, and tell of it where it moves."""
        if drive.has_tray and drive.tray_open is not opened:
            drive.tray_open = opened
            data: dict[str, object] = {"device": drive.name, "id": drive.qdev, "tray-open": opened}
            self.emit("DEVICE_TRAY_MOVED", data)

    def open_port(self, port: Device, *, opened: bool) -> None:
        """The guest opens or closes a virtio-serial port, which is told of where that has an id."""
        self.backends.open_port(port, opened=opened)
        if port.identifier is not None:
            self.emit("VSERPORT_CHANGE", {"id": port.identifier, "open": opened})

    def drivers(self) -> set[str]:
        """The types of the devices."""
        return self.devices.drivers()

    def balloon_polled(self) -> None:
        """The guest tells its balloon's statistics."""
        if self.backends.has(BALLOON):
            self.balloon.polled()

    def balloon_followed(self) -> None:
        """The guest has done with its memory what it was asked."""
        self.balloon.follow()
        if self._devices is not None:
            for device in virtual_memory.unsettled(self.tree, self._devices.buses.devices.values()):
                self._plug_virtual(device, virtual_memory.asked(self.tree, device))

    def _plug_virtual(self, device: Device, size: int) -> None:
        told = virtual_memory.settle(device, size, tells_path=self.rules.memory_change_tells_path)
        self.emit(virtual_memory.CHANGE, told)

    def reset(self) -> None:
        """The devices have been reset: with the machine, or as the guest wakes.

        Trays close without a word, and what the balloon has taken stays (measured on the releases).
        """
        self.driven(by_firmware=False)
        for drive in self.backends.block.drives:
            drive.locked = drive.tray_open = False
            if drive.node is not None and drive.device is not None and _VIRTIO_DISK in drive.device.driver:
                self.backends.block.drain(drive.node)
        for port in list(self.backends.open_ports):
            self.open_port(port, opened=False)
        if self._devices is not None:
            self._devices.removal.reset()
            self._devices.pairs.reset()
            for device in self._devices.buses.devices.values():
                if device.driver == virtual_memory.MEMORY and device.node.value(virtual_memory.SIZE):
                    self._plug_virtual(device, 0)
        self.backends.network.reset()

    def set_property(self, node: Node, name: str, value: object) -> None:
        """Set a property of an object (`qom-set`).

        :raise Refusal: it cannot be set, or not to that.
        """
        taken = check_value(self.tree, node, self.tree.require(node, name), value, self.texts)
        self.objects.check_value(node, name, taken)
        self.devices.check_set(node, name, taken)
        if name == virtual_memory.REQUESTED:
            virtual_memory.check_request(self.tree, node, int(taken))
        if name == DRIVE:
            self.backends.exchange_node(node, str(taken))
        if name == INTERVAL:
            self.balloon.poll_every(taken)
        else:
            self.objects.put(node, name, taken)
        if name == virtual_memory.REQUESTED and self.guest is not None:
            self.guest.balloon_asked()

    def remove_device(self, identifier: str, *, migrating: bool = False) -> None:
        """Remove a device (`device_del`), or ask the guest to let go of it; `migrating`: the machine is on its way.

        :raise MachineError: it is refused.
        """
        guest = self.guest
        device = self.devices.find(identifier)
        listens = guest is not None and guest.listens
        asked = self.devices.removal.remove(device, identifier, guest_listens=listens, migrating=migrating)
        if asked and guest is not None:
            guest.unplug_asked(device.path)

    def ask_again(self) -> None:
        """Ask the guest once more for what it has not done yet."""
        guest = self.guest
        if guest is None:
            return
        if self._devices is not None:
            self._devices.slots.cpus_found |= guest.uses_acpi
            for device in self._devices.removal.pending():
                guest.unplug_asked(device.path)
            if virtual_memory.unsettled(self.tree, self._devices.buses.devices.values()):
                guest.balloon_asked()
            for device in self._devices.pairs.standbys():
                if device.identifier not in self._devices.pairs.negotiated:
                    guest.standby_added(device.path)
        if self._balloon is not None and self.balloon.taken != self.balloon.wanted:
            guest.balloon_asked()
        if self.backends.has(BALLOON):
            guest.statistics_asked(0)

    def standby_driven(self, path: str) -> None:
        """The guest's driver of the card at this path takes the pair that it is of."""
        self.devices.pairs.drive(path, self.devices)

    def guest_answers(self, path: str, *, releases: bool) -> None:
        """The guest lets go of the device at this path, or will not."""
        self.devices.removal.answer(path, releases=releases)

    @property
    def skeleton(self) -> ObjectTree:
        """All objects, whether those of the board are finished or not.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        if self._tree is None:
            self._have(self.around(frame(self.builder, self._captured(), self.settings)))
        assert self._tree is not None
        return self._tree

    @property
    def tree(self) -> ObjectTree:
        """All objects; the board is finished when this is first asked for, as the machine's settings say by then.

        :raise NotCaptured: nothing is known of machines of this type.
        """
        tree = self.skeleton
        if not self._board_is_made:
            self._board_is_made = True
            make_board(self.builder, self._captured(), self.settings, tree.root)
            own_memory.choose(self.builder, tree, self.settings)
        return tree

    def around(self, root: Node) -> ObjectTree:
        """The tree that has this root, with this machine's numbers."""
        values: dict[str, Callable[[], Any]] = {
            "memory": lambda: self.settings.memory,
            "memory below 4 GiB": lambda: self.layout.below,
            "memory above 4 GiB": lambda: self.layout.above,
            "cpus": lambda: self.settings.topology.cpus,
            "time": self._time,
            # No thread stands behind anything: the process is what there is.
            "thread": os.getpid,
        }
        return ObjectTree(root, values, self.types, self.texts)

    @property
    def layout(self) -> MemoryLayout:
        """Where the machine's memory is.

        :raise LookupError: nothing was captured of machines of this type.
        """
        return MemoryLayout(self.settings.memory, self._captured().get("low-memory"))

    def _captured(self) -> dict[str, Any]:
        """What was captured of machines like this one."""
        settings = self.settings
        captured = self.builder.captured("machine", settings.board.family)
        if captured is None:
            raise NotCaptured(
                self._release, (settings.machine_name or settings.machine_type) if self.captured else None
            )
        return captured

    def _have(self, tree: ObjectTree) -> None:
        self._tree = tree
        self.reader = Reader(tree, self.backends, self.texts, self.rules)

    def close(self, *, orderly: bool = True) -> None:
        """Let go of the files of disks: there is no machine any more, or there never was one.

        :param orderly: what is in memory of the disks is written first.
        """
        self.backends.block.close(orderly=orderly)

    def parts(self) -> dict[str, Any]:
        """What there is by now; None for what nobody has asked for."""
        root = None if self._tree is None else self._tree.root
        return {
            "root": root, "backends": self.backends, "devices": self._devices, "objects": self._objects,
            "balloon": self._balloon,
        }  # fmt: skip

    def take_over(self, tree: ObjectTree | None, parts: Mapping[str, Any]) -> None:
        """Have these parts, which another process has made (`qmpd.hardware.snapshot`)."""
        self.backends = parts["backends"]
        self._connect_block()
        if tree is not None:
            self._have(tree)
            self._board_is_made = True
        self._devices, self._objects = parts.get("devices"), parts.get("objects")
        self._balloon = parts.get("balloon")

    def _time(self) -> dict[str, int]:
        """What the guest's clock shows, as QEMU's `struct tm`."""
        ahead = self.settings.clock_base + self.settings.clock_change
        now = time.gmtime((self.clock.wall_microseconds() + ahead) // 1_000_000)
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
        for name in [name for name in container.children if name not in labels]:
            container.remove(name)
        for label, kind, connected, address in chardevs:
            node = container.children.get(label)
            if node is None or node.type != f"chardev-{kind}":
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
