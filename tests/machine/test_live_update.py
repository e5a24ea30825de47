"""The stages of a live update."""

from __future__ import annotations

import pytest

from qmpd.machine import InvalidTransition
from qmpd.machine.live_update import STAGE_TRANSITIONS, LiveUpdate, UpdateStage
from tests.machine.conftest import Build

STAGES = list(UpdateStage)


def test_the_table_names_every_stage_and_leads_back_to_none() -> None:
    assert set(STAGE_TRANSITIONS) == set(UpdateStage)
    leads_back = {UpdateStage.NONE}
    for _ in STAGES:
        leads_back |= {stage for stage, followers in STAGE_TRANSITIONS.items() if followers & leads_back}
    assert leads_back == set(UpdateStage)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("following", STAGES)
def test_only_the_tables_transitions_are_taken(bench: Build, stage: UpdateStage, following: UpdateStage) -> None:
    update = LiveUpdate(bench(machine_type="none").machine)
    update.state = stage
    if following in STAGE_TRANSITIONS[stage]:
        update.enter(following)
        assert (update.stage, update.reason) == (following, "")
    else:
        with pytest.raises(InvalidTransition, match=f"'{stage}' -> '{following}'"):
            update.enter(following)
        assert update.stage is stage


def test_each_turn_asks_until_the_clone_is_complete_and_one_tells(bench: Build) -> None:
    vm = bench(machine_type="none")
    vm.take()
    asked = 0
    complete = False

    def is_complete() -> bool:
        nonlocal asked
        asked += 1
        return complete

    update = LiveUpdate(vm.machine)
    update.prepare(is_complete)
    for _ in range(3):
        vm.machine.notify()
        vm.turns()
    assert (asked, vm.take(), update.stage) == (3, [], UpdateStage.PARENT_PREPARE)
    complete = True
    vm.machine.notify()
    vm.turns()
    assert (asked, vm.events, vm.data, update.stage) == (4, ["INIT_COMPLETE"], [None], UpdateStage.PARENT_CHILD_READY)
    vm.take()
    vm.machine.notify()
    vm.turns()
    assert (asked, vm.take()) == (4, [])


def test_init_complete_comes_before_what_the_same_turn_serves(bench: Build) -> None:
    vm = bench(machine_type="none")
    vm.take()
    update = LiveUpdate(vm.machine)
    update.prepare(lambda: True)
    vm.machine.system_reset()
    vm.turns()
    assert vm.take() == ["INIT_COMPLETE", "RESET"]


@pytest.mark.parametrize("stage", [UpdateStage.FAILED, UpdateStage.CANCELLED])
def test_a_failed_or_cancelled_preparation_is_asked_no_more(bench: Build, stage: UpdateStage) -> None:
    vm = bench(machine_type="none")
    vm.take()
    update = LiveUpdate(vm.machine)
    update.prepare(lambda: True)
    update.enter(stage)
    vm.machine.notify()
    vm.turns()
    assert (vm.take(), update.stage) == ([], stage)


def test_after_a_failure_the_next_one_may_begin(bench: Build) -> None:
    update = LiveUpdate(bench(machine_type="none").machine)
    update.prepare(lambda: False)
    update.fail("the child is gone")
    assert (update.stage, update.reason) == (UpdateStage.FAILED, "the child is gone")
    update.prepare(lambda: False)
    assert (update.stage, update.reason) == (UpdateStage.PARENT_PREPARE, "")
    with pytest.raises(InvalidTransition):
        update.prepare(lambda: False)
