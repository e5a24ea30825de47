"""Long work: what a command begins and does not finish at once, as tables of states and verbs.

A kind of activity is a class.  `TRANSITIONS` says which state may follow which, `VERBS` in which states it may be asked
for what, and `ENDS` after which states nothing more comes.  Its work is done in steps: each is short, and says how long
it is to the next on the clock, so that a virtual clock moves it as well.  One that waits for something outside says
nothing, and is woken by the port that it has asked.

`Activities` has those of one machine.  Their steps are timers of the machine's schedule; `snapshot` makes plain data of
them, for a process that goes on with the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

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


class Activity(Generic[State]):
    """One piece of long work; `state` is to be read.  `CALLED` is what its states are called where one is wrong."""

    CALLED: ClassVar[str] = "state"
    TRANSITIONS: ClassVar[Mapping[Any, frozenset[Any]]]
    VERBS: ClassVar[Mapping[str, frozenset[Any]]] = {}
    ENDS: ClassVar[frozenset[Any]] = frozenset()

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
        return self.state in self.VERBS[verb]

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

    def step(self) -> int | None:
        """Do the next piece of work; the nanoseconds to the one after, None where that waits for a port."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """What a process needs to go on with it, as plain data."""
        return {"state": str(self.state)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of; the tables have all of the states."""
        self.state = next(each for each in self.TRANSITIONS if str(each) == state["state"])


class Activities:
    """The activities of one machine, by their names."""

    __slots__ = ("_all", "_schedule")

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._all: dict[str, Activity[Any]] = {}

    def __iter__(self) -> Any:
        """The names and the activities, in the order in which they began."""
        return iter(list(self._all.items()))

    def find(self, name: str) -> Activity[Any] | None:
        """The activity of this name."""
        return self._all.get(name)

    def begin(self, name: str, activity: Activity[Any], delay: int = 0) -> None:
        """Have an activity, whose first step comes after `delay` nanoseconds."""
        self._all[name] = activity
        self._schedule.set(self, name, delay, Time.CLOCK)

    def wake(self, name: str) -> None:
        """What an activity has waited for has come: its next step is due."""
        activity = self._all.get(name)
        if activity is not None and not activity.is_over:
            self._schedule.set(self, name, 0, Time.CLOCK)

    def forget(self, name: str) -> None:
        """Have an activity no longer."""
        self._all.pop(name, None)
        self._schedule.cancel(self, name)

    def timer_due(self, name: Hashable) -> None:
        """Take an activity's next step (`qmpd.schedule.schedule.Owner`)."""
        activity = self._all.get(str(name))
        if activity is None or activity.is_over:
            return
        delay = activity.step()
        # A step may have had it forgotten.
        if delay is not None and self._all.get(str(name)) is activity:
            self._schedule.set(self, name, delay, Time.CLOCK)

    def snapshot(self) -> list[list[Any]]:
        """All of them as plain data: name, kind, state, and the nanoseconds to the next step; None where it waits."""
        left = self._schedule.left(self)
        return [
            [name, type(activity).__name__, activity.snapshot(), left.get(name)] for name, activity in self._all.items()
        ]

    def restore(self, state: list[list[Any]], kinds: Mapping[str, Activity[Any]]) -> None:
        """Have those that `snapshot` made this of; `kinds` has a new one of each name.

        :raise KeyError: there is none of a name.
        """
        for name, _, plain, left in state:
            activity = kinds[name]
            activity.restore(plain)
            self._all[name] = activity
            if left is not None:
                self._schedule.set(self, name, left, Time.CLOCK)
