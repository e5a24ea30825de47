"""The commands of the live-update line (`schemas/live-update/`): live update, reboot-reset and sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.machine.live_update import UpdateStage
from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError, HandOver
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.live_update import Parent
    from qmpd.monitor.session import Session

PREPARE_TIMEOUT = 10_000
"""Milliseconds in which a child has to become ready, where `live-update-prepare` does not say."""

COMMIT_TIMEOUT = 2_000
"""Milliseconds in which a child has to take over, where `live-update-commit` does not say."""

LONGEST_PREPARE, LONGEST_COMMIT = 3_600_000, 60_000
"""Milliseconds that may be asked for: the machine stands still while a child takes over."""


def _parent(dispatcher: Dispatcher) -> Parent:
    if dispatcher.parent is None:
        raise CommandError("This machine shares its process: it cannot be updated alone")
    return dispatcher.parent


def _seconds(arguments: Arguments, unsaid: int, longest: int) -> float:
    milliseconds = cast("int", arguments.get("timeout", unsaid))
    if not 1 <= milliseconds <= longest:
        raise CommandError(f"Parameter 'timeout' expects a number of milliseconds from 1 to {longest}")
    return milliseconds / 1000


@command("live-update-prepare")
def live_update_prepare(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    program = cast("str | None", arguments.get("program"))
    _parent(dispatcher).prepare(program, _seconds(arguments, PREPARE_TIMEOUT, LONGEST_PREPARE))
    return EMPTY


@command("live-update-query")
def live_update_query(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    parent = dispatcher.parent
    if parent is None:
        return {"stage": str(UpdateStage.NONE)}
    update = parent.update
    result: dict[str, object] = {"stage": str(update.stage)}
    if update.reason:
        result["reason"] = update.reason
    if parent.child is not None:
        result["child"] = parent.child
    return result


@command("live-update-commit")
def live_update_commit(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The child replies, once it has taken over; the parent, where it could not."""
    if _parent(dispatcher).update.stage is not UpdateStage.PARENT_CHILD_READY:
        raise CommandError("There is no child that is ready to take over")
    raise HandOver(session, _seconds(arguments, COMMIT_TIMEOUT, LONGEST_COMMIT))


@command("live-update-cancel")
def live_update_cancel(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    _parent(dispatcher).cancel()
    return EMPTY


@command("set-reboot-reset")
def set_reboot_reset(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    dispatcher.machine.reboot_reset = cast("bool", arguments["enable"])
    return EMPTY


@command("query-reboot-reset")
def query_reboot_reset(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    machine = dispatcher.machine
    result: dict[str, object] = {"enabled": machine.reboot_reset}
    if machine.requests.reset_time is not None:
        seconds, microseconds = divmod(machine.requests.reset_time, 1_000_000)
        result["reset-time"] = {"seconds": seconds, "microseconds": microseconds}
    return result


@command("system_sleep")
def system_sleep(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    dispatcher.machine.system_sleep()
    return EMPTY
