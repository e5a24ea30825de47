"""A machine with its guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.guest.course import Guest
from qmpd.machine.machine import Machine, ignore_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.machine.behaviour import CoreBehaviour
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.machine.events import Event
    from qmpd.schedule.clock import Clock


def make_machine(
    settings: MachineSettings,
    behaviour: CoreBehaviour,
    clock: Clock,
    emit: Callable[[Event], None],
    wake: Callable[[], None],
    report: Callable[[str], None] = ignore_report,
) -> tuple[Machine, Guest | None]:
    """A machine (`qmpd.machine.machine.Machine` says what it takes) with its guest; machine `none` has none."""
    machine = Machine(settings, behaviour, clock, emit, wake, report)
    guest = Guest(machine, settings.guest) if settings.board.has_cpus else None
    machine.guest = guest
    return machine, guest
