"""Faults of migrations: what goes wrong at one of the two sides (`qmpd.migration.faults.Faults`)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from qmpd.control.fault_list import FaultKind
from qmpd.control.job_faults import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.control.fault_list import Fault, FaultList
    from qmpd.control.stage import Stage

_OUTGOING, _INCOMING = "migration", "incoming migration"


class MigrationFault(enum.StrEnum):
    """What goes wrong with a migration."""

    CUT = "cut"
    REFUSE = "refuse"
    HOLD_SWITCHOVER = "hold-switchover"
    NEVER_CONVERGE = "never-converge"


LASTING = frozenset({MigrationFault.HOLD_SWITCHOVER, MigrationFault.NEVER_CONVERGE})
"""Those that hold for a time, or until they are cleared."""


def attach(stage: Stage) -> None:
    """Have the migrations of a machine meet its faults from now on."""
    stage.host.system.migrations.faults = MigrationFaults(stage.fault_list)


class MigrationFaults:
    """The faults of a machine that its migrations meet."""

    __slots__ = ("_list",)

    def __init__(self, faults: FaultList) -> None:
        self._list = faults

    def _of(self, what: MigrationFault) -> Iterator[Fault]:
        return (
            each for each in self._list
            if each.kind is FaultKind.MIGRATION and each.when == str(what) and each.count != 0
        )  # fmt: skip

    def takes_cut(self, copied: int, total: int) -> bool:
        """See `Faults`."""
        for fault in self._of(MigrationFault.CUT):
            if copied >= Progress(*fault.at).of(total):
                self._list.meets(fault, _OUTGOING)
                return True
        return False

    def next_cut(self, copied: int, total: int) -> int | None:
        """See `Faults`."""
        ahead = [Progress(*fault.at).of(total) - copied for fault in self._of(MigrationFault.CUT)]
        return min((max(0, each) for each in ahead), default=None)

    def takes_refusal(self) -> str | None:
        """See `Faults`."""
        for fault in self._of(MigrationFault.REFUSE):
            self._list.meets(fault, _INCOMING)
            return fault.reason
        return None

    @property
    def hold_switchover(self) -> bool:
        """See `Faults`."""
        return any(self._of(MigrationFault.HOLD_SWITCHOVER))

    @property
    def keep_it_from_converging(self) -> bool:
        """See `Faults`."""
        return any(self._of(MigrationFault.NEVER_CONVERGE))
