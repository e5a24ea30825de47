"""QAPI module `control`: negotiation, versions, the lists of what there is, and `quit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.machine import ShutdownCause
from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY, kept, version
from qmpd.wire import Encoded, encode

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("qmp_capabilities")
def qmp_capabilities(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """Negotiate (docs/interop/qmp-spec, "Capabilities Negotiation"); once only."""
    if session.negotiated:
        raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
    session.negotiate("oob" in cast("list[str]", arguments.get("enable", ())))
    return EMPTY


@command("query-version")
def query_version(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    return kept(dispatcher.release, "query-version", lambda: encode(version(dispatcher.release)))


@command("query-commands")
def query_commands(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    release = dispatcher.release
    return kept(release, "query-commands", lambda: encode([{"name": name} for name in release.commands]))


@command("query-events")
def query_events(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The list is built back to front."""
    release = dispatcher.release
    return kept(release, "query-events", lambda: encode([{"name": name} for name in reversed(list(release.events))]))


@command("query-qmp-schema")
def query_qmp_schema(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    return Encoded(dispatcher.release.introspection_reply)


@command("quit")
def quit_(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    dispatcher.machine.quit(ShutdownCause.HOST_QMP_QUIT)
    return EMPTY
