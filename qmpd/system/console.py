"""The consoles of a machine's guest, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import Refusal
from qmpd.guest.console import Console
from qmpd.guest.script import load
from qmpd.hardware import screens
from qmpd.hardware.backends import OPENED_BY_GUEST
from qmpd.machine.errors import MachineError
from qmpd.machine.run_state import RunState
from qmpd.system.boot_devices import boot_devices
from qmpd.system.guest_ports import Home as PortHome

if TYPE_CHECKING:
    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.guest.firmware_text import BootDevices
    from qmpd.hardware.buses import Device
    from qmpd.hardware.devices import Devices
    from qmpd.machine.blueprint import GuestAction

_SERIAL = "isa-serial"


class Home(PortHome, Protocol):
    """The machine that the guest is in (`qmpd.system.system.System`)."""

    @property
    def devices(self) -> Devices:
        """Its devices."""

    def make_front_end(self, label: str) -> FrontEnd:
        """The machine's end of a character device."""


class MachineConsoles:
    """Where the consoles of one machine's guest are (`qmpd.guest.console.Place`)."""

    def __init__(self, system: Home) -> None:
        self._system = system

    def label(self, name: str) -> str | None:
        """See there."""
        if name:
            return name if any(each.label == name for each in self._system.chardevs) else None
        try:
            devices = self._system.devices.buses.devices.values()
        except Refusal:
            return None
        backends = self._system.inventory.backends
        serial = next((each for each in devices if each.driver == _SERIAL), None)
        labels = [] if serial is None else backends.chardevs_used_by(serial)
        return labels[0] if labels else None

    def front_end(self, label: str) -> FrontEnd:
        """See there."""
        return self._system.make_front_end(label)

    def boot_devices(self) -> BootDevices | None:
        """See there."""
        system = self._system
        prints = system.machine.settings.prints_on_port(system.release.behaviour)
        return boot_devices(system) if prints else None

    def say(self, label: str, data: bytes) -> None:
        """See there."""
        port = self._port(label)
        if port is not None:
            self._system.inventory.open_port(port, opened=True)
        chardev = next((each for each in self._system.chardevs if each.label == label), None)
        if chardev is not None and chardev.ring is not None:
            chardev.ring.write(data)
        self._system.make_front_end(label).say(data)

    def show(self, data: bytes) -> bool:
        """See there."""
        system = self._system
        if system.guest is None or screens.lit(system.inventory.tree) is None:
            return False
        system.guest.have_screen().say(data)
        return True

    def _port(self, label: str) -> Device | None:
        """The port that uses a device and is not open, where that is one that the guest opens."""
        if self._system.is_bare:
            return None
        backends = self._system.inventory.backends
        users = backends.users_of_chardev(label)
        port = next((each for each in users if each.driver in OPENED_BY_GUEST), None)
        return None if port is None or backends.port_is_open(port) else port

    def act(self, action: GuestAction) -> None:
        """See there."""
        guest = self._system.guest
        if guest is not None:
            try:
                guest.act(action)
            except MachineError as error:
                self._system.machine.report(f"the guest's script cannot have it do '{action}': {error.message}")

    def observe(self, text: str) -> None:
        """See there."""
        if self._system.machine.observer is not None:
            self._system.machine.observer.guest_step(text)


def make_console(system: Home) -> Console:
    """The consoles of a machine's guest, by its script where it has one.

    :raise MachineError: the machine has no guest.
    """
    guest, machine = system.guest, system.machine
    if guest is None:
        raise MachineError("the machine has no guest")
    return Console(
        load(guest.settings.script_text),
        MachineConsoles(system),
        machine.schedule,
        lambda: machine.state is RunState.RUNNING,
        machine.notify,
        system.release.behaviour.seabios_greeting,
    )
