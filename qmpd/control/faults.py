"""Faults: what goes wrong with a connection, a main loop or a process, when it is asked to.

A fault on replies waits for a command: any, or one by name, of any client or of one by number, the next `count`
times or until it is cleared.  The others hold from the moment they are made, for a `time` on the machine's clock
or until they are cleared.  The control socket itself suffers from none of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.times import Time, nanoseconds
from qmpd.control.transcript import EntryKind
from qmpd.control.values import MISSING
from qmpd.schedule.schedule import Time as TimeBase

if TYPE_CHECKING:
    from collections.abc import Hashable

    from qmpd.control.puppeteer import Puppeteer
    from qmpd.schedule.schedule import Schedule

GARBAGE = "\x00\xff\xfe}]{{ not JSON\r\n"


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    DELAY_REPLY = "delay-reply"
    DROP_CONNECTION = "drop-connection"
    STALL = "stall"
    GARBAGE = "garbage"
    EARLY_EVENT = "early-event"
    CLOSE_CONNECTIONS = "close-connections"
    REFUSE_CONNECTIONS = "refuse-connections"
    EXHAUST_DESCRIPTORS = "exhaust-descriptors"
    HANG_MAIN_LOOP = "hang-main-loop"
    KILL = "kill"


class ReplyMoment(enum.StrEnum):
    """A moment around a reply."""

    BEFORE = "before-reply"
    WITHIN = "within-reply"
    AFTER = "after-reply"


class GarbageMoment(enum.StrEnum):
    """When garbage is sent: at once, or around a reply."""

    NOW = "now"
    BEFORE = "before-reply"
    INSTEAD = "instead-of-reply"
    AFTER = "after-reply"


@dataclass(frozen=True, slots=True)
class FaultState:
    """A fault that holds: its id, what it is, and what it waits for; `count` is how often it will still happen."""

    id: int
    fault: FaultKind
    command: str | None = None
    client: int | None = None
    count: int | None = None
    when: str | None = None


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault.  Times in nanoseconds; `deadline` on the monotonic clock is when it ends by itself."""

    id: int
    kind: FaultKind
    command: str | None = None
    client: int | None = None
    count: int | None = None
    when: str | None = None
    time: int | None = None
    deadline: int | None = None
    data: bytes = b""
    event: tuple[str, dict[str, object] | None] | None = None
    signal: int = 9
    armed: bool = False

    def describe(self) -> FaultState:
        """What the control socket says of it."""
        return FaultState(self.id, self.kind, self.command, self.client, self.count, self.when)


