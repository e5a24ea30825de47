"""Between the clients and their commands: where faults and overrides take effect and the transcript is written.

It hangs on the points of the dispatcher's loop (`Dispatcher.points`), which are nobody's for almost all machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.control.client import Client
from qmpd.control.errors import ControlError
from qmpd.control.fault_list import Fault, FaultKind, GarbageMoment, ReplyMoment
from qmpd.control.overrides import OverriddenCommands
from qmpd.control.recorder import EntryKind
from qmpd.control.session import PuppetSession
from qmpd.machine import Event
from qmpd.monitor.events import event_value
from qmpd.monitor.session import Session
from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Hashable

    from qmpd.control.fault_list import FaultList
    from qmpd.control.host import Host
    from qmpd.control.overrides import Overrides
    from qmpd.control.recorder import Recorder
    from qmpd.schedule.activity import Activity

AT_REPLY = (FaultKind.DROP_CONNECTION, FaultKind.STALL, FaultKind.GARBAGE)


@dataclass(slots=True)
class Kept:
    """What a fault keeps from a client: a whole reply (to the command of this name), or the rest of one (None)."""

    fault: int
    session: PuppetSession
    deadline: int | None
    reply: bytes | None = None
    command: str | None = None
    in_band: bool = False


class Interceptor:
    """Comes between the sessions of one machine and their commands.

    `kept` is what faults keep back, `numbers` how many clients have come.
    """

    __slots__ = ("_dispatcher", "_faults", "_host", "_overrides", "_recorder", "_system", "kept", "numbers")

    def __init__(self, host: Host, recorder: Recorder, faults: FaultList, overrides: Overrides) -> None:
        self._host = host
        self._system = host.system
        self._dispatcher = host.dispatcher
        self._faults = faults
        self._overrides = overrides
        self._recorder = recorder
        faults.let_go = self.release
        self.kept: list[Kept] = []
        self.numbers = 0

    # The points of the dispatcher's work (`qmpd.monitor.dispatcher.Points`).

    def opened(self, session: Session) -> None:
        """A client is about to be greeted."""
        early = self._faults.take((FaultKind.EARLY_EVENT,))
        if early is not None and early.event is not None:
            event = Event(*early.event, self._system.clock.wall_microseconds())
            session.send(self._dispatcher.spell(session, event_value(event)))

    def adopt(self, session: Session) -> PuppetSession:
        """Come between a session and its commands from now on."""
        self.numbers += 1
        client = Client(self.numbers, self._recorder)
        commands = OverriddenCommands(self._dispatcher, self._overrides, client, session.negotiated)
        self._recorder.record(EntryKind.CONNECTED, client=client.number, monitor=session.label)
        return PuppetSession.adopt(session, client, commands)

    def closed(self, session: Session) -> None:
        """The client is gone: nothing is kept for it any more."""
        if isinstance(session, PuppetSession):
            session.end()
            for kept in [kept for kept in self.kept if kept.session is session]:
                self._forget(kept)

    def executes(self, session: Session, message: object) -> bool:
        """A request is about to be executed; False where the main loop comes to a stop before."""
        if not isinstance(session, PuppetSession):
            return True
        name = _name(message)
        if not session.client.resumed and self._faults.take_hang(session.client.number, name):
            session.client.resumed = True
            return False
        session.client.resumed = False
        fatal = self._faults.take((FaultKind.KILL,), session.client.number, name)
        if fatal is not None:
            self._host.kill(fatal.signal)
        return fatal is None

    def replies(self, session: Session, message: object, reply: bytes, *, in_band: bool) -> None:
        """A request has been executed, and this is its reply."""
        if not isinstance(session, PuppetSession):
            session.send(reply)
            return
        name = _name(message)
        delay = self._faults.take((FaultKind.DELAY_REPLY,), session.client.number, name)
        if delay is None:
            self._send(session, name, reply)
            return
        session.held |= in_band
        self.keep(Kept(delay.id, session, self._deadline(delay), reply, name, in_band))

    # The point of long work (`qmpd.schedule.activity.Points`).

    def activity_steps(self, name: str, activity: Activity[Any]) -> bool:
        """Long work is about to go on; False where a fault holds it, and it may have failed of one."""
        if self._faults.holds_activity(activity.KIND, name):
            return False
        if activity.allows("fail"):
            fault = self._faults.take_failure(activity.KIND, name)
            if fault is not None:
                activity.fail(fault.reason)
        return True

    # Replies, and what becomes of them.

    def _deadline(self, fault: Fault) -> int | None:
        if fault.time is None:
            return None
        return self._system.clock.monotonic_nanoseconds() + fault.time

    def _send(self, session: PuppetSession, name: str | None, reply: bytes) -> None:
        fault = self._faults.take(AT_REPLY, session.client.number, name)
        if fault is None:
            session.send(reply)
        elif fault.kind is FaultKind.DROP_CONNECTION:
            if fault.when != ReplyMoment.BEFORE:
                session.send(reply if fault.when == ReplyMoment.AFTER else reply[: len(reply) // 2])
            self._drop(session)
        elif fault.kind is FaultKind.STALL:
            session.send(reply[: len(reply) // 2])
            session.stall(fault.id, reply[len(reply) // 2 :])
            self.keep(Kept(fault.id, session, self._deadline(fault)))
        else:
            if fault.when != GarbageMoment.AFTER:
                session.send(fault.data)
            if fault.when != GarbageMoment.INSTEAD:
                session.send(reply)
            if fault.when == GarbageMoment.AFTER:
                session.send(fault.data)

    def _drop(self, session: PuppetSession) -> None:
        # What came before the fault has gone out by then, as far as the client reads.
        self._host.flush()
        session.sever("a fault drops its connection")
        self._dispatcher.close_session(session)

    def send_bytes(self, octets: bytes, client: int | None) -> None:
        """Send bytes to one client, or to all.

        :raise ControlError: there is no client of that number.
        """
        sessions = [session for session in self._dispatcher.sessions if isinstance(session, PuppetSession)]
        if client is not None:
            sessions = [session for session in sessions if session.client.number == client]
            if not sessions:
                raise ControlError(f"there is no client {client}")
        for session in sessions:
            session.send(octets)

    # What is kept, until its time has come.

    def keep(self, kept: Kept) -> None:
        """Keep something back until its time has come."""
        self.kept.append(kept)
        if kept.deadline is not None:
            self._system.machine.schedule.set_at(self, id(kept), kept.deadline, Time.CLOCK)

    def timer_due(self, name: Hashable) -> None:
        """Send what was kept long enough (`qmpd.schedule.schedule.Owner`)."""
        for kept in [kept for kept in self.kept if id(kept) == name]:
            self._release(kept)

    def release(self, fault: int) -> None:
        """Send all that the fault of this id keeps."""
        for kept in [kept for kept in self.kept if kept.fault == fault]:
            self._release(kept)

    def _release(self, kept: Kept) -> None:
        session = kept.session
        self._forget(kept)
        if kept.reply is None:
            session.resume()
            return
        self._send(session, kept.command, kept.reply)
        if kept.in_band:
            self._dispatcher.go_on(session)

    def _forget(self, kept: Kept) -> None:
        self.kept.remove(kept)
        self._system.machine.schedule.cancel(self, id(kept))
        if all(other.fault != kept.fault for other in self.kept):
            self._faults.is_over(kept.fault)


def _name(message: object) -> str | None:
    """The command that a request is for; None where it is for none."""
    if not isinstance(message, dict):
        return None
    name = message.get("execute", message.get("exec-oob"))
    return name if isinstance(name, str) else None
