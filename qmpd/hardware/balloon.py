"""The memory balloon: how much memory the guest is asked to do with, and how much it has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qmpd.hardware.buses import Device
    from qmpd.hardware.home import Listener

BALLOON = "virtio-balloon-device"
"""The type of the part of a device that has the balloon."""

_PAGE = 4096


class BalloonHome(Protocol):
    """The machine that has the balloon (`qmpd.hardware.inventory.Inventory`)."""

    @property
    def memory(self) -> int:
        """What it has, in bytes: what it began with, and what is plugged in."""

    @property
    def guest(self) -> Listener | None:
        """Its guest; None without one."""

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event."""


class Balloon:
    """The balloon of a machine, which `device` brings; `taken` and `wanted` are the bytes in it, and to be in it.

    The guest gives memory back or takes it when it runs and has a driver for it (`GuestSettings.balloon`); with each
    change of what it has BALLOON_CHANGE is emitted.
    """

    __slots__ = ("_home", "device", "taken", "wanted")

    def __init__(self, home: BalloonHome, device: Device | None) -> None:
        self._home = home
        self.device = device
        self.taken = self.wanted = 0

    @property
    def actual(self) -> int:
        """What the guest has, in bytes."""
        return self._home.memory - self.taken

    def inflate_to(self, size: int) -> None:
        """Ask the guest to do with `size` bytes: whole pages are taken from what the machine has."""
        has = self._home.memory
        self.wanted = (has - min(size, has)) // _PAGE * _PAGE
        if self._home.guest is not None:
            self._home.guest.balloon_asked()

    def follow(self) -> None:
        """The guest has done what it was asked."""
        self.settle(self._home.memory - self.wanted)

    def settle(self, size: int) -> None:
        """The guest has `size` bytes now, whatever it was asked."""
        taken = self._home.memory - size
        if self.taken != taken:
            self.taken = taken
            self._home.emit("BALLOON_CHANGE", {"actual": size})
