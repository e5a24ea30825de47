"""QAPI module `transaction`: several changes of disks that happen together, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.block.transactions import Abort
from qmpd.common.refusals import NotModelled
from qmpd.monitor.commands.bitmaps import ACTIONS as BITMAPS
from qmpd.monitor.commands.block_snapshots import internal_snapshot, new_overlay, overlay
from qmpd.monitor.commands.carrying import carried_out
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.transactions import Action
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_ACTIONS: dict[str, Callable[[System, Arguments], Action]] = {
    "abort": lambda system, data: Abort(),
    "blockdev-snapshot": overlay,
    "blockdev-snapshot-sync": new_overlay,
    "blockdev-snapshot-internal-sync": internal_snapshot,
    **BITMAPS,
}


@command("transaction")
def transaction(system: System, session: Client, arguments: Arguments) -> object:
    return carried_out(system, [_action(system, each) for each in cast("list[Arguments]", arguments["actions"])])


def _action(system: System, given: Mapping[str, object]) -> Action:
    kind, data = str(given["type"]), cast("Arguments", given["data"])
    make = _ACTIONS.get(kind)
    if make is None:
        raise NotModelled(f"the action {kind} of a transaction")
    return make(system, data)
