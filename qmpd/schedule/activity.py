"""Long work: what a command begins and does not finish at once.

An **activity** is one piece of it: a device that is to be unplugged, a reply that comes later, a live update; block
jobs, migration and dumps are of this kind, too.  A kind is a class, and consists of three tables and three functions:

- `TRANSITIONS`: which state may follow which.  Nothing but `enter` changes the state.  In a state of `ENDS` nothing
  more comes, and the machine forgets the activity.
- `VERBS`: in which states it may be asked for what (`pause`, `cancel`, ...).  A command that asks for a verb calls
  `require`, and puts the refusal into its own words.  The verb `fail` is there where faults may have the work fail.
- `carried`: what becomes of it in a process that takes the machine over (`Carried`), beside `hindrance`, which says
  why the machine cannot be taken over just now.
- `step` does the next piece of work.  It is short, and never waits.  It gives the nanoseconds to the step after it,
  and None where something has to come first.
- `fail` ends it for a reason that is told to whoever began it.
- `snapshot` and `restore` make plain data of it, and back.

**Who makes the steps.**  `Activities` has those of one machine (`System.activities`).  A step is a timer of the
machine's schedule, on the clock's time: so a virtual clock moves it, and `stop` does not hold it.  Work that goes with
the guest's time, as the answer to an unplug request does, is a timer of the guest, which then calls `step_now`.

**What it waits for.**  Input and output are done by the server, behind a port (`qmpd.system.ports`): an activity asks
the port, its step gives None, and the port calls `wake` when there is something.  The main loop does not wait for
either, whatever a disk or a pipe does; and one that nobody wakes costs nothing.

**Who may come between.**  `points` hears of each step before it is made, and may keep it back until `release`, or have
the activity fail in its place.  That is how the control socket's faults hold and fail long work.

**Another process.**  `snapshot` gives the activities that are carried as data, with the time left to each one's next
step.  Those of `Carried.AGAIN` are begun again by what began them: a request that is not answered yet is executed
again.  Those of `Carried.HERE` are about the process itself.  Where `hindrance` gives a reason, nothing is handed over.

An example stands in the project's `docs/architecture.md`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from qmpd.schedule.schedule import Schedule

State = TypeVar("State", bound=str)


class InvalidTransition(AssertionError):  # noqa: N818 - it is a bug of the activity, named after what happened
    """An activity tried to enter a state that its table does not allow."""


class VerbRefused(Exception):  # noqa: N818 - the name says what happened
    """An activity was asked for what it cannot do in its state."""

    def __init__(self, verb: str, state: str) -> None:
        super().__init__(f"'{verb}' in state '{state}'")
        self.verb = verb
        self.state = state


class Carried(enum.Enum):
    """What becomes of an activity in a process that takes the machine over."""

    AS_DATA = "as data"
    """It goes on there, from its `snapshot`."""
    AGAIN = "again"
    """What began it begins it again there; nothing that it has done by then would have to be known."""
    HERE = "here"
    """It is this process's own, and ends with it."""


class Activity(Generic[State]):
    """One piece of long work; `state` is to be read.

    `KIND` is what the control socket calls activities like it, `CALLED` what its states are called where one is wrong.
    """

    KIND: ClassVar[str] = "activity"
    CALLED: ClassVar[str] = "state"
    TRANSITIONS: ClassVar[Mapping[Any, frozenset[Any]]]
    VERBS: ClassVar[Mapping[str, frozenset[Any]]] = {}
    ENDS: ClassVar[frozenset[Any]] = frozenset()
    carried: ClassVar[Carried] = Carried.AS_DATA

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        self.state = state

    def enter(self, state: State) -> None:
        """Go on to a state.

        :raise InvalidTransition: the table does not allow it.
        """
        if state not in self.TRANSITIONS[self.state]:
            raise InvalidTransition(f"invalid {self.CALLED} transition: '{self.state}' -> '{state}'")
        old, self.state = self.state, state
        self.entered(old)

    def entered(self, old: State) -> None:
        """It has come from another state to the present one: what a kind tells of it."""

    def allows(self, verb: str) -> bool:
        """Whether it may be asked for this now."""
        return self.state in self.VERBS.get(verb, ())

    def require(self, verb: str) -> None:
        """Refuse what it may not be asked for now.

        :raise VerbRefused: it may not.
        """
        if not self.allows(verb):
            raise VerbRefused(verb, self.state)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.state in self.ENDS

    @property
    def can_be_held(self) -> bool:
        """Whether somebody may keep its steps back."""
        return True

    def step(self) -> int | None:
        """Do the next piece of work; the nanoseconds to the one after, None where that waits for a port."""
        return None

    def fail(self, reason: str) -> None:
        """End, because the work has failed.

        :raise VerbRefused: it is of a kind, or in a state, in which nothing can fail.
        """
        raise VerbRefused("fail", self.state)

    def hindrance(self) -> str | None:
        """Why the machine cannot be handed to another process now; None where it can."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """What a process needs to go on with it, as plain data."""
        return {"state": str(self.state)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of; the tables have all of the states."""
        self.state = next(each for each in self.TRANSITIONS if str(each) == state["state"])


class Points(Protocol):
    """Somebody who comes between activities and their steps (`Activities.points`); see `qmpd.control.interceptor`."""

    def activity_steps(self, name: str, activity: Activity[Any]) -> bool:
        """An activity is about to take a step; False where that is kept back until `Activities.release`.

        It may have been made to fail meanwhile.
        """


class Found(NamedTuple):
    """An activity as `Activities.describe` tells of it: nanoseconds to its next step, None where it waits."""

    name: str
    kind: str
    state: str
    held: bool
    left: int | None


