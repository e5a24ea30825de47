"""Taking machines and devices apart: what their objects are (`qmpd.qapi.hardware` reads what is written here)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.capture.client import Program
from qmpd.capture.hardware.backends import backend_lines
from qmpd.capture.hardware.device_tree import lines as tree_lines
from qmpd.capture.hardware.devices import Devices
from qmpd.capture.hardware.machines import MACHINES, device_memory_lines, machine_lines, starts
from qmpd.capture.hardware.notation import Shapes, entry
from qmpd.capture.hardware.pci import pci_lines
from qmpd.capture.hardware.texts import texts
from qmpd.capture.reference import NO_MACHINE, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 3
"""How many steps `hardware` announces."""


def hardware(command: str, step: Callable[[str], None], report: Callable[[str], None]) -> list[bytes]:
    """The lines of the file of hardware; this takes some minutes.

    `step` is told what is being looked at (`STEPS` times, where there is machine `pc`), `report` what could not be
    found out.

    :raise CaptureError: the program does not start.
    """
    buses = _buses(command)
    shapes = Shapes()
    step("objects of machines and CPUs")
    lines = list(machine_lines(command, frozenset(buses), shapes, report))
    lines += pci_lines(command, lambda _: None)
    lines += device_memory_lines(command)
    if any(each.name == "pc" and starts(command, each, report) for each in MACHINES):
        step("devices")
        devices = Devices(command, buses, shapes, report)
        lines += devices.lines()
        lines += tree_lines(command, MACHINES, devices.trees)
        step("backends")
        lines += backend_lines(command, shapes, report)
        lines.append(entry("texts", "-", texts(command, report)))
    return [*shapes.lines(), *lines]


def devices_of(command: str, shapes: Shapes, report: Callable[[str], None]) -> Devices:
    """What takes down the devices alone.

    :raise CaptureError: the program does not start.
    """
    return Devices(command, _buses(command), shapes, report)


def _buses(command: str) -> dict[str, frozenset[str]]:
    """What each type of bus is."""
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        types = program.client.ask("qom-list-types", {"abstract": True}).result
        buses = [each["name"] for each in program.client.ask("qom-list-types", {"implements": "bus"}).result]
    parents = {each["name"]: each.get("parent") for each in types}
    return {bus: _ancestry(bus, parents) for bus in buses}


def _ancestry(name: str, parents: dict[str, str | None]) -> frozenset[str]:
    """A type of bus and those that it is derived from."""
    found = []
    here: str | None = name
    while here is not None and here in parents and here != "bus":
        found.append(here)
        here = parents[here]
    return frozenset(found)
