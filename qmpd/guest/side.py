"""What a guest does to the devices that it has: the other side of hot plug, of the balloon, of media and cards.

Each method is what QEMU's device does when the guest's driver asks for it, so it takes a guest that runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.hardware.balloon import BALLOON
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.nodes import Drive
    from qmpd.hardware.buses import Device
    from qmpd.hardware.inventory import Inventory
    from qmpd.hardware.network import Card
    from qmpd.machine.machine import Machine

_PAGE = 4096
_PORT = "virtserialport"
# The part of a virtio card that its events name.
_VIRTIO_PART = "virtio-backend"


class GuestSide:
    """The guest's side of one machine's devices; each method raises MachineError where the guest cannot do that.

    Devices are named as `device_del` names them: by id or path.
    """

    __slots__ = ("_inventory", "_machine")

    def __init__(self, machine: Machine, inventory: Inventory) -> None:
        self._machine = machine
        self._inventory = inventory

    def release(self, identifier: str) -> None:
        """Let go of a device, as `device_del` asks for (ACPI's eject); a guest may do so unasked, too."""
        devices = self._inventory.devices
        device = devices.find(identifier)
        removal = devices.removal
        if removal.is_asked_for(device):
            removal.answer(device.path, releases=True)
            return
        if device.bus is None or not removal.asks(device):
            raise MachineError(f"the guest has no say in removing '{identifier}'")
        removal.check_removable(device)
        removal.take_away(device)

    def refuse(self, identifier: str, reason: str = "") -> None:
        """Refuse to let go of a device that `device_del` has asked for; with a `reason` the machine fails at memory."""
        devices = self._inventory.devices
        device = devices.find(identifier)
        if not devices.removal.is_asked_for(device):
            raise MachineError(f"the guest is not asked to let go of '{identifier}'")
        if reason and not device.driver.endswith("dimm"):
            raise MachineError(f"'{identifier}' is no memory, which alone can fail for a reason that is told")
        devices.removal.answer(device.path, releases=False, reason=reason)

    def negotiate_failover(self, identifier: str) -> None:
        """Take the failover pair of a card that stands in for another: FAILOVER_NEGOTIATED."""
        devices = self._inventory.devices
        device = devices.find(identifier)
        if not devices.pairs.is_standby(device):
            raise MachineError(f"'{identifier}' is no virtio network card with failover=on")
        devices.pairs.negotiate(device, devices)

    def set_balloon(self, size: int) -> None:
        """Have `size` bytes of memory from now on, in whole pages; BALLOON_CHANGE tells of a change."""
        if not self._inventory.backends.has(BALLOON):
            raise MachineError("the machine has no balloon")
        if not 0 <= size <= self._machine.settings.memory:
            raise MachineError(f"the machine has {self._machine.settings.memory} bytes of memory")
        self._inventory.balloon.settle(size // _PAGE * _PAGE)

    def report_statistics(self, statistics: Mapping[str, int]) -> None:
        """Tell the balloon these statistics, by their names in the property `guest-stats`; others are not told."""
        if not self._inventory.backends.has(BALLOON):
            raise MachineError("the machine has no balloon")
        balloon = self._inventory.balloon
        known = balloon.known_statistics()
        for name in statistics:
            if name not in known:
                raise MachineError(f"there is no statistic '{name}', but {', '.join(sorted(known))}")
        balloon.report(statistics)
        balloon.ask_again()

    def _drive(self, identifier: str) -> Drive:
        device = self._inventory.devices.find(identifier)
        drive = self._inventory.backends.block.of_device(device)
        if drive is None or not drive.has_tray:
            raise MachineError(f"'{identifier}' has no tray")
        return drive

    def move_tray(self, identifier: str, *, opened: bool) -> None:
        """Open or close a tray; one that the guest itself has locked stays closed."""
        drive = self._drive(identifier)
        if opened and drive.locked and not drive.tray_open:
            raise MachineError(f"the guest has locked the tray of '{identifier}'")
        self._inventory.move_tray(drive, opened=opened)

    def lock_tray(self, identifier: str, *, locked: bool) -> None:
        """Keep the host from opening a tray, or no more; nothing tells of it but query-block."""
        self._drive(identifier).locked = locked

    def _card(self, identifier: str) -> Card:
        device = self._inventory.devices.find(identifier)
        for card in self._inventory.backends.network.cards:
            if card.device is device and card.captured is not None:
                return card
        raise MachineError(f"'{identifier}' is no network card that has a filter")

    def set_filter(self, identifier: str, changes: Mapping[str, Any]) -> None:
        """Change what a card lets through; `changes` are members of RxFilterInfo.

        NIC_RX_FILTER_CHANGED is emitted once; the next one takes a query-rx-filter.
        """
        card = self._card(identifier)
        card.changes = {**card.changes, **changes}
        if card.tells:
            card.tells = False
            part = card.device.node.children.get(_VIRTIO_PART, card.device.node)
            name = _named(card.device, "name")
            self._machine.emit("NIC_RX_FILTER_CHANGED", {**name, "path": part.path})

    def open_port(self, identifier: str, *, opened: bool) -> None:
        """Open or close a virtio-serial port; VSERPORT_CHANGE tells of it where the port has an id."""
        device = self._inventory.devices.find(identifier)
        if device.driver != _PORT:
            raise MachineError(f"'{identifier}' is no {_PORT}")
        self._inventory.open_port(device, opened=opened)


def _named(device: Device, member: str) -> dict[str, object]:
    return {} if device.identifier is None else {member: device.identifier}
