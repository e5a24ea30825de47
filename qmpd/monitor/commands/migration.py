"""QAPI module `migration`, as far as no migration is ever under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("migrate-pause")
def migrate_pause(system: System, session: Client, arguments: Arguments) -> object:
    raise CommandError(system.release.behaviour.migrate_pause_refusal)


@command("migrate-set-capabilities")
def migrate_set_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """What is set is told by query-migrate-capabilities."""
    wanted = {each["capability"]: each["state"] for each in cast("list[dict[str, Any]]", arguments["capabilities"])}
    system.migration_settings.set_capabilities(wanted, system.release.migration, _usual(system))
    return EMPTY


@command("query-migrate-capabilities")
def query_migrate_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """The release's list, with what was set since."""
    states = {} if system.migration is None else system.migration.capabilities
    return [
        {"capability": each["capability"], "state": states.get(each["capability"], each["state"])}
        for each in _captured(system, "query-migrate-capabilities")
    ]


@command("migrate-set-parameters")
def migrate_set_parameters(system: System, session: Client, arguments: Arguments) -> object:
    """What is set is told by query-migrate-parameters."""
    system.migration_settings.set_parameters(arguments, system.release.migration, _usual(system))
    return EMPTY


@command("query-migrate-parameters")
def query_migrate_parameters(system: System, session: Client, arguments: Arguments) -> object:
    """The release's own, with what was set since."""
    return {**_usual(system), **({} if system.migration is None else system.migration.parameters)}


def _usual(system: System) -> dict[str, Any]:
    """The release's own parameters; the last one first, as that is how they were put in."""
    return dict(reversed(_captured(system, "query-migrate-parameters").items()))


def _captured(system: System, name: str) -> Any:
    """What the release's program answered that nobody had told anything."""
    found = system.release.captured(name, {}, system.settings.board.reference, {})
    if not isinstance(found, bytes):
        raise CommandError(f"qmpd does not know what {name} answers in this release")
    return orjson.loads(found)


@command("migrate_cancel")
def migrate_cancel(system: System, session: Client, arguments: Arguments) -> object:
    """There is nothing to cancel, which QEMU takes for done."""
    return EMPTY


@command("migrate-recover")
def migrate_recover(system: System, session: Client, arguments: Arguments) -> object:
    raise CommandError("Migrate recover can only be run when postcopy is paused.")


@command("migrate-continue")
def migrate_continue(system: System, session: Client, arguments: Arguments) -> object:
    if arguments["state"] != "none":
        raise CommandError("Migration not in expected state: none")
    return EMPTY


@command("migrate-start-postcopy")
def migrate_start_postcopy(system: System, session: Client, arguments: Arguments) -> object:
    if system.migration is None or not system.migration.capabilities.get("postcopy-ram"):
        raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
    raise CommandError("Postcopy must be started after migration has been started")
