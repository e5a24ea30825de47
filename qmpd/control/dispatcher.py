"""The control socket's monitors: QMP's framing and negotiation, with commands of its own.

A second dispatcher beside that of the machine's QMP sockets.  The machine's main loop runs it as well, also
while a fault keeps that loop from doing anything else.
"""

from __future__ import annotations

import enum
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.common.refusals import Refusal
from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.transcript import wire_entry
from qmpd.control.values import Verbatim
from qmpd.monitor import envelope
from qmpd.monitor.errors import CommandError
from qmpd.monitor.session import Session
from qmpd.wire import ParseError

if TYPE_CHECKING:
    from qmpd.control.interface import Interface
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.monitor.commands import Entry
    from qmpd.qapi.refusals import Wordings

NEGOTIATION_REQUIRED = "Expecting capabilities negotiation with 'qmp_capabilities'"
PACKAGE = "qmpd control socket"


class Capability(enum.StrEnum):
    """QMP's capabilities; this socket offers none."""

    OOB = "oob"


@dataclass(frozen=True, slots=True)
class VersionTriple:
    """A version of QEMU."""

    major: int
    minor: int
    micro: int


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """The release that the machine shows, and what kind of socket this is."""

    qemu: VersionTriple
    package: str


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """One command of this socket, and what it does."""

    name: str
    summary: str


class SessionControl(Group):
    """The commands that QMP itself has: negotiation, and what there is."""

    __slots__ = ("dispatcher", "session")

    def __init__(self, puppeteer: Puppeteer, dispatcher: ControlDispatcher, session: Session) -> None:
        super().__init__(puppeteer)
        self.dispatcher = dispatcher
        self.session = session

    @command("qmp_capabilities", silent=True)
    def capabilities(self, enable: list[Capability] | None = None) -> None:
        """Negotiate; the first command of every client."""
        if self.session.negotiated:
            raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        if enable:
            raise ControlError(f"Capability {enable[0]} is not offered")
        self.session.negotiate(False)

    @command("query-version")
    def query_version(self) -> VersionInfo:
        """Tell which release the machine shows."""
        return self.dispatcher.version

    @command("query-commands")
    def query_commands(self) -> list[CommandInfo]:
        """List the commands of this socket."""
        commands = self.dispatcher.interface.commands
        return [CommandInfo(name, each.declaration.summary) for name, each in commands.items()]

    @command("query-qmp-schema")
    def query_qmp_schema(self) -> list[Any]:
        """Give this socket's introspection, in the form of QMP's."""
        return Verbatim(self.dispatcher.interface.entries)


class Following(SessionControl):
    """What a client of a machine's control socket may ask for itself, beside that."""

    __slots__ = ()

    @command("transcript-follow", silent=True)
    def follow(self, enable: bool = True, from_start: bool = False) -> None:
        """Have each entry of the transcript sent to this client as an event TRANSCRIPT, or no more."""
        self.dispatcher.follow(self.session, enable)
        if enable and from_start:
            self.dispatcher.tell_all(self.session)


class ControlDispatcher:
    """The control sessions of one machine.  `unsent` is shared with the machine's own dispatcher.

    `session_groups`: the commands that are about the client's own session.
    """

    session_groups: ClassVar[dict[str, type[SessionControl]]] = {"session": SessionControl, "following": Following}

    __slots__ = (
        "_followers",
        "commands",
        "json_parser",
        "negotiation_commands",
        "puppeteer",
        "ready",
        "sessions",
        "unsent",
    )

    def __init__(self, puppeteer: Puppeteer) -> None:
        dispatcher = puppeteer.host.dispatcher
        self.puppeteer = puppeteer
        self.unsent: list[Session] = dispatcher.unsent
        self.ready: deque[Session] = deque()
        self.sessions: dict[Session, None] = {}
        self._followers: dict[Session, None] = {}
        self.json_parser: str = dispatcher.release.behaviour.json_parser
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
        from qmpd.control.interface import interface

        return interface()

    @property
    def version(self) -> VersionInfo:
        """What the greeting says."""
        return VersionInfo(VersionTriple(*self.puppeteer.host.dispatcher.release.version), PACKAGE)

    def open_session(self, label: str = "control", pretty: bool = False) -> Session:
        """A new client: it is greeted at once."""
        from qmpd.control.values import to_wire

        session = self.new_session(label, pretty)
        self._send(session, {"QMP": {"version": to_wire(self.version), "capabilities": []}})
        return session

    def new_session(self, label: str, pretty: bool) -> Session:
        """A client that has been greeted elsewhere."""
        session = Session(self, label=label, pretty=pretty)
        self.sessions[session] = None
        return session

    def close_session(self, session: Session) -> None:
        """Forget a client."""
        session.ended = True
        self.follow(session, False)
        self.sessions.pop(session, None)
        session.queue.clear()

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

    def run_requests(self) -> None:
        """Execute the requests that wait."""
        ready = self.ready
        while ready:
            session = ready.popleft()
            if session.queue:
                self._execute(session, session.queue.popleft())
                session.refill()
            if session.queue:
                ready.append(session)
            else:
                session.scheduled = False

    def execute_out_of_band(self, session: Session, message: object) -> None:
        """Refuse a request that would overtake the others: nothing of this socket waits."""
        self._execute(session, message)

    def _execute(self, session: Session, message: object) -> None:
        reply: dict[str, object]
        try:
            reply = {"return": self._answer(session, message)}
        except Refusal as error:
            words = self.words
            reply = {"error": {"class": words.error_class(error), "desc": words.message(error)}}
        except ControlError as error:
            reply = {"error": {"class": "GenericError", "desc": error.message}}
        if isinstance(message, dict) and "id" in message:
            reply["id"] = message["id"]
        self._send(session, reply)

    def _answer(self, session: Session, message: object) -> object:
        from qmpd.control.values import to_wire

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
        return to_wire(self.puppeteer.perform(found.declaration, group, (), found.keywords(arguments)))

    @staticmethod
    def _send(session: Session, message: object) -> None:
        # Members keep the order of their declaration here, unlike in QEMU.
        session.send(json.dumps(message, indent=4 if session.pretty else None).encode() + b"\r\n")


def _entry_event(entry: dict[str, Any]) -> dict[str, object]:
    return {"timestamp": entry["timestamp"], "event": "TRANSCRIPT", "data": entry}
