"""One machine's monitors: the sessions that talk to it, and the execution of what they ask.

Requests are taken from the sessions in turn, one from each, as QEMU's dispatcher does.  After each the
main loop takes its turn where something is pending, and the reply follows the turn, or goes before it in
the releases that did so (`Behaviour.reply_after_turn`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import Refusal
from qmpd.monitor import envelope
from qmpd.monitor.defects import UNEXPECTED, reported, said
from qmpd.monitor.errors import CommandError
from qmpd.monitor.events import RateLimiter, encode_event, event_value
from qmpd.monitor.pace import FEW, Pace
from qmpd.monitor.results import EMPTY, greeting
from qmpd.monitor.session import Session
from qmpd.monitor.table import command_tables
from qmpd.system.deferred import Deferred
from qmpd.wire import Encoded, ParseError, encode, encode_pretty

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor
    from qmpd.guest.agent.agent import Agent
    from qmpd.machine import Event
    from qmpd.monitor.agent import AgentDialect
    from qmpd.monitor.entry import Entry
    from qmpd.qapi import Release
    from qmpd.system.system import System

ENOUGH = 1 << 18
"""Bytes of replies that are made until they are handed out and the others have their turn."""

NO_ARGUMENTS: dict[str, object] = {}
NEGOTIATION_REQUIRED = "Expecting capabilities negotiation with 'qmp_capabilities'"


class Points(Protocol):
    """Somebody who hangs on the points of the dispatcher's work (`Dispatcher.points`); see `qmpd.control`."""

    def adopt(self, session: Session) -> Session:
        """A session has been made; the same object, as it is to be from now on."""

    def opened(self, session: Session) -> None:
        """A client is about to be greeted."""

    def closed(self, session: Session) -> None:
        """A client is being forgotten."""

    def executes(self, session: Session, message: object) -> bool:
        """A request is about to be executed; False where the main loop comes to a stop before."""

    def replies(self, session: Session, message: object, reply: bytes, *, in_band: bool) -> None:
        """A request has been executed: send its reply, or hold the session (`Session.held`) until that has gone out."""


# Whole replies without an id, by results in their spelling.  A result that is sent again and again is one object, and
# Python keeps its hash.
_whole_replies: dict[bytes, bytes] = {}
_WHOLE_REPLIES = 512
_WHOLE_REPLY_SIZE = 1024


def _whole_reply(result: Encoded) -> bytes:
    reply = b'{"return": %b}\r\n' % result
    if len(result) <= _WHOLE_REPLY_SIZE:
        if len(_whole_replies) >= _WHOLE_REPLIES:
            _whole_replies.clear()
        _whole_replies[result] = reply
    return reply


def _speak_as_agent(
    release: Release, agent: Agent, executor: Executor, send: Callable[[bytes, str], None]
) -> AgentDialect:
    from qmpd.monitor.agent import AgentDialect

    return AgentDialect(release, agent, executor, send)


