"""The ports of a machine that a guest reads, or not: how much they take in that nobody reads.

Measured: a serial port takes one byte, and a multiplexer 32 more for each of its users; then nothing more is read of
what somebody types, not even the keys of the multiplexer.  A port of virtio takes nothing while no driver is there, or
the guest has not opened it where it is one that is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.chardev.multiplexer import MUX
from qmpd.guest.phases import GuestPhase
from qmpd.machine.run_state import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.chardev.device import Chardev
    from qmpd.guest.course import Guest
    from qmpd.hardware.buses import Device
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.machine import Machine
    from qmpd.qapi import Release

_SHARED = 32
_TAKEN = {"isa-serial": 1, "pci-serial": 1, "virtconsole": 0, "virtserialport": 0}
_READ = frozenset({GuestPhase.RUNNING, GuestPhase.SHUTTING_DOWN})
_BY_FIRMWARE = frozenset({GuestPhase.FIRMWARE, GuestPhase.NOTHING_TO_BOOT, GuestPhase.BOOTING})


class Home(Protocol):
    """The machine that the guest is in (`qmpd.system.system.System`)."""

    release: Release
    machine: Machine
    guest: Guest | None

    @property
    def chardevs(self) -> Sequence[Chardev]:
        """Its character devices."""

    @property
    def is_bare(self) -> bool:
        """Whether nothing has been built of it."""

    @property
    def inventory(self) -> Inventory:
        """What it is made of."""


def unread(system: Home, label: str) -> int | None:
    """How many bytes fit at this character device while the guest does not read them.

    None where it does, and where no port of the guest's has the device: what comes there is lost.
    """
    if system.is_bare:
        return None
    users = system.inventory.backends.users_of_chardev(label)
    port = next((each for each in users if each.driver in _TAKEN), None)
    if port is None or _reads(system, port):
        return None
    shared = any(each.label == label and each.kind == MUX for each in system.chardevs)
    return _TAKEN[port.driver] + (_SHARED if shared else 0)


def _reads(system: Home, port: Device) -> bool:
    guest = system.guest
    if guest is None or system.machine.state is not RunState.RUNNING:
        return False
    if guest.phase in _READ:
        return guest.uses_acpi and system.inventory.backends.port_is_open(port)
    listens = system.machine.settings.prints_on_port(system.release.behaviour)
    return port.driver == "isa-serial" and listens and guest.phase in _BY_FIRMWARE
