"""A session without sockets: what waits, what is owed, and what the dispatcher is told of it, compared with a second
writing of the rules for any sequence of what a client and a server do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qmpd.machine import Event, MachineSettings, VirtualClock
from qmpd.monitor import snapshot
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.monitor.entry import Entry
from qmpd.monitor.events import event_value
from qmpd.monitor.session import QUEUE_LIMIT, Session
from qmpd.qapi import load_release
from qmpd.system.deferred import Deferred
from qmpd.system.system import System
from qmpd.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ENABLE = b', "arguments": {"enable": ["oob"]}'


def dispatcher_of(release: str = "11.1") -> Dispatcher:
    system = System(load_release(release), MachineSettings(machine_type="none"), VirtualClock(), lambda: None)
    system.machine.start()
    return Dispatcher(system)


def opened(dispatcher: Dispatcher, out_of_band: bool = False) -> Session:
    """A client that has negotiated, and is owed nothing."""
    session = dispatcher.open_session()
    session.receive(b'{"execute": "qmp_capabilities"%b}' % (ENABLE if out_of_band else b""))
    dispatcher.run_requests()
    sent(dispatcher, session)
    return session


def sent(dispatcher: Dispatcher, session: Session) -> bytes:
    """What is owed, as a server hands it out."""
    session.unsent = False
    dispatcher.unsent.clear()
    pieces = []
    while piece := session.take_outgoing():
        pieces.append(piece)
    return b"".join(pieces)


def request(number: int, urgent: bool = False, name: str = "query-name") -> bytes:
    if urgent:
        name = "migrate-pause"
    return b'{"%b": "%b", "id": %d}\n' % (b"exec-oob" if urgent else b"execute", name.encode(), number)


def identities(data: bytes) -> list[object]:
    return [json.loads(line)["id"] for line in data.splitlines()]


def numbers(messages: Iterable[object]) -> list[object]:
    return [message["id"] for message in messages if isinstance(message, dict)]


class AnySequence(RuleBasedStateMachine):
    """One client; `waits` and `unread` are what a second writing of the rules has of its requests."""

    @initialize(out_of_band=st.booleans())
    def open(self, out_of_band: bool) -> None:
        self.dispatcher = dispatcher_of()
        self.session = opened(self.dispatcher, out_of_band)
        self.out_of_band = out_of_band
        self.number = 0
        # Each request is its number and whether it may overtake.
        self.waits: list[tuple[int, bool]] = []
        self.unread: list[tuple[int, bool]] = []
        self.answered: list[int] = []
        self.parked = False

    @rule(urgent=st.lists(st.booleans(), min_size=1, max_size=12), plainly=st.booleans(), damaged=st.booleans())
    def receives(self, urgent: list[bool], plainly: bool, damaged: bool) -> None:
        come = [(self.number + count, each) for count, each in enumerate(urgent)]
        self.number += len(come)
        data = b"".join(request(number, each) for number, each in come)
        if plainly and not self.session.paused:
            if damaged:
                assert not self.session.receive_plain(b"]" + data)
            assert self.session.receive_plain(data)
        else:
            self.session.receive(data)
        if self.unread:
            self.unread += come
        else:
            self.admit(come)

    def admit(self, come: list[tuple[int, bool]]) -> None:
        while come:
            number, urgent = come[0]
            if self.out_of_band and len(self.waits) >= QUEUE_LIMIT:
                self.unread = come
                return
            if urgent and (self.out_of_band or not self.waits):
                self.answered.append(number)
            else:
                self.waits.append((number, urgent))
            come = come[1:]

    @rule(one=st.booleans())
    def executes(self, one: bool) -> None:
        """One request, or all there are."""
        left = self.dispatcher.run_requests(1 if one else 1 << 18)
        while left and not one:
            left = self.dispatcher.run_requests()
        assert left == bool(self.dispatcher.ready)
        if self.session.congested:
            self.parked = self.parked or bool(self.waits)
            return
        while self.waits:
            self.answered.append(self.waits.pop(0)[0])
            if self.out_of_band:
                unread, self.unread = self.unread, []
                self.admit(unread)
            if one:
                break

    @rule()
    def is_owed_much(self) -> None:
        self.session.congested = True

    @rule()
    def is_relieved(self) -> None:
        self.session.relieve()
        self.parked = False

    @rule(most=st.sampled_from([1, 60, 500, 1 << 20]))
    def is_sent(self, most: int) -> None:
        whole = b"".join(self.session.outgoing)
        self.session.unsent = False
        self.dispatcher.unsent.clear()
        pieces = []
        while self.session.outgoing:
            # No more messages than it takes, and whole ones.
            first, *others = self.session.outgoing
            expected = [first]
            for each in others:
                if sum(map(len, expected)) >= most:
                    break
                expected.append(each)
            pieces.append(self.session.take_outgoing(most))
            assert pieces[-1] == b"".join(expected)
            assert self.session.outgoing_size == sum(map(len, self.session.outgoing))
        assert b"".join(pieces) == whole
        assert identities(whole) == self.answered
        self.answered = []

    @invariant()
    def what_waits_is_known(self) -> None:
        session, dispatcher = self.session, self.dispatcher
        assert numbers(session.queue) == [number for number, _ in self.waits]
        assert numbers(session.backlog()) == [number for number, _ in self.unread]
        full = self.out_of_band and len(self.waits) >= QUEUE_LIMIT
        assert session.paused == (session.congested or bool(self.unread) or len(self.waits) >= QUEUE_LIMIT)
        assert full or not self.unread
        assert session.drained == (not self.waits and not self.unread)
        assert dispatcher.ready == ([session] if self.waits and not self.parked else [])

    @invariant()
    def what_is_owed_is_known(self) -> None:
        session, dispatcher = self.session, self.dispatcher
        assert session.outgoing_size == sum(map(len, session.outgoing))
        assert dispatcher.unsent.count(session) == int(bool(session.outgoing))

    def teardown(self) -> None:
        """The client leaves, whatever it had asked for and was owed."""
        if hasattr(self, "session"):
            self.dispatcher.close_session(self.session)
            self.session.drop_outgoing()
            self.waits, self.unread, self.parked = [], [], False
            self.session.congested = False
            self.what_waits_is_known()
            self.what_is_owed_is_known()


AnySequence.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
test_any_sequence = AnySequence.TestCase


def test_a_new_client_is_owed_its_greeting() -> None:
    dispatcher = dispatcher_of()
    session = dispatcher.open_session()
    assert dispatcher.unsent == [session]
    assert dispatcher.ready == []
    assert session.owner is None
    assert session.client is None
    assert sent(dispatcher, session).startswith(b'{"QMP": ')


def test_what_overtakes_where_it_was_not_negotiated() -> None:
    """Nothing waits, so there is nothing to overtake: it is refused at once, before the main loop has its turn."""
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    session.receive(request(1, urgent=True))
    assert dispatcher.ready == []
    reply = json.loads(sent(dispatcher, session))
    assert reply["error"]["desc"] == "QMP input member 'exec-oob' is unexpected"
    # One that waits, or is being executed, is waited for.
    session.receive(request(2))
    session.receive(request(3, urgent=True))
    assert sent(dispatcher, session) == b""
    dispatcher.run_requests()
    assert identities(sent(dispatcher, session)) == [2, 3]


@pytest.mark.parametrize("message", [
    b'{"execute": "query-name", "exec-oob": "query-name", "id": 1}', b'["exec-oob"]', b'"exec-oob"', b"17",
])  # fmt: skip
@pytest.mark.parametrize("out_of_band", [False, True])
def test_what_is_no_request_waits_like_one(message: bytes, out_of_band: bool) -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher, out_of_band)
    session.receive(message + b"\n")
    assert dispatcher.ready == [session]
    assert sent(dispatcher, session) == b""
    dispatcher.run_requests()
    assert b'"error"' in sent(dispatcher, session)


@pytest.mark.parametrize(("out_of_band", "before"), [(False, 0), (False, 20), (True, 0), (True, 3), (True, 12)])
def test_a_failure_to_read_is_told_in_its_place(out_of_band: bool, before: int) -> None:
    """The client may be in the middle of a message; what came before it is answered first."""
    dispatcher = dispatcher_of()
    session = opened(dispatcher, out_of_band)
    session.receive(b"".join(request(number) for number in range(before)) + b'{"execute": ')
    session.fail("it went wrong")
    while dispatcher.run_requests():
        pass
    *replies, failure = sent(dispatcher, session).splitlines()
    assert identities(b"\n".join(replies)) == list(range(before))
    assert json.loads(failure) == {"error": {"class": "GenericError", "desc": "it went wrong"}}
    assert session.drained
    # The half message is forgotten.
    session.receive(request(99))
    dispatcher.run_requests()
    assert identities(sent(dispatcher, session)) == [99]


@pytest.mark.parametrize("owed", [False, True])
def test_a_connection_that_is_severed_waits_to_be_closed(owed: bool) -> None:
    """Whoever hands out what is owed closes it; that a client was forgotten meanwhile changes nothing."""
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    other = opened(dispatcher)
    if owed:
        session.send(b"x")
    session.sever("a test wants it")
    session.sever("a test wants it")
    other.send(b"y")
    assert session.severed
    assert session.broken == "a test wants it"
    for each in (session, other):
        dispatcher.close_session(each)
    # Of the other one nothing is left.
    assert dispatcher.unsent == [session]
    assert list(dispatcher.sessions) == []


def test_requests_wait_while_too_much_is_owed() -> None:
    dispatcher = dispatcher_of()
    session, other = opened(dispatcher), opened(dispatcher)
    session.congested = True
    ready = []
    for number in range(3):
        session.receive(request(number))
        other.receive(request(number))
        dispatcher.run_requests()
        ready.append(list(dispatcher.ready))
    for _ in range(2):
        session.relieve()
        ready.append(list(dispatcher.ready))
    assert ready == [[], [], [], [session], [session]]
    assert not session.congested
    dispatcher.run_requests()
    session.relieve()
    assert dispatcher.ready == []
    assert identities(sent(dispatcher, session)) == identities(sent(dispatcher, other)) == [0, 1, 2]


def deferring(dispatcher: Dispatcher, session: Session, compute: Callable[[], object] = dict) -> list[Deferred]:
    """Have `query-uuid` of this client leave the main loop; the replies that are still to come."""
    entry, replies = dispatcher.commands["query-uuid"], list[Deferred]()
    assert entry is not None

    def leave(*_: object) -> Deferred:
        replies.append(Deferred(compute))
        return replies[-1]

    later = Entry("query-uuid", leave, entry.check, allow_oob=False, allow_preconfig=False)
    session.commands = {name: dispatcher.commands[name] for name in ("query-name", "migrate-pause")}
    session.commands["query-uuid"] = later
    return replies


def come(dispatcher: Dispatcher, reply: Deferred) -> None:
    """What a reply has waited for has come, and the main loop looks at it."""
    reply.ready()
    dispatcher.system.machine.schedule.run()


@pytest.mark.parametrize("out_of_band", [False, True])
def test_requests_wait_for_a_reply_that_comes_later(out_of_band: bool) -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher, out_of_band)
    replies = deferring(dispatcher, session)
    session.receive(request(0, name="query-uuid") + request(1))
    drained = [session.drained]
    dispatcher.run_requests()
    session.receive(request(2))
    assert not dispatcher.run_requests()
    assert dispatcher.ready == []
    drained.append(session.drained)
    assert sent(dispatcher, session) == b""
    come(dispatcher, replies[0])
    assert dispatcher.ready == [session]
    dispatcher.run_requests()
    assert identities(sent(dispatcher, session)) == [0, 1, 2]
    drained.append(session.drained)
    # Alone, too.
    session.receive(request(3, name="query-uuid"))
    dispatcher.run_requests()
    drained.append(session.drained)
    come(dispatcher, replies[1])
    drained.append(session.drained)
    assert identities(sent(dispatcher, session)) == [3]
    session.receive(request(4))
    dispatcher.run_requests()
    assert identities(sent(dispatcher, session)) == [4]
    assert drained == [False, False, True, False, True]


def test_a_process_that_takes_over_executes_what_is_being_executed() -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    replies = deferring(dispatcher, session)
    session.receive(request(0, name="query-uuid") + request(1))
    dispatcher.run_requests()
    assert numbers(snapshot.take_session(session)["queue"]) == [0, 1]
    assert replies[0].session is session
    assert replies[0].message == {"execute": "query-uuid", "id": 0}
    come(dispatcher, replies[0])
    assert snapshot.take_session(session)["queue"] == [{"execute": "query-name", "id": 1}]


def test_a_reply_that_comes_later_and_fails_is_told_to_who_asked(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    replies = deferring(dispatcher, session, lambda: 1 // 0)
    session.receive(request(5, name="query-uuid") + request(6))
    dispatcher.run_requests()
    come(dispatcher, replies[0])
    dispatcher.run_requests()
    failure, other = map(json.loads, sent(dispatcher, session).splitlines())
    assert (failure["id"], other["id"]) == (5, 6)
    assert "a defect of qmpd" in failure["error"]["desc"]


class Watcher:
    """Somebody who hangs on the dispatcher's points: what was executed, and what each reply belongs to."""

    def __init__(self) -> None:
        self.told: list[tuple[object, object]] = []

    def adopt(self, session: Session) -> Session:
        return session

    def opened(self, session: Session) -> None:
        self.told.append(("opened", session))

    def closed(self, session: Session) -> None:
        self.told.append(("closed", session))

    def executes(self, session: Session, message: object) -> bool:
        self.told += [("executes", each) for each in numbers([message])]
        return True

    def replies(self, session: Session, message: object, reply: bytes, *, in_band: bool) -> None:
        assert identities(reply) == numbers([message])
        self.told += [("in band" if in_band else "out of band", each) for each in numbers([message])]
        session.send(reply)


