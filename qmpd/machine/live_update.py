"""The stages of a live update, and which may follow which.

A live update replaces the process that runs a machine by a new one, its child, while the machine goes on and
its clients stay connected.  Each of the two processes is in a stage of its own:

- the parent: `none`, until it is asked to prepare; `father-prepare` while the child starts and takes in a clone
  of the machine; `father-child-ready` once the clone is complete, which INIT_COMPLETE tells the clients;
  `father-commit` while the two hand over, and the parent stands still.  With that it ends.
- the child: `none` at first; `child-prepare` while it takes in the clone; `child-ready`, in which it waits for
  the word; `child-commit` while it takes the machine over, and `none` again as soon as the machine is its own:
  from there on it can be the parent of the next update.
- what goes wrong before the parent's end leaves it as it was: the update is `failed`, and stays so for
  everyone to see, with the reason, until the next one begins or the failure is dismissed; or it is `cancelled`,
  until the child is gone.

Nothing but `LiveUpdate.enter` changes the stage, and it takes only what the table allows.  Every turn of the
parent's main loop in `father-prepare` asks whether the clone is complete; the one that finds it so goes on to
`father-child-ready` and emits INIT_COMPLETE, so that it is emitted once.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, ClassVar

from qmpd.schedule.activity import Activity, Carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.machine.machine import Machine


class UpdateStage(enum.StrEnum):
    """The stages of a live update (`UpdateStage` in `live-update-query`'s schema)."""

    NONE = "none"
    PARENT_PREPARE = "father-prepare"
    PARENT_CHILD_READY = "father-child-ready"
    PARENT_COMMIT = "father-commit"
    CHILD_PREPARE = "child-prepare"
    CHILD_READY = "child-ready"
    CHILD_COMMIT = "child-commit"
    FAILED = "failed"
    CANCELLED = "cancelled"


_U = UpdateStage

STAGE_TRANSITIONS: dict[UpdateStage, frozenset[UpdateStage]] = {
    _U.NONE: frozenset({_U.PARENT_PREPARE, _U.CHILD_PREPARE}),
    _U.PARENT_PREPARE: frozenset({_U.PARENT_CHILD_READY, _U.FAILED, _U.CANCELLED}),
    _U.PARENT_CHILD_READY: frozenset({_U.PARENT_COMMIT, _U.FAILED, _U.CANCELLED}),
    _U.PARENT_COMMIT: frozenset({_U.FAILED}),
    _U.CHILD_PREPARE: frozenset({_U.CHILD_READY}),
    _U.CHILD_READY: frozenset({_U.CHILD_COMMIT}),
    _U.CHILD_COMMIT: frozenset({_U.NONE}),
    _U.FAILED: frozenset({_U.NONE}),
    _U.CANCELLED: frozenset({_U.NONE}),
}
"""Stage -> the stages that may follow it."""

ENDS = frozenset({_U.PARENT_COMMIT})
"""The stages in which a process ends when all goes well."""

UNDER_WAY = frozenset({_U.PARENT_PREPARE, _U.PARENT_CHILD_READY, _U.PARENT_COMMIT})
"""The parent's stages in which there is a child to take over."""


class LiveUpdate(Activity[UpdateStage]):
    """The live update of one machine, as one of the two processes sees it.

    `stage` and `reason` (why it failed, else empty) are to be read.
    """

    KIND = "live-update"
    CALLED = "live update stage"
    TRANSITIONS = STAGE_TRANSITIONS
    VERBS: ClassVar = {
        "prepare": frozenset({_U.NONE, _U.FAILED}),
        "commit": frozenset({_U.PARENT_CHILD_READY}),
        "cancel": UNDER_WAY | {_U.FAILED},
        "fail": frozenset({_U.PARENT_PREPARE, _U.PARENT_CHILD_READY}),
    }
    ENDS = ENDS
    # The two processes each have their own.
    carried = Carried.HERE

    __slots__ = ("_end_child", "_is_complete", "_machine", "reason")

    def __init__(self, machine: Machine) -> None:
        super().__init__(UpdateStage.NONE)
        self._machine = machine
        self._is_complete: Callable[[], bool] | None = None
        self._end_child: Callable[[], None] | None = None
        self.reason = ""

    @property
    def stage(self) -> UpdateStage:
        """The state, by the name that the commands have for it."""
        return self.state

    def entered(self, old: UpdateStage) -> None:
        """Look for a clone no longer; nothing is known of a failure but what `fail` says."""
        if old is UpdateStage.PARENT_PREPARE:
            self._machine.stage_check = None
            self._is_complete = None
        self.reason = ""
        if self.state is UpdateStage.NONE:
            self._machine.activities.forget(self.KIND)
        elif self.state is UpdateStage.FAILED and self._end_child is not None:
            self._end_child()

    def fail(self, reason: str) -> None:
        """Go on to the stage `failed`, for this reason.

        :raise InvalidTransition: the table does not allow it.
        """
        self.enter(UpdateStage.FAILED)
        self.reason = reason

    def prepare(self, is_complete: Callable[[], bool], end_child: Callable[[], None] | None = None) -> None:
        """Begin, as the parent; from now on every turn asks `is_complete` whether the clone is.

        `end_child` is called where the update fails, and may be when the child has ended by itself.

        :raise InvalidTransition: an update is under way.
        """
        if self.stage is UpdateStage.FAILED:
            self.enter(UpdateStage.NONE)
        self.enter(UpdateStage.PARENT_PREPARE)
        self._is_complete, self._end_child = is_complete, end_child
        activities = self._machine.activities
        activities.begin(self.KIND, self, None)
        self._machine.stage_check = lambda: activities.step_now(self.KIND)

    def step(self) -> int | None:
        """Look whether the clone is complete: what each turn does in `father-prepare`."""
        if self._is_complete is not None and self._is_complete():
            self.enter(UpdateStage.PARENT_CHILD_READY)
            self._machine.emit("INIT_COMPLETE")
        return None
