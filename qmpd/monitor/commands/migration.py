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
    """What is set is told by query-migrate-capabilities, and no more: nothing migrates here."""
    wanted = {each["capability"]: each["state"] for each in cast("list[dict[str, Any]]", arguments["capabilities"])}
    system.migration_capabilities = {**(system.migration_capabilities or {}), **wanted}
    return EMPTY


@command("query-migrate-capabilities")
def query_migrate_capabilities(system: System, session: Client, arguments: Arguments) -> object:
    """The release's list, with what was set since."""
    found = system.release.captured("query-migrate-capabilities", {}, system.settings.board.reference, {})
    if not isinstance(found, bytes):
        raise CommandError("qmpd does not know the capabilities of this release")
    states = system.migration_capabilities or {}
    return [
        {"capability": each["capability"], "state": states.get(each["capability"], each["state"])}
        for each in orjson.loads(found)
    ]


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
    if not (system.migration_capabilities or {}).get("postcopy-ram"):
        raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
    raise CommandError("Postcopy must be started after migration has been started")
