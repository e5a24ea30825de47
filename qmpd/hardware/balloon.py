"""The memory balloon: how much memory the guest is asked to do with, and how much it has now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.hardware import memory

if TYPE_CHECKING:
    from qmpd.hardware.buses import Device
    from qmpd.machine.machine import Machine

BALLOON = "virtio-balloon-device"
"""The type of the part of a device that has the balloon."""

_PAGE = 4096


class Balloon:
    """The balloon of a machine, which `device` brings; `taken` and `wanted` are the bytes in it, and to be in it.

    The guest gives memory back or takes it when it runs and has a driver for it (`GuestSettings.balloon`); with each
    change of what it has BALLOON_CHANGE is emitted.
    """

    __slots__ = ("_machine", "device", "taken", "wanted")

    def __init__(self, machine: Machine, device: Device | None) -> None:
        self._machine = machine
        self.device = device
        self.taken = self.wanted = 0

    @property
    def memory(self) -> int:
        """What the machine has, in bytes: what it began with, and what is plugged in."""
        inventory = self._machine.inventory
        plugged = 0
        if inventory is not None and inventory.has_devices:
            plugged = memory.total(inventory.tree, inventory.devices.buses.devices.values())
        return self._machine.settings.memory + plugged

    @property
    def actual(self) -> int:
        """What the guest has, in bytes."""
        return self.memory - self.taken

    def inflate_to(self, size: int) -> None:
        """Ask the guest to do with `size` bytes: whole pages are taken from what the machine has."""
        has = self.memory
        self.wanted = (has - min(size, has)) // _PAGE * _PAGE
        if self._machine.guest is not None:
            self._machine.guest.balloon_asked()

    def follow(self) -> None:
        """The guest has done what it was asked."""
        self.settle(self.memory - self.wanted)

    def settle(self, size: int) -> None:
        """The guest has `size` bytes now, whatever it was asked."""
        taken = self.memory - size
        if self.taken != taken:
            self.taken = taken
            self._machine.emit("BALLOON_CHANGE", {"actual": size})