class Activities:
    """The activities of one machine, by their names.  `wake_loop` is called where one has a step to make at once."""

    __slots__ = ("_all", "_held", "_last", "_schedule", "_wake_loop", "points")

    def __init__(self, schedule: Schedule, wake_loop: Callable[[], None]) -> None:
        self._schedule = schedule
        self._wake_loop = wake_loop
        self._all: dict[str, Activity[Any]] = {}
        # Those whose step is kept back.
        self._held: set[str] = set()
        self._last = 0
        self.points: Points | None = None

    def __iter__(self) -> Iterator[tuple[str, Activity[Any]]]:
        """The names and the activities, in the order in which they began."""
        return iter([(name, each) for name, each in self._all.items() if not each.is_over])

    def find(self, name: str) -> Activity[Any] | None:
        """The activity of this name."""
        activity = self._all.get(name)
        return None if activity is None or activity.is_over else activity

    def new_name(self, kind: str) -> str:
        """A name that no activity has had, for one that nobody names."""
        self._last += 1
        return f"{kind} {self._last}"

    def begin(self, name: str, activity: Activity[Any], delay: int | None = 0) -> None:
        """Have an activity, whose first step comes after `delay` nanoseconds, or once it is woken (None).

        :raise ValueError: there is one of this name, and it is not over.
        """
        if self.find(name) is not None:
            raise ValueError(f"there is an activity '{name}'")
        self._all[name] = activity
        if delay is not None:
            self._due(name, delay)

    def _due(self, name: Hashable, delay: int) -> None:
        self._schedule.set(self, name, delay, Time.REAL)
        if delay <= 0:
            self._wake_loop()

    def wake(self, name: str) -> None:
        """What an activity has waited for has come: its next step is due."""
        if self.find(name) is not None:
            self._due(name, 0)

    def due(self, name: str, delay: int) -> None:
        """An activity's next step comes after so many nanoseconds, whenever it was to come before."""
        if self.find(name) is not None:
            self._due(name, delay)

    def left(self, name: str) -> int | None:
        """The nanoseconds to an activity's next step; None where it waits."""
        return self._schedule.remaining(self).get(name)

    def cancel(self, name: str) -> None:
        """An activity's next step does not come, until somebody says when."""
        self._held.discard(name)
        self._schedule.cancel(self, name)

    def may_step(self, name: str) -> bool:
        """Whether nobody keeps an activity's next step back, which then comes when it is released."""
        activity = self.find(name)
        if activity is None or self.points is None or not activity.can_be_held:
            return True
        if self.points.activity_steps(name, activity):
            return True
        self._held.add(name)
        return False

    def let_go(self, name: str) -> None:
        """Let one activity go on, if a step of it was kept back."""
        if name in self._held:
            self._held.discard(name)
            self.wake(name)

    def step_now(self, name: str) -> None:
        """Let an activity take its next step at once, in the middle of what is being done."""
        self._schedule.cancel(self, name)
        self.timer_due(name)

    def forget(self, name: str) -> None:
        """Have an activity no longer."""
        self._all.pop(name, None)
        self._held.discard(name)
        self._schedule.cancel(self, name)

    def timer_due(self, name: Hashable) -> None:
        """Take an activity's next step (`qmpd.schedule.schedule.Owner`)."""
        name = str(name)
        activity = self.find(name)
        if activity is None:
            return
        if not self.may_step(name):
            return
        self._held.discard(name)
        delay = None if activity.is_over else activity.step()
        # A step may have had it forgotten.
        if self._all.get(name) is not activity:
            return
        if activity.is_over:
            self.forget(name)
        elif delay is not None:
            self._due(name, delay)

    def release(self) -> None:
        """Let those go on whose steps were kept back."""
        for name in sorted(self._held):
            self.wake(name)
        self._held.clear()

    def describe(self) -> list[Found]:
        """All of them, in the order in which they began."""
        left = self._schedule.remaining(self)
        return [
            Found(name, activity.KIND, str(activity.state), name in self._held, left.get(name))
            for name, activity in self
        ]

    # For another process

    def hindrance(self) -> str | None:
        """Why the machine cannot be handed to another process now; None where it can."""
        return next((reason for _, activity in self if (reason := activity.hindrance()) is not None), None)

    def adopt(self, others: Activities) -> None:
        """Go on with activities that began before there was a machine; each one's next step is due."""
        for name, activity in others:
            self.begin(name, activity)

    def snapshot(self) -> list[list[Any]]:
        """Those that go on elsewhere as plain data.

        Each is name, kind, state, the nanoseconds to the next step (None where it waits), and whether that is kept
        back.

        :raise ValueError: one of them cannot go on elsewhere now.
        """
        left = self._schedule.left(self)
        found = [(name, activity) for name, activity in self if activity.carried is Carried.AS_DATA]
        for _, activity in found:
            reason = activity.hindrance()
            if reason is not None:
                raise ValueError(reason)
        return [
            [name, activity.KIND, activity.snapshot(), left.get(name), name in self._held] for name, activity in found
        ]

    def restore(self, state: list[list[Any]], make: Callable[[str, str, Mapping[str, Any]], Activity[Any]]) -> None:
        """Have those that `snapshot` made this of; `make` gives a new one by kind, name and state, to be restored.

        :raise KeyError, ValueError: `make` raises it, for a kind that it does not know.
        """
        for name, kind, plain, left, held in state:
            activity = make(kind, name, plain)
            activity.restore(plain)
            self._all[name] = activity
            if held:
                self._held.add(name)
            if left is not None:
                self._due(name, left)
