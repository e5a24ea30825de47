"""QAPI module `transaction`: several changes of disks that happen together, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.block.transactions import Abort, Alone
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.monitor.commands.bitmaps import ACTIONS as BITMAPS
from qmpd.monitor.commands.block_snapshots import internal_snapshot, new_overlay, overlay
from qmpd.monitor.commands.carrying import carried_out
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.jobs.transaction import JobTransaction
    from qmpd.block.transactions import Action, Steps
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_GROUPED = "grouped"
_JOBS = ("blockdev-backup", "drive-backup")
_ABORT = "abort"
_ACTIONS: dict[str, Callable[[System, Arguments], Action]] = {
    _ABORT: lambda system, data: Abort(),
    "blockdev-snapshot": overlay,
    "blockdev-snapshot-sync": new_overlay,
    "blockdev-snapshot-internal-sync": internal_snapshot,
    **BITMAPS,
}


class _NotGrouped(Alone):
    """An action that does not wait for others."""

    def __init__(self, name: str) -> None:
        self._name = name

    def prepare(self) -> Steps | None:
        """:raise Refusal: always."""
        raise _not_grouped(self._name)


def _not_grouped(name: str) -> Refusal:
    return Refusal("transaction-grouped", name=name, mode=_GROUPED)


@command("transaction")
def transaction(system: System, session: Client, arguments: Arguments) -> object:
    given = cast("list[Arguments]", arguments["actions"])
    properties = cast("Arguments", arguments.get("properties") or {})
    together = None
    if properties.get("completion-mode") == _GROUPED:
        from qmpd.block.jobs.transaction import JobTransaction

        together = JobTransaction()
        if system.release.behaviour.grouped_actions_checked_first:
            for each in given:
                if each["type"] not in _JOBS:
                    raise _not_grouped(str(each["type"]))
    return carried_out(system, [_action(system, each, together) for each in given], drains=True)


def _action(system: System, given: Arguments, together: JobTransaction | None) -> Action:
    kind, data = str(given["type"]), cast("Arguments", given["data"])
    if kind in _JOBS:
        from qmpd.monitor.commands import backups

        make_job = backups.backup if kind == "blockdev-backup" else backups.drive_backup
        return make_job(system, data, together)
    if together is not None and kind != _ABORT:
        return _NotGrouped(kind)
    make = _ACTIONS.get(kind)
    if make is None:
        raise NotModelled(f"the action {kind} of a transaction")
    return make(system, data)
