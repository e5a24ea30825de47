"""Disks that are files of a set, `/dev/fdset/NUMBER`."""

from __future__ import annotations

from qmpd.common.file_sets import set_number
from qmpd.machine.errors import MachineError


def number_of_set(filename: str) -> int | None:
    """The number of the set of files that a name stands for; None where it is another name.

    :raise MachineError: it cannot be read.
    """
    try:
        return set_number(filename)
    except ValueError:
        raise MachineError(f"Could not parse fdset {filename}") from None
