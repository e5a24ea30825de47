"""The PCI devices that machines have from the start, as `query-pci` shows them before any firmware has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.capture.client import Program
from qmpd.capture.hardware.machines import MACHINES, options, starts
from qmpd.capture.hardware.notation import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pci_lines(command: str, report: Callable[[str], None]) -> Iterator[bytes]:
    """What `query-pci` says on each machine; `report` is told of those that are not there.

    :raise CaptureError: the program does not start.
    """
    for machine in MACHINES:
        if starts(command, machine, report):
            with Program(command, options(machine)) as program:
                yield entry("pci", machine.name, {"buses": program.client.ask("query-pci").result})