def test_whoever_watches_is_told_of_every_reply() -> None:
    dispatcher = dispatcher_of()
    dispatcher.points = watcher = Watcher()
    session = dispatcher.open_session()
    session.receive(b'{"execute": "qmp_capabilities", "id": 0%b}' % ENABLE)
    dispatcher.run_requests()
    replies = deferring(dispatcher, session)
    session.receive(request(1) + request(2, urgent=True) + request(3, name="query-uuid"))
    dispatcher.run_requests()
    come(dispatcher, replies[0])
    dispatcher.close_session(session)
    dispatcher.close_session(session)
    assert watcher.told == [
        ("opened", session), ("executes", 0), ("in band", 0), ("out of band", 2), ("executes", 1), ("in band", 1),
        ("executes", 3), ("in band", 3), ("closed", session), ("closed", session),
    ]  # fmt: skip


def test_what_overtakes_waits_like_others_where_nothing_can() -> None:
    dispatcher = dispatcher_of("2.x-live-update")
    session = opened(dispatcher)
    session.receive(request(1, urgent=True))
    assert sent(dispatcher, session) == b""
    dispatcher.run_requests()
    reply = json.loads(sent(dispatcher, session))
    assert (reply["error"]["class"], reply["id"]) == ("GenericError", 1)
    assert "'exec-oob'" in reply["error"]["desc"]


