"""What the keys of a character device that is shared ask of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.requests import ShutdownCause

if TYPE_CHECKING:
    from qmpd.machine.machine import Machine


def end(machine: Machine) -> None:
    """The key that ends the emulator was pressed."""
    if machine.behaviour.end_key_announced:
        machine.quit(ShutdownCause.HOST_QMP_QUIT)
    else:
        machine.end(0)
