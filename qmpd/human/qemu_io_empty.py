"""`qemu-io` on a drive that nothing is in: its commands begin all the same, and say what they miss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.human import qemu_io_words as words
from qmpd.monitor.commands.block import find_drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.nodes import Drive
    from qmpd.system.system import System

# What is printed of those that fail, and what the monitor says itself.
_PRINTED = {
    "read": "read failed", "readv": "readv failed", "write": "write failed", "writev": "writev failed",
    "aio_read": "readv failed", "aio_write": "aio_write failed", "discard": "discard failed", "length": "getlength",
}  # fmt: skip
_SAID = {
    "map": "Failed to query image length: No medium found\n", "truncate": "No medium inserted\n",
    "flush": "", "aio_flush": "",
}  # fmt: skip


def begin(system: System, drive: Drive, given: list[str], tell: Callable[[str], None]) -> None:
    """Execute a command there; what the monitor says of it is told."""
    command = words.find(given[0]) if given else None
    name = "" if command is None else command.name
    if command is None and given:
        system.print(f'command "{given[0]}" not found\n')
        tell("")
    elif name in _PRINTED:
        system.print(f"{_PRINTED[name]}: No medium found\n")
        tell("")
    else:
        tell(_SAID.get(name, f"Error: Device '{drive.name}' has no medium\n"))


def find(system: System, name: str, *, by_device: bool) -> Drive | None:
    """The drive that is meant; None where it is none.

    :raise Refusal: there is no such device, or it has no disk.
    """
    return find_drive(system, {"id": name}) if by_device else system.inventory.backends.block.drive(name)
