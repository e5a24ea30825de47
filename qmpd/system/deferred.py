"""Replies that come later: what a command gives that takes time, in place of a value.

    def handler(system, session, arguments):
        later = Deferred(lambda: what_is_replied())
        port.do_something(then=later.ready)
        return later

The dispatcher binds it to the client that has asked, who waits for it; the main loop, and all others, go on.
"""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.common.refusals import Refusal, Worded
from qmpd.schedule.activity import Activity, Carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.schedule.activity import Activities

    Compute = Callable[[], object]


class ReplyState(enum.StrEnum):
    """How far a reply is that comes later."""

    WAITING = "waiting"
    REPLIED = "replied"
    FAILED = "failed"
    HANDED_OVER = "handed-over"


class Deferred(Activity[ReplyState]):
    """A reply that comes later: `compute` gives its value, or refuses.

    The command that gives it has done nothing yet that a process which takes the machine over would have to know: there
    the command is executed again, unless it `is_begun`.
    """

    KIND = "reply"
    TRANSITIONS: ClassVar = {
        ReplyState.WAITING: frozenset({ReplyState.REPLIED, ReplyState.FAILED, ReplyState.HANDED_OVER}),
        ReplyState.REPLIED: frozenset(),
        ReplyState.FAILED: frozenset(),
        ReplyState.HANDED_OVER: frozenset(),
    }
    VERBS: ClassVar = {"fail": frozenset({ReplyState.WAITING})}
    ENDS = frozenset({ReplyState.REPLIED, ReplyState.FAILED, ReplyState.HANDED_OVER})
    carried = Carried.AGAIN

    __slots__ = (
        "_activities", "_compute", "_computing", "_deliver", "_has_left", "_may", "_name", "_ready", "_then", "apart",
        "is_begun", "message", "session",
    )  # fmt: skip

    def __init__(self, compute: Compute, may: Callable[[], bool] | None = None) -> None:
        """`may` is asked last whether it can be computed now; where it cannot `ready` is called again later."""
        super().__init__(ReplyState.WAITING)
        self._may = may
        self._compute = compute
        # Whether the command has done something already, so that it must not be executed again.
        self.is_begun = False
        self._computing = False
        self._then: Callable[[], None] | None = None
        # What does such as may have to wait for a disk; None where computing the value needs nothing of that kind.
        self.apart: Callable[[Callable[[], None]], None] | None = None
        self._activities: Activities | None = None
        self._name = ""
        self._ready = False
        # Who is owed the reply, and the request, once `bind` was called.
        self.session: object = None
        self.message: object = None

    def bind(
        self,
        activities: Activities,
        session: object,
        message: object,
        deliver: Callable[[Compute], None],
        has_left: Callable[[], bool],
    ) -> None:
        """Whoever executes commands takes it, and it is one of the machine's activities from now on.

        `deliver` sends the reply to the request `message`; `has_left` tells whether the client has gone.
        """
        self.session, self.message = session, message
        self._deliver, self._has_left = deliver, has_left
        self._activities, self._name = activities, activities.new_name(self.KIND)
        activities.begin(self._name, self, 0 if self._ready else None)

    def told_as(self, tell: Callable[[Any], object]) -> Deferred:
        """The same, with its value told otherwise."""
        compute = self._compute
        self._compute = lambda: tell(compute())
        return self

    def refused_as(self, tell: Callable[[Refusal], object]) -> Deferred:
        """The same; where it is refused, what `tell` says of that is its value."""
        compute = self._compute

        def told() -> object:
            try:
                return compute()
            except Refusal as refusal:
                return tell(refusal)

        self._compute = told
        return self

    def passed_to(self, then: Callable[[], None]) -> None:
        """Somebody else gives the reply, and asks `outcome` for it: `then` is called once it is ready."""
        self._then = then
        if self._ready:
            then()

    def outcome(self) -> object:
        """What is replied.

        :raise Refusal: that is.
        """
        return self._compute()

    @property
    def may(self) -> bool:
        """Whether it can be computed now; where it cannot it gets ready again."""
        return self._may is None or self._may()

    def ready(self) -> None:
        """What it has waited for has come: the reply follows, in the machine's main loop."""
        self._ready = True
        if self._then is not None:
            self._then()
        elif self._activities is not None:
            self._activities.wake(self._name)

    def step(self) -> int | None:
        """Reply with what is computed now, or with its refusal."""
        if not self.may:
            return None
        if self.apart is None:
            self.enter(ReplyState.REPLIED)
            self._deliver(self._compute)
        elif not self._computing:
            self.is_begun = self._computing = True
            self.apart(self._reply)
        return None

    def _reply(self) -> None:
        """The same where computing may take its time."""
        compute: Compute
        try:
            value = self._compute()
        except Exception as error:
            compute = partial(_raise, error)
        else:
            compute = partial(_same, value)
        if not self.is_over:
            self.enter(ReplyState.REPLIED)
            self._deliver(compute)
        assert self._activities is not None
        self._activities.forget(self._name)

    def fail(self, reason: str) -> None:
        """Reply with an error, and compute nothing."""
        self.require("fail")
        self.enter(ReplyState.FAILED)

        def refuse() -> object:
            raise Worded(reason)

        self._deliver(refuse)

    def hand_over(self) -> None:
        """Somebody else sends the reply."""
        self.enter(ReplyState.HANDED_OVER)
        if self._activities is not None:
            self._activities.forget(self._name)

    def hindrance(self) -> str | None:
        """A command of nobody's is not executed again, and one that has begun is not, either."""
        if self.is_begun:
            return "a command is being executed that waits for a disk"
        return "a command whose client has left is being executed" if self._has_left() else None


def _same(value: object) -> object:
    return value


def _raise(error: Exception) -> object:
    raise error
