"""The network cards that a migration takes out of the guest before: the primaries of failover pairs.

(`qmpd.hardware.failover`; QEMU's hw/net/virtio-net.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.hardware.buses import Device
    from qmpd.hardware.devices import Devices
    from qmpd.hardware.inventory import Inventory

    class System(Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        built: Inventory | None


class Primaries:
    """The primaries of one machine."""

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def _devices(self) -> Devices | None:
        built = self._system.built
        return built.devices if built is not None and built.has_devices else None

    def _there(self, devices: Devices) -> Iterator[tuple[str, Device]]:
        """Those that are there, with the ids of their standbys."""
        for standby in devices.pairs.standbys():
            primary = devices.pairs.primary(str(standby.identifier))
            if primary is not None:
                yield str(standby.identifier), primary

    @property
    def are_awaited(self) -> bool:
        """Whether the guest has yet to let go of one; a guest that has not taken the pair is not waited for."""
        devices = self._devices
        if devices is None:
            return False
        pairs, aside = devices.pairs, devices.removal.aside
        return any(pair in pairs.negotiated and aside.get(each.path) for pair, each in self._there(devices))

    def unplug(self) -> None:
        """Ask the guest to let go of those that are not hidden: UNPLUG_PRIMARY tells of each."""
        devices, built = self._devices, self._system.built
        if devices is None or built is None:
            return
        guest = built.guest
        listens = guest is not None and guest.listens
        for pair, primary in list(self._there(devices)):
            if pair in devices.pairs.shown:
                if devices.removal.set_aside(primary, guest_listens=listens) and guest is not None:
                    guest.unplug_asked(primary.path)
                built.emit("UNPLUG_PRIMARY", {"device-id": primary.identifier or ""})
                devices.pairs.shown.discard(pair)

    def plug_back(self) -> None:
        """Let the guest have them again."""
        devices = self._devices
        if devices is None:
            return
        for pair, primary in list(self._there(devices)):
            if devices.removal.aside.pop(primary.path, None) is not None:
                devices.pairs.shown.add(pair)
