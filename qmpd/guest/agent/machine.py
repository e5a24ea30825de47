"""The machine as the agent of its guest finds it: its parts, and where its port is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.guest.agent.model import Disk
from qmpd.guest.agent.port import PORT
from qmpd.machine.blueprint import GuestAction
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.guest.course import Guest
    from qmpd.hardware.buses import Device
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.machine import Machine

_VIRTIO_PORT = "virtserialport"
_CLOCK = "mc146818rtc"
_SECOND = 1_000_000_000
# How a disk's device is called in the guest, and its bus in the agent's words, by a part of the driver's name.
_DISKS = (("virtio-blk", "vd", "virtio"), ("nvme", "nvme", "nvme"), ("usb", "sd", "usb"), ("ide", "sd", "ide"),
          ("scsi", "sd", "scsi"))  # fmt: skip
_SLOTS = 8


class MachineFacts:
    """One machine, as its guest finds it (`qmpd.guest.agent.model.Facts`)."""

    __slots__ = ("_guest", "_inventory", "_machine", "_names_clock")

    def __init__(
        self, machine: Machine, guest: Guest, inventory: Callable[[], Inventory], names_clock: Callable[[], bool]
    ) -> None:
        """`names_clock`: whether RTC_CHANGE has the path of the clock."""
        self._machine = machine
        self._guest = guest
        self._inventory = inventory
        self._names_clock = names_clock

    @property
    def processors(self) -> int:
        """See `Facts`."""
        return self._machine.settings.topology.cpus

    @property
    def memory(self) -> int:
        """See `Facts`."""
        return self._machine.settings.memory

    @property
    def cards(self) -> Sequence[str]:
        """See `Facts`."""
        return [card.mac for card in self._inventory().backends.network.cards]

    @property
    def disks(self) -> Sequence[Disk]:
        """See `Facts`."""
        found: list[Disk] = []
        counts: dict[str, int] = {}
        for drive in self._inventory().backends.block.drives:
            kind = next((each for each in _DISKS if drive.device is not None and each[0] in drive.device.driver), None)
            if kind is None or drive.device is None or drive.has_tray:
                continue
            number = counts[kind[1]] = counts.get(kind[1], -1) + 1
            name = f"nvme{number}n1" if kind[1] == "nvme" else f"{kind[1]}{chr(ord('a') + number)}"
            size = 0 if drive.node is None else drive.node.virtual_size
            found.append(Disk(name, kind[2], 0, 0, _address(drive.device), size))
        return found

    def now(self) -> int:
        """See `Facts`."""
        return self._machine.clock.wall_microseconds() * 1000

    def running(self) -> int:
        """See `Facts`."""
        return self._machine.schedule.now()

    def shut_down(self, mode: str) -> None:
        """See `Facts`."""
        actions = {"halt": GuestAction.HALT, "reboot": GuestAction.REBOOT}
        self._guest.act(actions.get(mode, GuestAction.SHUTDOWN))

    def suspend(self, *, to_disk: bool) -> None:
        """See `Facts`."""
        self._guest.act(GuestAction.HIBERNATE if to_disk else GuestAction.SUSPEND)

    def set_clock(self, offset: int) -> None:
        """See `Facts`; the machine tells of it by RTC_CHANGE."""
        seconds = offset // _SECOND
        data: dict[str, object] = {"offset": seconds}
        if self._names_clock():
            tree = self._inventory().tree
            clock = next((node for node in tree.root.below() if node.type == _CLOCK), None)
            if clock is None:
                return
            data["qom-path"] = clock.path
        self._machine.settings = replace(self._machine.settings, clock_change=offset // 1000)
        self._machine.emit("RTC_CHANGE", data)


def _address(device: Device) -> tuple[int, int, int]:
    """The PCI address of a device, or of the controller that it is on: bus, slot and function."""
    at: Device | None = device
    while at is not None and not (isinstance(at.slot, int) and at.bus is not None and "PCI" in at.bus.type.upper()):
        at = None if at.bus is None else at.bus.device
    return (0, 0, 0) if at is None or not isinstance(at.slot, int) else (0, at.slot // _SLOTS, at.slot % _SLOTS)


class MachinePlace:
    """Where the agent's port is in a machine (`qmpd.guest.agent.port.Place`).

    That is the virtio-serial port with the agent's name, or the device that the guest's settings name.
    """

    __slots__ = ("_front_end", "_guest", "_inventory")

    def __init__(
        self, guest: Guest, inventory: Callable[[], Inventory], front_end: Callable[[str], FrontEnd]
    ) -> None:
        self._guest = guest
        self._inventory = inventory
        self._front_end = front_end

    def _device(self) -> Device | None:
        named = self._guest.settings.agent_device
        try:
            devices = self._inventory().devices
            if named is not None:
                return devices.find(named)
        except (MachineError, Refusal):
            return None
        return next((each for each in devices.buses.devices.values() if _is_port(each)), None)

    @property
    def front_end(self) -> FrontEnd | None:
        """See `Place`."""
        device = self._device()
        if device is None:
            return None
        labels = self._inventory().backends.chardevs_used_by(device)
        return self._front_end(labels[0]) if labels else None

    @property
    def is_open(self) -> bool:
        """See `Place`."""
        device = self._device()
        return device is None or self._inventory().backends.port_is_open(device)

    def open_port(self, *, opened: bool) -> None:
        """See `Place`."""
        device = self._device()
        if device is not None and device.driver == _VIRTIO_PORT:
            self._inventory().open_port(device, opened=opened)


def _is_port(device: Device) -> bool:
    return device.driver == _VIRTIO_PORT and device.node.value("name") == PORT


