"""Who asks for something while a machine runs, as far as that decides what is meant."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.system.build import descriptor_number

if TYPE_CHECKING:
    from qmpd.machine import Machine
    from qmpd.system.descriptors import Descriptors

    class WithFiles(Protocol):
        """A machine to which clients hand over open files (`qmpd.system.system.System`)."""

        descriptors: Descriptors | None

        @property
        def machine(self) -> Machine:
            """Its run-state core."""


class CommandLineAsker:
    """The command line of a program of its own: open files have their numbers, and what is printed is seen."""

    __slots__ = ()

    def descriptor(self, text: str) -> int:
        """See `qmpd.common.computer.Asker`."""
        return descriptor_number(text)

    def complain(self, text: str) -> None:
        """See `qmpd.common.computer.Asker`."""
        sys.stderr.write(f"{text}\n")


class MonitorAsker:
    """A client of a monitor: open files are those that it has handed over by name, or those of the process by number.

    (QEMU's `monitor_fd_param`.)
    """

    def __init__(self, system: WithFiles, monitor: str) -> None:
        self._system = system
        self._monitor = monitor

    def descriptor(self, text: str) -> int:
        """See `qmpd.common.computer.Asker`."""
        if is_digits(text[:1]):
            return descriptor_number(text)
        files = self._system.descriptors
        number = None if files is None else files.take(self._monitor, text)
        if number is None:
            raise Refusal("descriptor-name-missing", name=text)
        return number

    def complain(self, text: str) -> None:
        """See `qmpd.common.computer.Asker`."""
        self._system.machine.report(text)
