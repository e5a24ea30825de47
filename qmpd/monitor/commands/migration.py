"""QAPI module `migration`: what commands ask of a machine's migrations (`qmpd.system.migrations`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.qapi.introspection import Object
from qmpd.schedule.activity import VerbRefused
from qmpd.system import machine_state

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _monitor(session: Client | None) -> str:
    """Whose open files may be meant: a line of the human monitor that stands alone has none."""
    return "" if session is None else session.label


@command("migrate")
def migrate(system: System, session: Client, arguments: Arguments) -> object:
    system.migrations.migrate(arguments, _monitor(session))
    return EMPTY


@command("migrate-incoming")
def migrate_incoming(system: System, session: Client, arguments: Arguments) -> object:
    system.migrations.migrate_incoming(arguments, _monitor(session))
    return EMPTY


@command("query-migrate")
def query_migrate(system: System, session: Client, arguments: Arguments) -> object:
    found = system.migrations.query()
    hindering = hinderances(system)
    return {**found, "blocked-reasons": hindering} if hindering else found


def hinderances(system: System) -> list[str]:
    """Why the machine cannot go anywhere, the newest reason first; older releases tell of none."""
    known = system.release.introspection
    told = known.type(known.command("query-migrate").returns)
    assert isinstance(told, Object)
    if all(each.name != "blocked-reasons" for each in told.members):
        return []
    return [f"non-migratable device: {each}" for each in reversed(machine_state.hindering(system))]


@command("migrate_cancel")
def migrate_cancel(system: System, session: Client, arguments: Arguments) -> object:
    """Where there is nothing to cancel that counts as done."""
    system.migrations.cancel()
    return EMPTY


@command("migrate-continue")
def migrate_continue(system: System, session: Client, arguments: Arguments) -> object:
    system.migrations.go_on(cast("str", arguments["state"]))
    return EMPTY


@command("migrate-start-postcopy")
def migrate_start_postcopy(system: System, session: Client, arguments: Arguments) -> object:
    system.migrations.start_postcopy()
    return EMPTY


@command("migrate-pause")
def migrate_pause(system: System, session: Client, arguments: Arguments) -> object:
    try:
        system.migrations.pause()
    except VerbRefused:
        raise CommandError(system.release.behaviour.migrate_pause_refusal) from None
    return EMPTY


@command("migrate-recover")
def migrate_recover(system: System, session: Client, arguments: Arguments) -> object:
    system.migrations.recover(cast("str", arguments["uri"]), _monitor(session))
    return EMPTY


@command("migrate-set-capabilities")
def migrate_set_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """What is set is told by query-migrate-capabilities."""
    wanted = {each["capability"]: each["state"] for each in cast("list[dict[str, Any]]", arguments["capabilities"])}
    system.migrations.set_capabilities(wanted)
    return EMPTY


@command("query-migrate-capabilities")
def query_migrate_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """The release's list, with what was set since."""
    return system.migrations.capabilities


@command("migrate-set-parameters")
def migrate_set_parameters(system: System, session: Client, arguments: Arguments) -> object:
    """What is set is told by query-migrate-parameters."""
    system.migrations.set_parameters(arguments)
    return EMPTY


@command("query-migrate-parameters")
def query_migrate_parameters(system: System, session: Client, arguments: Arguments) -> object:
    """The release's own, with what was set since."""
    return system.migrations.parameters
