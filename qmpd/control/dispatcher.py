"""The control socket's monitors: QMP's framing and negotiation, with commands of its own.

A second dispatcher beside that of the machine's QMP sockets.  The machine's main loop runs it as well, also
while a fault keeps that loop from doing anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.common.refusals import Refusal
from qmpd.control.errors import ControlError
from qmpd.control.own_commands import SESSION_GROUPS, SessionControl, VersionInfo, VersionTriple
from qmpd.control.recorder import wire_entry
from qmpd.control.spelling import spell
from qmpd.monitor import envelope
from qmpd.monitor.defects import UNEXPECTED, reported, said
from qmpd.monitor.errors import CommandError
from qmpd.monitor.session import Session
from qmpd.wire import ParseError

if TYPE_CHECKING:
    from qmpd.control.interface import Interface
    from qmpd.control.performance import Steps
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.monitor.entry import Entry
    from qmpd.qapi.refusals import Wordings

NEGOTIATION_REQUIRED = "Expecting capabilities negotiation with 'qmp_capabilities'"
PACKAGE = "qmpd control socket"


@dataclass(slots=True)
class _Request:
    """A request that is being executed, and the steps that it still takes."""

    session: Session
    message: object
    steps: Steps[object]


class ControlDispatcher:
    """The control sessions of one machine.  `unsent` is shared with the machine's own dispatcher.

    `session_groups`: the commands that are about the client's own session.
    """

    session_groups: ClassVar[dict[str, type[SessionControl]]] = SESSION_GROUPS

    __slots__ = (
        "_followers",
        "commands",
        "json_parser",
        "negotiation_commands",
        "puppeteer",
        "ready",
        "sessions",
        "unfinished",
        "unsent",
    )

    def __init__(self, puppeteer: Puppeteer) -> None:
        dispatcher = puppeteer.host.dispatcher
        self.puppeteer = puppeteer
        self.unsent: list[Session] = dispatcher.unsent
        self.ready: list[Session] = []
        self.sessions: dict[Session, None] = {}
        # Requests that take long; others have their turn in between.
        self.unfinished: list[_Request] = []
        self._followers: dict[Session, None] = {}
        self.json_parser: str = dispatcher.json_parser
        # A session looks its commands up in `interface`; these are what it has to have.
        self.commands: dict[str, Entry | None] = {}
        self.negotiation_commands: dict[str, Entry | None] = {}

    @property
    def words(self) -> Wordings:
        """How refusals are told."""
        return self.puppeteer.release.refusals

    @property
    def interface(self) -> Interface:
        """The commands, made when the first is executed."""
        from qmpd.control.whole import interface

        return interface()

    @property
    def version(self) -> VersionInfo:
        """What the greeting says."""
        return VersionInfo(VersionTriple(*self.puppeteer.release.version), PACKAGE)

    def open_session(self, label: str = "control", pretty: bool = False) -> Session:
        """A new client: it is greeted at once."""
        from qmpd.control.values import to_wire

        session = self.new_session(label, pretty)
        self._send(session, {"QMP": {"version": to_wire(self.version), "capabilities": []}})
        return session

    def add(self, session: Session) -> None:
        """Have a session among the others."""
        self.sessions[session] = None

    def new_session(self, label: str, pretty: bool) -> Session:
        """A client that has been greeted elsewhere."""
        session = Session(self, label=label, pretty=pretty)
        self.sessions[session] = None
        return session

    def close_session(self, session: Session) -> None:
        """Forget a client."""
        self.follow(session, False)
        self.sessions.pop(session, None)
        session.withdraw()

    def follow(self, session: Session, enable: bool) -> None:
        """Send the transcript's entries to this client, or no longer."""
        recorder = self.puppeteer.recorder
        if enable:
            self._followers[session] = None
            recorder.follow(self._tell)
        else:
            self._followers.pop(session, None)
            if not self._followers:
                recorder.unfollow(self._tell)

    def follows(self, session: Session) -> bool:
        """Whether the transcript's entries are sent to this client."""
        return session in self._followers

    def tell_all(self, session: Session) -> None:
        """Send all entries that are kept."""
        for kept in self.puppeteer.recorder.entries():
            self._send(session, _entry_event(wire_entry(kept)))

    def _tell(self, entry: dict[str, Any]) -> None:
        for session in self._followers:
            self._send(session, _entry_event(entry))

    @property
    def busy(self) -> bool:
        """Whether there is a request to execute, or to go on with."""
        return bool(self.ready or self.unfinished)

    def run_requests(self) -> None:
        """Execute the requests that wait; one that takes long is gone on with the next time."""
        unfinished, self.unfinished = self.unfinished, []
        for request in unfinished:
            self._go_on(request)
        ready = self.ready
        while ready:
            session = ready.pop(0)
            if session.congested:
                session.park()
            elif session.queue:
                # It stays in the queue until it is answered: so it is known that the client is owed something.
                message = session.queue[0]
                self._go_on(_Request(session, message, self._answer(session, message)))
            else:
                session.scheduled = False
        if self.unfinished:
            self.puppeteer.host.wake_later()

    def execute_out_of_band(self, session: Session, message: object) -> None:
        """Take a request that would overtake the others: here it waits with them, and is refused in its turn."""
        session.queue.append(message)

    def _go_on(self, request: _Request) -> None:
        """Take the next step of a request; after the last one answer it."""
        reply = self._reply(request)
        if reply is None:
            self.unfinished.append(request)
            return
        session = request.session
        if session.ended:
            return
        session.queue.popleft()
        session.send(reply)
        session.refill()
        if session.queue:
            self.ready.append(session)
        else:
            session.scheduled = False

    def _reply(self, request: _Request) -> bytes | None:
        """The reply to a request whose next step is taken here; None where there are more."""
        from qmpd.control.values import to_wire

        error_class = "GenericError"
        try:
            next(request.steps)
            return None
        except StopIteration as end:
            try:
                return self._spell(request.session, _identified(request, {"return": to_wire(end.value)}))
            except UNEXPECTED as error:
                description = self._defect(error)
        except Refusal as error:
            error_class, description = self.words.error_class(error), self.words.message(error)
        except ControlError as error:
            description = error.message
        except UNEXPECTED as error:
            description = self._defect(error)
        return self._spell(
            request.session, _identified(request, {"error": {"class": error_class, "desc": description}})
        )

    def _defect(self, error: BaseException) -> str:
        """What to say of a command that qmpd itself failed at; standard error is told more."""
        self._report(reported(error))
        return said(error)

    def _report(self, text: str) -> None:
        self.puppeteer.host.system.report_defect(text)

    def _answer(self, session: Session, message: object) -> Steps[object]:
        if isinstance(message, ParseError):
            raise CommandError(message.message)
        name, arguments = envelope.check(message, False)
        if not session.negotiated and name != "qmp_capabilities":
            raise CommandError(NEGOTIATION_REQUIRED, "CommandNotFound")
        found = self.interface.commands.get(name)
        if found is None:
            raise CommandError(f"The command {name} has not been found", "CommandNotFound")
        found.check(arguments)
        of_session = self.session_groups.get(found.group)
        if of_session is None:
            group = getattr(self.puppeteer, found.group)
        else:
            group = of_session(self.puppeteer, self, session)
        return (yield from self.puppeteer.steps(found.declaration, group, (), found.keywords(arguments)))

    def _send(self, session: Session, message: object) -> None:
        session.send(self._spell(session, message))

    @staticmethod
    def _spell(session: Session, message: object) -> bytes:
        return spell(message, pretty=session.pretty).encode() + b"\r\n"


def _identified(request: _Request, reply: dict[str, object]) -> dict[str, object]:
    """The reply, with the request's id where it has one."""
    if isinstance(request.message, dict) and "id" in request.message:
        reply["id"] = request.message["id"]
    return reply


def _entry_event(entry: dict[str, Any]) -> dict[str, object]:
    return {"timestamp": entry["timestamp"], "event": "TRANSCRIPT", "data": entry}
