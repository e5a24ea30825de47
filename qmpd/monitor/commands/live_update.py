"""The commands of the live-update line (`schemas/live-update/`): live update, reboot-reset and sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.machine.live_update import UpdateStage
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.live_update import Updater
    from qmpd.system.system import System

PREPARE_TIMEOUT = 10_000
"""Milliseconds in which a child has to become ready, where `live-update-prepare` does not say."""

COMMIT_TIMEOUT = 2_000
"""Milliseconds in which a child has to take over, where `live-update-commit` does not say."""

LONGEST_PREPARE, LONGEST_COMMIT = 3_600_000, 60_000
"""Milliseconds that may be asked for: the machine stands still while a child takes over."""


def _updater(system: System) -> Updater:
    if system.updater is None:
        raise CommandError("This machine shares its process: it cannot be updated alone")
    return system.updater


def _seconds(arguments: Arguments, unsaid: int, longest: int) -> float:
    milliseconds = cast("int", arguments.get("timeout", unsaid))
    if not 1 <= milliseconds <= longest:
        raise CommandError(f"Parameter 'timeout' expects a number of milliseconds from 1 to {longest}")
    return milliseconds / 1000


@command("live-update-prepare")
def live_update_prepare(system: System, session: Client, arguments: Arguments) -> object:
    program = cast("str | None", arguments.get("program"))
    _updater(system).prepare(program, _seconds(arguments, PREPARE_TIMEOUT, LONGEST_PREPARE))
    return EMPTY


@command("live-update-query")
def live_update_query(system: System, session: Client, arguments: Arguments) -> object:
    updater = system.updater
    if updater is None:
        return {"stage": str(UpdateStage.NONE)}
    update = updater.update
    result: dict[str, object] = {"stage": str(update.stage)}
    if update.reason:
        result["reason"] = update.reason
    if updater.child is not None:
        result["child"] = updater.child
    return result


@command("live-update-commit")
def live_update_commit(system: System, session: Client, arguments: Arguments) -> object:
    """The child replies, once it has taken over; the parent, where it could not."""
    updater = _updater(system)
    if not updater.update.allows("commit"):
        raise CommandError("There is no child that is ready to take over")
    deferred = Deferred(lambda: EMPTY)
    updater.commit(_seconds(arguments, COMMIT_TIMEOUT, LONGEST_COMMIT), deferred)
    return deferred


@command("live-update-cancel")
def live_update_cancel(system: System, session: Client, arguments: Arguments) -> object:
    _updater(system).cancel()
    return EMPTY


@command("set-reboot-reset")
def set_reboot_reset(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.reboot_reset = cast("bool", arguments["enable"])
    return EMPTY


@command("query-reboot-reset")
def query_reboot_reset(system: System, session: Client, arguments: Arguments) -> object:
    machine = system.machine
    result: dict[str, object] = {"enabled": machine.reboot_reset}
    if machine.requests.reset_time is not None:
        seconds, microseconds = divmod(machine.requests.reset_time, 1_000_000)
        result["reset-time"] = {"seconds": seconds, "microseconds": microseconds}
    return result


@command("system_sleep")
def system_sleep(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.system_sleep()
    return EMPTY
