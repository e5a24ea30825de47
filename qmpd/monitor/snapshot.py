"""The monitors of a machine as plain data, for a process that takes them over in the middle of their work.

Requests are kept as the decoder gave them, bytes owed to clients as they are.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qmpd.wire import Decoder, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session, SessionDispatcher

PARSE_ERROR = "parse error"
STRAY = "stray"


def take(dispatcher: Dispatcher) -> dict[str, object]:
    """What the monitors share; the sessions are taken one by one with `take_session`, the machine by itself."""
    return {"limiter": dispatcher.limiter.snapshot()}


def put(dispatcher: Dispatcher, state: Mapping[str, Any]) -> None:
    """Make a new dispatcher what `take` made `state` of.

    :raise KeyError, ValueError: the state is not one that `take` made.
    """
    dispatcher.limiter.restore(state["limiter"])


def take_session(session: Session) -> dict[str, Any]:
    """One client: what it has negotiated, what of its input waits, and what it is owed."""
    return {
        "label": session.label,
        "pretty": session.pretty,
        "negotiated": session.negotiated,
        "out_of_band": session.out_of_band,
        "decoder": session.decoder.snapshot(),
        # A request that is being executed has done nothing yet, and is executed again.
        "queue": _plain(session.queue if session.deferred is None else [session.deferred, *session.queue]),
        "backlog": _plain(session.backlog()) if session.backlog() else None,
        "outgoing": b"".join(session.outgoing),
    }


def put_session(dispatcher: SessionDispatcher, state: Mapping[str, Any]) -> Session:
    """The session that `take_session` made `state` of, among those of `dispatcher`; it is not greeted again.

    :raise KeyError: the state is not one that `take_session` made.
    """
    session = dispatcher.new_session(state["label"], state["pretty"])
    if state["negotiated"]:
        session.negotiate(state["out_of_band"])
    session.decoder = Decoder.restore(state["decoder"])
    session.queue.extend(_messages(state["queue"]))
    if state["backlog"] is not None:
        session._backlog = deque(_messages(state["backlog"]))
    if state["outgoing"]:
        session.send(state["outgoing"])
    return session


def _plain(messages: Iterable[object]) -> list[object]:
    """Requests are dictionaries, which stand for themselves; anything else is wrapped in a list."""
    return [
        message
        if type(message) is dict
        else [STRAY if message.stray else PARSE_ERROR, message.message]
        if isinstance(message, ParseError)
        else ["value", message]
        for message in messages
    ]


def _messages(plain: list[object]) -> Iterable[object]:
    for message in plain:
        if type(message) is not list:
            yield message
        else:
            kind, value = message
            yield ParseError(value, stray=kind == STRAY) if kind in (PARSE_ERROR, STRAY) else value
