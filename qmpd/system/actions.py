"""Replies to commands whose work is done by the executor: piece by piece, with the machine's part in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block import transactions
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.transactions import Action, Steps
    from qmpd.common.refusals import Refusal
    from qmpd.system.system import System


class Whole(transactions.Alone):
    """Pieces of work that nobody lists among others, as one action."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def prepare(self) -> Steps | None:
        """:raise Refusal: as the steps do."""
        return self._steps


def carried_out(system: System, action: Action, value: Callable[[], object]) -> object:
    """The reply to a command that is one action: `value`, once it is done.

    :raise Refusal: it cannot be done, and that shows at once.
    """
    ends: list[Refusal | None] = []

    def finish() -> object:
        if ends[0] is not None:
            raise ends[0]
        return value()

    later = Deferred(finish)

    def ended(refusal: Refusal | None) -> None:
        ends.append(refusal)
        later.ready()

    transactions.run([action], system.disks.executor, ended)
    return finish() if ends else later
