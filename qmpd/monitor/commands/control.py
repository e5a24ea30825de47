"""QAPI module `control`: negotiation, versions, the lists of what there is, and `quit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.machine import ShutdownCause
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY, kept, version
from qmpd.wire import Encoded, encode

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("qmp_capabilities")
def qmp_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """Negotiate (docs/interop/qmp-spec, "Capabilities Negotiation"); once only."""
    if session.negotiated:
        raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
    session.negotiate("oob" in cast("list[str]", arguments.get("enable", ())))
    return EMPTY


@command("query-version")
def query_version(system: System, session: Client, arguments: Arguments) -> object:
    return kept(system.release, "query-version", lambda: encode(version(system.release)))


@command("query-commands")
def query_commands(system: System, session: Client, arguments: Arguments) -> object:
    release = system.release
    return kept(release, "query-commands", lambda: encode([{"name": name} for name in release.commands]))


@command("query-events")
def query_events(system: System, session: Client, arguments: Arguments) -> object:
    """The list is built back to front."""
    release = system.release
    return kept(release, "query-events", lambda: encode([{"name": name} for name in reversed(list(release.events))]))


@command("query-qmp-schema")
def query_qmp_schema(system: System, session: Client, arguments: Arguments) -> object:
    return Encoded(system.release.introspection_reply)


@command("quit")
def quit_(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.quit(ShutdownCause.HOST_QMP_QUIT)
    return EMPTY
