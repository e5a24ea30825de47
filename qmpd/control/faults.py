"""The commands about faults (`qmpd.control.fault_list`)."""

from __future__ import annotations

from typing import Any

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.fault_list import (
    DiskError,
    DiskMoment,
    Fault,
    FaultKind,
    FaultList,
    FaultState,
    GarbageMoment,
    ReplyMoment,
)
from qmpd.control.job_faults import Progress, attach, named
from qmpd.control.migration_faults import LASTING, MigrationFault
from qmpd.control.migration_faults import attach as attach_to_migrations
from qmpd.control.overrides import event_data
from qmpd.control.sizes import Size
from qmpd.control.times import Time, nanoseconds
from qmpd.control.values import MISSING

FAILED = "a fault has it fail"
GARBAGE = "\x00\xff\xfe}]{{ not JSON\r\n"


class FaultControl(Group):
    """Faults; each method gives the fault's state, whose id `clear` takes."""

    __slots__ = ()

    @command("fault-delay-reply")
    def delay_reply(
        self, time: Time, command: str | None = None, client: int | None = None, count: int | None = None
    ) -> FaultState:
        """Execute commands at once and reply `time` later; the client's further commands wait until then."""
        return self._add(FaultKind.DELAY_REPLY, command=command, client=client, count=count, time=_time(time))

    @command("fault-drop-connection")
    def drop_connection(
        self,
        when: ReplyMoment | str = ReplyMoment.BEFORE,
        command: str | None = None,
        client: int | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Execute commands and close the connection before, in the middle of or after the reply."""
        return self._add(FaultKind.DROP_CONNECTION, command=command, client=client, count=count, when=when)

    @command("fault-stall")
    def stall(
        self,
        time: Time | None = None,
        command: str | None = None,
        client: int | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Send half of the reply, and the rest `time` later or when the fault is cleared; until then nothing else."""
        return self._add(FaultKind.STALL, command=command, client=client, count=count, time=_optional_time(time))

    @command("fault-garbage")
    def garbage(
        self,
        when: GarbageMoment | str = GarbageMoment.BEFORE,
        data: str | None = None,
        command: str | None = None,
        client: int | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Send bytes that are no message; in `data` each character stands for one byte (U+0000 to U+00FF)."""
        try:
            octets = (GARBAGE if data is None else data).encode("latin-1")
        except UnicodeEncodeError:
            raise ControlError("'data' has characters beyond U+00FF") from None
        if when is GarbageMoment.NOW:
            if command is not None or count is not None:
                raise ControlError("'command' and 'count' are for garbage that waits for a reply")
            fault = Fault(id=self._list.next(), kind=FaultKind.GARBAGE, when=when, client=client)
            self._list.happens(fault, client)
            self._stage.interceptor.send_bytes(octets, client)
            return fault.describe()
        return self._add(FaultKind.GARBAGE, command=command, client=client, count=count, when=when, data=octets)

    @command("fault-early-event")
    def early_event(
        self, event: str = "RESUME", data: Any = MISSING, check: bool = True, count: int | None = None
    ) -> FaultState:
        """Send an event to the next `count` clients that connect, before their greeting."""
        found = event_data(self._stage.release, event, data, check)
        return self._add(FaultKind.EARLY_EVENT, count=count, event=(event, found))

    @command("fault-close-connections")
    def close_connections(self, count: int | None = None) -> FaultState:
        """Accept the next `count` clients and close the connection at once, without a greeting."""
        return self._add(FaultKind.CLOSE_CONNECTIONS, count=count)

    @command("fault-refuse-connections")
    def refuse_connections(self, time: Time | None = None) -> FaultState:
        """Stop listening, so that clients that connect are refused; who is connected stays so."""
        fault = self._lasting(FaultKind.REFUSE_CONNECTIONS, time)
        self._stage.host.refuse_connections(True)
        return fault

    @command("fault-exhaust-descriptors")
    def exhaust_descriptors(self, time: Time | None = None) -> FaultState:
        """Be out of file descriptors: clients that connect wait, unaccepted, until it is over."""
        fault = self._lasting(FaultKind.EXHAUST_DESCRIPTORS, time)
        self._stage.host.exhaust_descriptors(True)
        return fault

    @command("fault-hang-main-loop")
    def hang_main_loop(
        self,
        time: Time | None = None,
        command: str | None = None,
        client: int | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Hang the main loop, now or in a command: no command, timer or signal has an effect; out-of-band ones do."""
        if command is None and client is None and count is None:
            return self._lasting(FaultKind.HANG_MAIN_LOOP, time)
        return self._add(
            FaultKind.HANG_MAIN_LOOP,
            command=command,
            client=client,
            count=count,
            time=_optional_time(time),
            armed=True,
        )

    @command("fault-hold-activity")
    def hold_activity(self, activity: str | None = None, time: Time | None = None) -> FaultState:
        """Hold long work, all or by its kind or name: it takes no step, and nobody else waits for it."""
        fault = self._list.begin(FaultKind.HOLD_ACTIVITY, _optional_time(time), activity)
        self._list.happens(fault)
        return fault.describe()

    @command("fault-fail-activity")
    def fail_activity(
        self, activity: str | None = None, reason: str = FAILED, count: int | None = None
    ) -> FaultState:
        """Have long work, any or by its kind or name, fail at its next step."""
        return self._add(FaultKind.FAIL_ACTIVITY, activity=activity, reason=reason, count=count)

    @command("fault-disk")
    def disk(
        self,
        node: str,
        error: DiskError | str = DiskError.EIO,
        when: DiskMoment | str = DiskMoment.WRITE,
        sector: int | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Have reads, writes or flushes of a block node fail: all, or those of one sector of 512 bytes."""
        if sector is not None and sector < 0:
            raise ControlError("'sector' is a number from 0 on")
        found = self._stage.host.system.inventory.backends.block.lookup(node)
        if found is None:
            raise ControlError(f"there is no block node '{node}'")
        state = self._add(FaultKind.DISK, when=str(when), count=count, node=found.name)
        fault = {"id": state.id, "error": str(error), "when": str(when), "sector": sector, "count": count}
        found.faults = [*found.faults, fault]
        return state

    @command("fault-job")
    def job(
        self,
        type_: str | None = None,
        id_: str | None = None,
        at: Size = 0,
        error: DiskError | str = DiskError.EIO,
        count: int | None = 1,
    ) -> FaultState:
        """Have the work of a block job meet an error at a progress, a size or a percentage; its policy decides."""
        if type_ is not None and id_ is not None:
            raise ControlError("either a 'type' of jobs is meant or an 'id'")
        about = type_ if id_ is None else named(id_)
        progress = Progress.parse(at)
        state = self._add(
            FaultKind.JOB, activity=about, when=str(at), at=tuple(progress), error=str(error), count=count
        )
        attach(self._stage)
        return state

    @command("fault-migration")
    def migration(
        self,
        what: MigrationFault | str = MigrationFault.CUT,
        at: Size = 0,
        reason: str = FAILED,
        time: Time | None = None,
        count: int | None = None,
    ) -> FaultState:
        """Have migrations go wrong.

        The way is lost once memory was copied as far as `at`, a size or a percentage; the machine that comes is refused
        for a reason; the switchover is held, or memory never comes to an end, for a time or until the fault is cleared.
        """
        attach_to_migrations(self._stage)
        if what in LASTING:
            if count is not None or at != 0 or reason != FAILED:
                raise ControlError(f"'{what}' takes a 'time' alone")
            fault = self._list.begin(FaultKind.MIGRATION, _optional_time(time))
            fault.when = str(what)
            return fault.describe()
        if time is not None:
            raise ControlError(f"'{what}' takes no 'time'")
        if what is MigrationFault.REFUSE and at != 0:
            raise ControlError(f"'{what}' takes no 'at'")
        if what is MigrationFault.CUT and reason != FAILED:
            raise ControlError(f"'{what}' takes no 'reason'")
        progress, often = Progress.parse(at), 1 if count is None else count
        return self._add(FaultKind.MIGRATION, when=str(what), at=tuple(progress), reason=reason, count=often)

    @command("fault-kill")
    def kill(self, signal: int = 9, command: str | None = None, client: int | None = None) -> FaultState:
        """End as a process that a signal kills, now or before a command: no SHUTDOWN, and the socket files stay."""
        if not 1 <= signal <= 64:
            raise ControlError("'signal' is a number from 1 to 64")
        if command is not None or client is not None:
            return self._add(FaultKind.KILL, command=command, client=client, count=1, signal=signal)
        fault = Fault(id=self._list.next(), kind=FaultKind.KILL, signal=signal)
        self._list.die(fault)
        return fault.describe()

    @command("query-faults")
    def query(self) -> list[FaultState]:
        """List the faults that hold."""
        self._list.look_at_disks()
        return [fault.describe() for fault in self._list]

    @command("fault-clear")
    def clear(self, id_: int | None = None) -> None:
        """End one fault, or all; what a stall kept is sent.

        :raise ControlError: there is none of that id.
        """
        if id_ is not None and all(fault.id != id_ for fault in self._list):
            raise ControlError(f"there is no fault {id_}")
        for fault in list(self._list):
            if id_ is None or fault.id == id_:
                self._list.remove(fault)

    @property
    def _list(self) -> FaultList:
        return self._stage.fault_list

    def _add(self, kind: FaultKind, **members: Any) -> FaultState:
        count = members.get("count")
        if count is not None and count < 1:
            raise ControlError("'count' is a positive number")
        fault = Fault(id=self._list.next(), kind=kind, **members)
        self._list.add(fault)
        return fault.describe()

    def _lasting(self, kind: FaultKind, time: Time | None) -> FaultState:
        fault = self._list.begin(kind, _optional_time(time))
        self._list.happens(fault)
        return fault.describe()


def _time(time: Time) -> int:
    try:
        return nanoseconds(time)
    except ValueError as error:
        raise ControlError(str(error)) from None


def _optional_time(time: Time | None) -> int | None:
    return None if time is None else _time(time)
