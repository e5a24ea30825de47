"""The commands about jobs: holding them, and letting them go."""

from __future__ import annotations

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.fault_list import FaultKind, FaultState
from qmpd.control.job_faults import named
from qmpd.control.times import Time, nanoseconds


class JobControl(Group):
    """Jobs of the machine, which hold still and go on at your word."""

    __slots__ = ()

    @command("job-hold")
    def hold(self, id_: str, time: Time | None = None) -> FaultState:
        """Hold a job, be it there by now or not: it stays where it is in its work, and is told to be running.

        It ends all the same when it is cancelled.  What holds it is a fault like `fault-hold-activity`.
        """
        faults = self._stage.fault_list
        try:
            lasting = None if time is None else nanoseconds(time)
        except ValueError as error:
            raise ControlError(str(error)) from None
        fault = faults.begin(FaultKind.HOLD_ACTIVITY, lasting, named(id_))
        faults.happens(fault)
        return fault.describe()

    @command("job-release")
    def release(self, id_: str) -> list[FaultState]:
        """Let a job go on that is held; what has held it."""
        faults = self._stage.fault_list
        found = [each for each in faults if each.kind is FaultKind.HOLD_ACTIVITY and each.activity == named(id_)]
        if not found:
            raise ControlError(f"nothing holds the job '{id_}'")
        for fault in found:
            faults.remove(fault)
        return [fault.describe() for fault in found]
