"""Commands of older releases' `migration`, whose parameters are set by `migrate-set-parameters` since."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.monitor.commands import migration
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_LONGEST = 2000
"""Seconds."""


@command("migrate_set_speed")
def migrate_set_speed(system: System, session: Client, arguments: Arguments) -> object:
    value = max(0, cast("int", arguments["value"]))
    return migration.migrate_set_parameters(system, session, {"max-bandwidth": value})


@command("migrate_set_downtime")
def migrate_set_downtime(system: System, session: Client, arguments: Arguments) -> object:
    seconds = cast("float", arguments["value"])
    if not 0 <= seconds <= _LONGEST:
        raise Refusal("downtime-seconds")
    return migration.migrate_set_parameters(system, session, {"downtime-limit": int(seconds * 1000)})


@command("migrate-set-cache-size")
def migrate_set_cache_size(system: System, session: Client, arguments: Arguments) -> object:
    return migration.migrate_set_parameters(system, session, {"xbzrle-cache-size": arguments["value"]})


@command("query-migrate-cache-size")
def query_migrate_cache_size(system: System, session: Client, arguments: Arguments) -> object:
    return cast("dict[str, object]", migration.query_migrate_parameters(system, session, {}))["xbzrle-cache-size"]
