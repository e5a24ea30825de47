"""QAPI module `migration`, as far as no migration is ever under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.wire import Encoded

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("migrate-pause")
def migrate_pause(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    raise CommandError(dispatcher.release.behaviour.migrate_pause_refusal)


@command("migrate-set-capabilities")
def migrate_set_capabilities(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """What is set is told by query-migrate-capabilities, and no more: nothing migrates here."""
    wanted = {each["capability"]: each["state"] for each in cast("list[dict[str, Any]]", arguments["capabilities"])}
    dispatcher.migration_capabilities = {**(dispatcher.migration_capabilities or {}), **wanted}
    return EMPTY


@command("query-migrate-capabilities")
def query_migrate_capabilities(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The release's list, with what was set since."""
    found = dispatcher.release.captured("query-migrate-capabilities", {}, dispatcher.settings.machine_type, {})
    if not isinstance(found, bytes):
        raise CommandError("qmpd does not know the capabilities of this release")
    if dispatcher.migration_capabilities is None:
        return Encoded(found)
    states = dispatcher.migration_capabilities
    return [
        {"capability": each["capability"], "state": states.get(each["capability"], each["state"])}
        for each in orjson.loads(found)
    ]


@command("migrate_cancel")
def migrate_cancel(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """There is nothing to cancel, which QEMU takes for done."""
    return EMPTY


@command("migrate-recover")
def migrate_recover(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    raise CommandError("Migrate recover can only be run when postcopy is paused.")


@command("migrate-continue")
def migrate_continue(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    if arguments["state"] != "none":
        raise CommandError("Migration not in expected state: none")
    return EMPTY


@command("migrate-start-postcopy")
def migrate_start_postcopy(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    if not (dispatcher.migration_capabilities or {}).get("postcopy-ram"):
        raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
    raise CommandError("Postcopy must be started after migration has been started")
