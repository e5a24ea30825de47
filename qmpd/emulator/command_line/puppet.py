"""`-guest`, `-clock` and `-disk`: what is played with, as it is at the start.

The control socket changes both while the machine runs (`qmpd.control`), and spells them the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError

if TYPE_CHECKING:
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.option_language.options import Given


def guest(given: Given) -> list[tuple[str, str]]:
    """The pairs of one `-guest`.

    :raise OptionError: a key or a value is wrong.
    """
    from qmpd.control import guest_options

    pairs = key_values.flat_list(given.value)
    try:
        guest_options.parse(pairs)
    except ValueError as error:
        raise OptionError(str(error), given.location) from None
    return pairs


def with_guest(machine: MachineSettings, pairs: list[tuple[str, str]]) -> MachineSettings:
    """The same machine with the guest that all its `-guest` options describe.

    :raise OptionError: the machine is one without a guest.
    """
    from qmpd.control import guest_options
    from qmpd.machine.blueprint import GuestSettings

    if not machine.board.has_cpus:
        raise OptionError("machine 'none' has no guest", "-guest")
    guest = replace(machine.guest or GuestSettings(), **guest_options.parse(pairs))
    return replace(machine, guest=guest)


def disk(given: Given) -> int:
    """How many bytes the disks move in a second, as `-disk rate=100M` says.

    :raise OptionError: it says something else.
    """
    from qmpd.control.sizes import size

    rate = 0
    try:
        for key, value in key_values.flat_list(given.value):
            if key != "rate":
                raise ValueError(f"there is no '{key}': rate is meant")
            rate = size(value)
    except ValueError as error:
        raise OptionError(str(error), given.location) from None
    return rate


def clock(given: Given) -> str:
    """The clock that `-clock` asks for.

    :raise OptionError: there is none of that name.
    """
    from qmpd.control.clock import PuppetClock

    try:
        PuppetClock.parse(given.value)
    except ValueError as error:
        raise OptionError(str(error), given.location) from None
    return given.value
