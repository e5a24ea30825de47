"""What a state diagram shows: states, and which may follow which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from qmpd.block.jobs.states import TRANSITIONS as JOB_TRANSITIONS
from qmpd.block.jobs.states import JobStatus
from qmpd.machine.live_update import ENDS, STAGE_TRANSITIONS, UpdateStage
from qmpd.machine.run_state import (
    LIVE,
    NEEDS_RESET,
    PRECONFIG_TRANSITIONS,
    SUSPENDED_TRANSITIONS,
    TRANSITIONS,
    RunState,
)
from qmpd.migration.states import ENDS as MIGRATION_ENDS
from qmpd.migration.states import TRANSITIONS as MIGRATION_TRANSITIONS
from qmpd.migration.states import MigrationStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from enum import StrEnum

_State = TypeVar("_State", bound="StrEnum")

POPULAR = 7
"""From as many transitions on a state's are told by its letter in the states that lead there, not by arrows."""


@dataclass(frozen=True, slots=True)
class Transition:
    """`target` may follow `source`; where `sometimes`, not always or not in every release."""

    source: str
    target: str
    sometimes: bool = False


@dataclass(slots=True)
class StateDiagram:
    """A diagram: its states in order, the transitions between them, and the states that it can begin in."""

    title: str
    states: list[str]
    transitions: list[Transition]
    initial: frozenset[str]
    final: frozenset[str] = frozenset()
    """The states in which it may end."""
    emphasis: dict[str, str] = field(default_factory=dict)
    """State -> `live` or `final`: which colour it has."""
    legend: list[tuple[str, str]] = field(default_factory=list)
    """`live`, `final` or `sometimes` -> what that says here."""

    def popular(self) -> dict[str, str]:
        """The states that so many others lead to that arrows would hide all else, each with its letter."""
        arrows = Counter(transition.target for transition in self.transitions)
        return {state: state[0].upper() for state in self.states if arrows[state] >= POPULAR}

    def arrows(self) -> list[Transition]:
        """The transitions that are drawn as arrows."""
        popular = self.popular()
        return [each for each in self.transitions if each.target not in popular]

    def letters(self, state: str) -> list[tuple[str, bool]]:
        """The popular states that `state` leads to, in the order of all states, each with whether only sometimes."""
        popular = self.popular()
        found = {each.target: each.sometimes for each in self.transitions if each.source == state}
        return [(target, found[target]) for target in popular if target in found]


def _transitions(
    table: Mapping[_State, Collection[_State]], states: Iterable[_State], *, sometimes: bool = False
) -> list[Transition]:
    """What a table of transitions says of these states, those that follow one in their own order."""
    shown = list(states)
    return [
        Transition(str(source), str(target), sometimes)
        for source, targets in table.items()
        for target in shown
        if target in targets
    ]


def run_states() -> StateDiagram:
    """The run states (`qmpd.machine.run_state`), with the transitions of all releases."""
    tables = ((TRANSITIONS, False), (PRECONFIG_TRANSITIONS, True), (SUSPENDED_TRANSITIONS, True))
    transitions = [each for table, sometimes in tables for each in _transitions(table, RunState, sometimes=sometimes)]
    return StateDiagram(
        title="Run states",
        states=[str(state) for state in RunState],
        transitions=transitions,
        initial=frozenset(map(str, (RunState.PRELAUNCH, RunState.INMIGRATE, RunState.PRECONFIG))),
        emphasis={**dict.fromkeys(map(str, LIVE), "live"), **dict.fromkeys(map(str, NEEDS_RESET), "final")},
        legend=[
            ("live", "the machine's time passes"),
            ("final", "only a reset helps"),
            ("sometimes", "in some releases"),
        ],
    )


def update_stages() -> StateDiagram:
    """The stages of a live update (`qmpd.machine.live_update`)."""
    return StateDiagram(
        title="Stages of a live update",
        states=[str(stage) for stage in UpdateStage],
        transitions=_transitions(STAGE_TRANSITIONS, UpdateStage),
        initial=frozenset({"none"}),
        final=frozenset(map(str, ENDS)),
        emphasis={"none": "live", "failed": "final", "cancelled": "final"},
        legend=[("live", "no update is under way"), ("final", "it came to nothing")],
    )


def job_states() -> StateDiagram:
    """The states of jobs (`qmpd.block.jobs.states`), but for the one before there is a job."""
    shown = [status for status in JobStatus if status is not JobStatus.UNDEFINED]
    return StateDiagram(
        title="States of a job",
        states=[str(status) for status in shown],
        transitions=[
            each
            for each in _transitions(JOB_TRANSITIONS, shown)
            if each.source != each.target and each.source != JobStatus.UNDEFINED
        ],
        initial=frozenset({str(JobStatus.CREATED)}),
        final=frozenset({str(JobStatus.NULL)}),
        emphasis={
            **dict.fromkeys(map(str, (JobStatus.RUNNING, JobStatus.READY)), "live"),
            str(JobStatus.ABORTING): "final",
        },
        legend=[("live", "it reads and writes"), ("final", "it has failed, or was cancelled")],
    )


def migration_states() -> StateDiagram:
    """The states of migrations (`qmpd.migration.states`)."""
    return StateDiagram(
        title="States of a migration",
        states=[str(status) for status in MigrationStatus],
        transitions=_transitions(MIGRATION_TRANSITIONS, MigrationStatus),
        initial=frozenset({str(MigrationStatus.NONE)}),
        final=frozenset(map(str, MIGRATION_ENDS)),
        emphasis={
            **dict.fromkeys(map(str, (MigrationStatus.ACTIVE, MigrationStatus.POSTCOPY_ACTIVE)), "live"),
            **dict.fromkeys(map(str, (MigrationStatus.FAILED, MigrationStatus.CANCELLED)), "final"),
        },
        legend=[("live", "memory is copied"), ("final", "it came to nothing")],
    )


DIAGRAMS = {
    "run-states": run_states,
    "update-stages": update_stages,
    "job-states": job_states,
    "migration-states": migration_states,
}
"""The diagrams that there are, by the name that `qmpd graph` knows."""