class Dispatcher:
    """The monitors of one machine.

    `ready` holds the sessions with a request to execute, `unsent` those that bytes are owed to; whoever
    runs the machine's main loop empties both.  `wake` is called when there is something to do.
    """

    __slots__ = (
        "commands",
        "emitted",
        "executed",
        "first_events",
        "float_format",
        "json_parser",
        "limiter",
        "negotiation_commands",
        "points",
        "ready",
        "reply_after_turn",
        "sessions",
        "system",
        "unsent",
    )

    def __init__(self, system: System) -> None:
        behaviour = system.release.behaviour
        self.system = system
        self.commands: dict[str, Entry | None]
        self.negotiation_commands: dict[str, Entry | None]
        self.commands, self.negotiation_commands = command_tables(system.release)
        self.json_parser = behaviour.json_parser
        self.float_format = behaviour.float_format
        self.reply_after_turn = behaviour.reply_after_turn
        self.sessions: dict[Session, None] = {}
        # A list: an empty deque would be a fifth of what a machine takes that nobody talks to.
        self.ready: list[Session] = []
        self.unsent: list[Session] = []
        # How many commands were executed and events broadcast, for whoever keeps count.
        self.executed = 0
        self.emitted = 0
        # The events of the machine's start, for monitors that open once it is over; None where there are no such.
        self.first_events: list[Event] | None = None
        # Who hangs on the points of this work; None, almost always.
        self.points: Points | None = None
        self.limiter = RateLimiter(system.machine.schedule, self.broadcast)
        system.clients = self.sessions
        system.speak_as_agent = _speak_as_agent
        system.machine.deliver = self.limiter.offer

    # Sessions

    def open_session(self, label: str = "compat_monitor0", pretty: bool = False) -> Session:
        """A new client: it is greeted at once."""
        session = self.new_session(label, pretty)
        if self.points is not None:
            self.points.opened(session)
        session.send(self.greeting(session))
        return session

    def add(self, session: Session) -> None:
        """Have a session among the others."""
        self.sessions[session] = None

    def new_session(self, label: str, pretty: bool) -> Session:
        """A client that has been greeted elsewhere."""
        session = Session(self, label=label, pretty=pretty)
        if self.points is not None:
            session = self.points.adopt(session)
        self.sessions[session] = None
        return session

    def greeting(self, session: Session) -> bytes:
        """What a new client hears first."""
        return self.spell(session, greeting(self.system.release))

    def close_session(self, session: Session) -> None:
        """Forget a client: what it asked for and was not executed is dropped."""
        if self.points is not None:
            self.points.closed(session)
        self.sessions.pop(session, None)
        session.withdraw()
        if session.is_monitor:
            self.system.monitor_left()

    # Events

    def broadcast(self, event: Event) -> None:
        """Send an event to every session that has negotiated."""
        self.emitted += 1
        if self.first_events is not None:
            self.first_events.append(event)
        line: bytes | None = None
        pretty: bytes | None = None
        for session in self.sessions:
            if not session.negotiated:
                continue
            if session.pretty:
                if pretty is None:
                    pretty = self.spell_event(event, pretty=True)
                session.send(pretty)
            else:
                if line is None:
                    line = self.spell_event(event, pretty=False)
                session.send(line)

    def spell_event(self, event: Event, *, pretty: bool) -> bytes:
        """An event as a whole message."""
        if pretty:
            return encode_pretty(event_value(event), self.float_format) + b"\r\n"
        return encode_event(event, self.float_format) + b"\r\n"

    # Requests

    def run_requests(self, limit: int = ENOUGH) -> bool:
        """Execute requests that wait, one at least, until their replies have `limit` bytes or they have taken long.

        True where some are left.
        """
        ready, points = self.ready, self.points
        system, answer, reply_after_turn = self.system, self.answer, self.reply_after_turn
        machine = system.machine
        count = FEW
        pace: Pace | None = None
        while ready and system.exit_status is None:
            if limit <= 0:
                return True
            session = ready.pop(0)
            if session.congested:
                session.park()
                continue
            queue, send = session.queue, session.send
            while queue:
                message = queue.popleft()
                if points is not None:
                    if not points.executes(session, message):
                        queue.appendleft(message)
                        ready.insert(0, session)
                        return False
                    send = partial(points.replies, session, message, in_band=True)
                reply = answer(session, message)
                if reply is None:
                    break
                limit -= len(reply)
                if not machine.pending:
                    send(reply)
                elif reply_after_turn:
                    system.turn()
                    send(reply)
                else:
                    send(reply)
                    system.turn()
                if session.out_of_band:
                    session.refill()
                count -= 1
                if count <= 0 and (queue or ready):
                    if pace is None:
                        pace = Pace()
                    count = pace.look()
                    if not count:
                        limit = 0
                # A client that is alone keeps its turn.
                if ready or session.held or limit <= 0 or system.exit_status is not None:
                    break
            if session.held:
                continue  # it stays scheduled, so nothing makes it ready before the reply has gone out
            if queue:
                ready.append(session)
            else:
                session.scheduled = False
        return False

    def go_on(self, session: Session) -> None:
        """Go on with a session that was held, now that its reply has gone out."""
        session.held = False
        session.refill()
        if session.queue:
            self.ready.append(session)
        else:
            session.scheduled = False

    def _defer(self, session: Session, message: object, deferred: Deferred) -> None:
        """Hold a session until its reply is known."""
        session.held = True
        session.deferred = message
        deferred.bind(
            self.system.activities,
            session,
            message,
            lambda compute: self._finish(session, message, compute),
            lambda: session.ended,
        )

    def _finish(self, session: Session, message: object, compute: Callable[[], object]) -> None:
        """Execute the rest of a command whose reply comes later, and go on with its session."""
        try:
            value = compute()
            if isinstance(value, Deferred):
                self._defer(session, message, value)
                return
            reply = self._reply(session, {"return": value}, message)
        except Refusal as error:
            reply = self._refuse(session, message, error)
        except UNEXPECTED as error:
            reply = self._defect(session, message, error)
        session.deferred = None
        if session.ended:
            return
        session.held = False
        if self.points is not None:
            self.points.replies(session, message, reply, in_band=True)
        else:
            session.send(reply)
        if not session.held:
            self.go_on(session)

    def execute_out_of_band(self, session: Session, message: object) -> None:
        """Execute a request that overtakes the others; where there is no such thing it waits with them."""
        if not self.system.release.behaviour.out_of_band:
            session.queue.append(message)
            return
        reply = self.answer(session, message)
        if reply is None:
            return
        if self.points is not None:
            self.points.replies(session, message, reply, in_band=False)
        else:
            session.send(reply)

    def answer(self, session: Session, message: object) -> bytes | None:
        """Execute one request; the reply that is to be sent, None where it comes later."""
        arguments: object
        out_of_band = False
        self.executed += 1
        try:
            if type(message) is dict:
                name = message.get("execute")
                arguments = message.get("arguments", NO_ARGUMENTS)
                with_id = "id" in message
                if (
                    type(name) is not str
                    or type(arguments) is not dict
                    or len(message) != 1 + with_id + (arguments is not NO_ARGUMENTS)
                ):
                    name, arguments = envelope.check(message, session.out_of_band)
                    out_of_band = "exec-oob" in message
            elif isinstance(message, ParseError):
                with_id = False
                raise CommandError(self._parse_error(message))
            else:
                with_id = False
                name, arguments = envelope.check(message, session.out_of_band)
            entry = session.commands[name]
            if entry is None:
                raise CommandError(
                    f"The command {name} has not been found" if session.negotiated else NEGOTIATION_REQUIRED,
                    "CommandNotFound",
                )
            if out_of_band and not entry.allow_oob:
                raise CommandError(f"The command {name} does not support OOB")
            if self.system.machine.preconfig and not entry.allow_preconfig:
                raise CommandError(self.system.release.behaviour.preconfig_refusal.format(command=name))
            entry.check(arguments)
            value = entry.handler(self.system, session, arguments)
            if type(value) is Encoded and not session.pretty:
                if not with_id:
                    return _whole_replies.get(value) or _whole_reply(value)
                result: bytes = value
            elif type(value) is Deferred:
                self._defer(session, message, value)
                return None
            elif session.pretty:
                return self._reply(session, {"return": value}, message)
            else:
                result = encode(value, self.float_format)
            if with_id:
                identity = message["id"]  # type: ignore[index]
                if type(identity) is int:
                    return b'{"return": %b, "id": %d}\r\n' % (result, identity)
                return b'{"return": %b, "id": %b}\r\n' % (result, encode(identity, self.float_format))
            return b'{"return": %b}\r\n' % result
        except Refusal as error:
            return self._refuse(session, message, error)
        except UNEXPECTED as error:
            return self._defect(session, message, error)

    def _parse_error(self, error: ParseError) -> str:
        instead = self.system.release.behaviour.lexical_error
        return instead if instead and error.stray else error.message

    def _defect(self, session: Session, message: object, error: BaseException) -> bytes:
        """The reply to a command that qmpd itself failed at."""
        self.system.report_defect(reported(error))
        return self._error(session, message, "GenericError", said(error))

    def late_reply(self, session: Session, message: object, error: str | None) -> bytes:
        """The reply to a command that left the main loop (`Deferred`): an error, where there is one."""
        if error is not None:
            return self._error(session, message, "GenericError", error)
        return self._reply(session, {"return": EMPTY}, message)

    def _refuse(self, session: Session, message: object, refusal: Refusal) -> bytes:
        words = self.system.release.refusals
        return self._error(session, message, words.error_class(refusal), words.message(refusal))

    def _error(self, session: Session, message: object, error_class: str, description: str) -> bytes:
        return self._reply(session, {"error": {"class": error_class, "desc": description}}, message)

    def _reply(self, session: Session, reply: dict[str, object], message: object) -> bytes:
        if type(message) is dict and "id" in message:
            reply["id"] = message["id"]
        return self.spell(session, reply)

    def spell(self, session: Session, value: object) -> bytes:
        """`value` as a whole message to this client, line end included."""
        spell = encode_pretty if session.pretty else encode
        return spell(value, self.float_format) + b"\r\n"
