"""The memory balloon: how much memory the guest is asked to do with, and how much it has now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.machine.machine import Machine
    from qmpd.machine.objects.buses import Device

BALLOON = "virtio-balloon-device"
"""The type of the part of a device that has the balloon."""

_PAGE = 4096


class Balloon:
    """The balloon of a machine, which `device` brings; `actual` and `target` are in bytes.

    The guest gives memory back or takes it when it runs and has a driver for it (`GuestSettings.balloon`); with each
    change of what it has BALLOON_CHANGE is emitted.
    """

    __slots__ = ("_machine", "actual", "device", "target")

    def __init__(self, machine: Machine, device: Device | None) -> None:
        self._machine = machine
        self.device = device
        self.actual = self.target = machine.settings.memory

    def inflate_to(self, size: int) -> None:
        """Ask the guest to do with `size` bytes: whole pages are taken from what the machine has."""
        memory = self._machine.settings.memory
        self.target = memory - (memory - min(size, memory)) // _PAGE * _PAGE
        if self._machine.guest is not None:
            self._machine.guest.balloon_asked()

    def follow(self) -> None:
        """The guest has done what it was asked."""
        self.settle(self.target)

    def settle(self, size: int) -> None:
        """The guest has `size` bytes now, whatever it was asked."""
        if self.actual != size:
            self.actual = size
            self._machine.emit("BALLOON_CHANGE", {"actual": size})

    def reset(self) -> None:
        """The machine has been reset: the guest has all its memory."""
        self.actual = self.target = self._machine.settings.memory