def test_events_and_commands_are_counted() -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    session.receive(request(0, name="stop") + request(1, name="cont"))
    dispatcher.run_requests()
    assert sent(dispatcher, session).count(b'"event"') == 2
    assert (dispatcher.emitted, dispatcher.executed) == (2, 3)


@pytest.mark.parametrize("waits", [False, True])
def test_a_reply_that_comes_after_its_client_has_left_goes_nowhere(waits: bool) -> None:
    dispatcher = dispatcher_of()
    session = opened(dispatcher)
    replies = deferring(dispatcher, session)
    session.receive(request(0, name="query-uuid") + request(1) * waits)
    dispatcher.run_requests()
    dispatcher.close_session(session)
    come(dispatcher, replies[0])
    assert (session.outgoing, dispatcher.unsent, dispatcher.ready) == ([], [], [])
    assert not dispatcher.run_requests()


def test_who_is_next_waits_where_enough_has_been_said() -> None:
    """Exactly so many bytes are enough."""
    dispatcher = dispatcher_of()
    first, second = opened(dispatcher), opened(dispatcher)
    first.receive(request(1))
    dispatcher.run_requests()
    size = len(sent(dispatcher, first))
    left = []
    for limit in (size, size + 1):
        first.receive(request(1))
        second.receive(request(1))
        left.append((dispatcher.run_requests(limit), list(dispatcher.ready)))
        dispatcher.run_requests()
    assert left == [(True, [second]), (False, [])]


@pytest.mark.parametrize("release", ["2.x-live-update", "11.1"])
def test_numbers_in_events_are_spelt_as_in_replies(release: str) -> None:
    dispatcher = dispatcher_of(release)
    session = opened(dispatcher)
    dispatcher.broadcast(Event("WATCHDOG", {"value": 0.1}, 1))
    assert sent(dispatcher, session).endswith(b'"data": ' + encode({"value": 0.1}, dispatcher.float_format) + b"}\r\n")


def test_who_has_not_negotiated_hears_nothing_and_keeps_nobody_from_hearing() -> None:
    dispatcher = dispatcher_of()
    silent, plain = dispatcher.open_session(), opened(dispatcher)
    wide = dispatcher.open_session(pretty=True)
    wide.receive(b'{"execute": "qmp_capabilities"}')
    dispatcher.run_requests()
    for each in (silent, wide):
        sent(dispatcher, each)
    event = Event("STOP", None, 1)
    dispatcher.broadcast(event)
    assert sent(dispatcher, silent) == b""
    heard = [sent(dispatcher, each) for each in (plain, wide)]
    assert [json.loads(each) for each in heard] == [event_value(event)] * 2
    assert heard[0].count(b"\n") == 1 < heard[1].count(b"\n")
