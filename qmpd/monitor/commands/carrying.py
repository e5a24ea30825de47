"""The replies to commands that change disks, alone or together (`qmpd.block.transactions`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.transactions import run
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.block.transactions import Action
    from qmpd.common.refusals import Refusal
    from qmpd.system.system import System


def carried_out(
    system: System, actions: Sequence[Action], value: Callable[[], object] = lambda: EMPTY, *, drains: bool = False
) -> object:
    """Carry these out together; the reply is `value` then, at once where the disks need not be waited for.

    `drains`: all that goes on at the disks ends or pauses for a moment before.

    :raise Refusal: one of them is refused.
    """
    ends: list[Refusal | None] = []

    def finish() -> object:
        (refusal,) = ends
        if refusal is not None:
            raise refusal
        return value()

    later = Deferred(finish)

    def end(refusal: Refusal | None) -> None:
        ends.append(refusal)
        later.ready()

    if drains:
        system.inventory.backends.block.drain_all()
    run(actions, system.disks.executor, end, backwards=system.release.behaviour.transactions_end_backwards)
    return finish() if ends else later
