"""What a guest's operating system has reported of the places that ACPI plugs memory and CPUs into (`_OST`).

(QEMU's hw/acpi/memory_hotplug.c and hw/acpi/cpu.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.hardware import memory, processors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.hardware.buses import Device
    from qmpd.machine.blueprint import MachineSettings

EJECT_REQUEST = 3
"""The source of a report on being asked to let go."""

FAILURE = 1
"""The status of what has failed for no special reason."""

_MEMORY, _PROCESSOR = "DIMM", "CPU"


class Place(NamedTuple):
    """One place: its kind, its number, and the device that is there, if any."""

    kind: str
    number: int
    device: Device | None


class AcpiSlots:
    """The places of one machine.

    `cpus_found`: an operating system has looked at the machine's CPUs, and has switched their interface to the one that
    it reports through.
    """

    __slots__ = ("_reports", "cpus_found")

    def __init__(self) -> None:
        self.cpus_found = False
        # The last source and status by kind and number; where nothing was reported both are 0.
        self._reports: dict[str, list[int]] = {}

    def place_of(self, device: Device, devices: Iterable[Device], settings: MachineSettings) -> Place | None:
        """Where a device is; None where ACPI has no place for its kind."""
        return next((each for each in self._places(devices, settings) if each.device is device), None)

    def _places(self, devices: Iterable[Device], settings: MachineSettings) -> Iterator[Place]:
        devices = list(devices)
        boards = {each.node.value("slot"): each for each in memory.plugged(devices)}
        for number in range(settings.memory_slots):
            yield Place(_MEMORY, number, boards.get(number))
        nodes = {id(each.node): each for each in devices}
        there = {number: nodes[id(node)] for number, node in processors.plugged(devices, settings)}
        for number in range(settings.topology.maximum):
            yield Place(_PROCESSOR, number, there.get(number))

    def report(self, place: Place, source: int, status: int) -> dict[str, Any]:
        """The operating system reports; gives what the event tells of it (QAPI ACPIOSTInfo)."""
        self._reports[f"{place.kind}{place.number}"] = [source, status]
        return self._describe(place)

    def _describe(self, place: Place) -> dict[str, Any]:
        source, status = self._reports.get(f"{place.kind}{place.number}", (0, 0))
        named = {} if place.device is None or place.device.identifier is None else {"device": place.device.identifier}
        return {**named, "source": source, "status": status, "slot": str(place.number), "slot-type": place.kind}

    def describe(
        self, devices: Iterable[Device], settings: MachineSettings, *, always_cpus: bool
    ) -> list[dict[str, Any]]:
        """What query-acpi-ospm-status tells; `always_cpus`: also of CPUs that no operating system has looked at."""
        return [
            self._describe(each)
            for each in self._places(devices, settings)
            if each.kind == _MEMORY or always_cpus or self.cpus_found
        ]