class FaultControl(Group):
    """Faults; each method gives the fault's state, whose id `clear` takes."""

    __slots__ = ("_faults", "_last")

    def __init__(self, puppeteer: Puppeteer) -> None:
        super().__init__(puppeteer)
        self._faults: list[Fault] = []
        self._last = 0

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
            fault = Fault(id=self._next(), kind=FaultKind.GARBAGE, when=when, client=client)
            self._happens(fault, client)
            self._puppeteer.interceptor.send_bytes(octets, client)
            return fault.describe()
        return self._add(FaultKind.GARBAGE, command=command, client=client, count=count, when=when, data=octets)

    @command("fault-early-event")
    def early_event(
        self, event: str = "RESUME", data: Any = MISSING, check: bool = True, count: int | None = None
    ) -> FaultState:
        """Send an event to the next `count` clients that connect, before their greeting."""
        found = self._puppeteer.replies.event_data(event, data, check)
        return self._add(FaultKind.EARLY_EVENT, count=count, event=(event, found))

    @command("fault-close-connections")
    def close_connections(self, count: int | None = None) -> FaultState:
        """Accept the next `count` clients and close the connection at once, without a greeting."""
        return self._add(FaultKind.CLOSE_CONNECTIONS, count=count)

    @command("fault-refuse-connections")
    def refuse_connections(self, time: Time | None = None) -> FaultState:
        """Stop listening, so that clients that connect are refused; who is connected stays so."""
        fault = self._lasting(FaultKind.REFUSE_CONNECTIONS, time)
        self._puppeteer.host.refuse_connections(True)
        return fault

    @command("fault-exhaust-descriptors")
    def exhaust_descriptors(self, time: Time | None = None) -> FaultState:
        """Be out of file descriptors: clients that connect wait, unaccepted, until it is over."""
        fault = self._lasting(FaultKind.EXHAUST_DESCRIPTORS, time)
        self._puppeteer.host.exhaust_descriptors(True)
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

    @command("fault-kill")
    def kill(self, signal: int = 9, command: str | None = None, client: int | None = None) -> FaultState:
        """End as a process that a signal kills, now or before a command: no SHUTDOWN, and the socket files stay."""
        if not 1 <= signal <= 64:
            raise ControlError("'signal' is a number from 1 to 64")
        if command is not None or client is not None:
            return self._add(FaultKind.KILL, command=command, client=client, count=1, signal=signal)
        fault = Fault(id=self._next(), kind=FaultKind.KILL, signal=signal)
        self.die(fault)
        return fault.describe()

    @command("query-faults")
    def query(self) -> list[FaultState]:
        """List the faults that hold."""
        return [fault.describe() for fault in self._faults]

    @command("fault-clear")
    def clear(self, id_: int | None = None) -> None:
        """End one fault, or all; what a stall kept is sent.

        :raise ControlError: there is none of that id.
        """
        if id_ is not None and all(fault.id != id_ for fault in self._faults):
            raise ControlError(f"there is no fault {id_}")
        for fault in list(self._faults):
            if id_ is None or fault.id == id_:
                self._remove(fault)

    # For a process that takes the machine over.

    def state(self) -> tuple[list[Fault], int]:
        """The faults, and the last id that was given."""
        return self._faults, self._last

    def restore(self, faults: list[Fault], last: int) -> None:
        """Have these faults."""
        self._faults = faults
        self._last = last
        for fault in faults:
            self._watch(fault)

    # Making, using and ending them.

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _add(self, kind: FaultKind, **members: Any) -> FaultState:
        count = members.get("count")
        if count is not None and count < 1:
            raise ControlError("'count' is a positive number")
        fault = Fault(id=self._next(), kind=kind, **members)
        self._faults.append(fault)
        return fault.describe()

    def _lasting(self, kind: FaultKind, time: Time | None) -> FaultState:
        fault = self._begin(kind, _optional_time(time))
        self._happens(fault)
        return fault.describe()

    def _begin(self, kind: FaultKind, time: int | None) -> Fault:
        fault = Fault(id=self._next(), kind=kind)
        if time is not None:
            fault.deadline = self._schedule.now(TimeBase.CLOCK) + time
            self._watch(fault)
        self._faults.append(fault)
        return fault

    @property
    def _schedule(self) -> Schedule:
        return self._puppeteer.machine.schedule

    def _watch(self, fault: Fault) -> None:
        if fault.deadline is not None:
            self._schedule.set_at(self, fault.id, fault.deadline, TimeBase.CLOCK)

    def _happens(self, fault: Fault, client: int | None = None, command: str | None = None) -> None:
        self._puppeteer.recorder.record(
            EntryKind.FAULT, fault=str(fault.kind), id=fault.id, client=client, command=command
        )

    def _remove(self, fault: Fault) -> None:
        if fault in self._faults:
            self._faults.remove(fault)
        self._schedule.cancel(self, fault.id)
        if fault.kind in (FaultKind.STALL, FaultKind.DELAY_REPLY):
            self._puppeteer.interceptor.release(fault.id)
        elif fault.kind is FaultKind.REFUSE_CONNECTIONS and not self.holds(fault.kind):
            self._puppeteer.host.refuse_connections(False)
        elif fault.kind is FaultKind.EXHAUST_DESCRIPTORS and not self.holds(fault.kind):
            self._puppeteer.host.exhaust_descriptors(False)

    def holds(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind holds now."""
        return any(fault.kind is kind and not fault.armed for fault in self._faults)

    def take(self, kinds: tuple[FaultKind, ...], client: int | None = None, command: str | None = None) -> Fault | None:
        """The first fault of these kinds that happens to this command, which it now does."""
        for fault in self._faults:
            if (
                fault.kind in kinds
                and fault.count != 0
                and fault.command in (None, command)
                and fault.client in (None, client)
            ):
                if fault.count is not None:
                    fault.count -= 1
                    # What keeps something back is there to be cleared as long as it does.
                    if fault.count == 0 and fault.kind not in (FaultKind.STALL, FaultKind.DELAY_REPLY):
                        self._faults.remove(fault)
                self._happens(fault, client, command)
                return fault
        return None

    def take_hang(self, client: int, command: str | None) -> bool:
        """Whether the main loop now hangs in this command."""
        taken = self.take((FaultKind.HANG_MAIN_LOOP,), client, command)
        if taken is not None:
            self._begin(FaultKind.HANG_MAIN_LOOP, taken.time)
        return taken is not None

    def die(self, fault: Fault) -> None:
        """End the machine as `fault` says."""
        self._happens(fault)
        self._puppeteer.host.kill(fault.signal)

    def is_over(self, fault_id: int) -> None:
        """Nobody suffers any more from the fault of this id: it goes, unless it is to happen again."""
        for fault in self._faults:
            if fault.id == fault_id and fault.count == 0:
                self._faults.remove(fault)
                break

    def timer_due(self, name: Hashable) -> None:
        """End a fault whose time has passed (`qmpd.schedule.schedule.Owner`)."""
        for fault in [fault for fault in self._faults if fault.id == name]:
            self._remove(fault)


def _time(time: Time) -> int:
    try:
        return nanoseconds(time)
    except ValueError as error:
        raise ControlError(str(error)) from None


def _optional_time(time: Time | None) -> int | None:
    return None if time is None else _time(time)
