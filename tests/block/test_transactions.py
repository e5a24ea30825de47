"""Actions that are carried out together, in the order of QEMU, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qmpd.block.executor import AtOnce
from qmpd.block.images.errors import failure
from qmpd.block.transactions import Abort, run
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from qmpd.block.transactions import Steps


class Noted:
    """An action that tells what becomes of it; preparing it takes two pieces of work, the second may fail."""

    def __init__(self, name: str, told: list[str], *, fails: bool = False) -> None:
        self.name, self.told, self.fails = name, told, fails

    def prepare(self) -> Steps:
        found = yield lambda: f"{self.name} read"
        self.told.append(found)
        yield self._write

    def _write(self) -> None:
        if self.fails:
            raise failure(28)
        self.told.append(f"{self.name} written")

    def commit(self) -> Steps | None:
        self.told.append(f"{self.name} committed")
        return None

    def abort(self) -> Steps:
        yield lambda: self.told.append(f"{self.name} undone")


def _outcome(actions: list[Noted | Abort], *, backwards: bool = False) -> str:
    outcomes: list[Refusal | None] = []
    run(actions, AtOnce(), outcomes.append, backwards=backwards)
    (outcome,) = outcomes
    return "" if outcome is None else str(outcome)


@pytest.mark.parametrize("backwards", [False, True])
def test_all_are_prepared_and_then_committed_in_the_release_s_order(backwards: bool) -> None:
    told: list[str] = []
    assert _outcome([Noted("a", told), Noted("b", told)], backwards=backwards) == ""
    assert told[:4] == ["a read", "a written", "b read", "b written"]
    assert told[4:] == (["b committed", "a committed"] if backwards else ["a committed", "b committed"])


def test_one_that_cannot_be_prepared_undoes_those_before_it_alone() -> None:
    told: list[str] = []
    refused = _outcome([Noted("a", told), Noted("b", told, fails=True), Noted("c", told)])
    assert refused == "No space left on device"
    assert told == ["a read", "a written", "b read", "a undone"]


def test_the_action_that_fails_does() -> None:
    told: list[str] = []
    assert _outcome([Noted("a", told), Abort()]) == "Transaction aborted using Abort action"
    assert told[-1] == "a undone"
