"""Commands that open, close or change nodes, and steps of jobs: the main loop goes on while one waits for a disk.

One at a time: who comes while another one is put aside waits for it, as all of QEMU would.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

from qmpd.block.pausing import Came, Paused, current
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from qmpd.block.executor import Executor


class Apart:
    """What one machine does that can be put aside."""

    __slots__ = ("_executor", "_holders", "_looker", "_more", "_under_way", "_waiting")

    def __init__(self, executor: Executor, more: Callable[[], Executor]) -> None:
        """`more` makes another executor, for those who only look."""
        self._executor = executor
        self._more = more
        self._looker: Executor | None = None
        self._under_way: _Command | None = None
        self._waiting: deque[_Command] = deque()
        # How many are at work for whose end commands have to wait, though steps of jobs need not.
        self._holders = 0

    def run(self, act: Callable[[], Any]) -> Any:
        """Do it, and give what it gives; or a reply that comes later, where it or another one has to wait.

        :raise Refusal: `act` raises it.
        """
        if current() is not None:
            return act()
        command = _Command(act, self.do)
        if self._under_way is not None or self._holders:
            self._waiting.append(command)
            return command.reply
        return self._given(command, self._begin(command))

    def look(self, act: Callable[[], Any]) -> Any:
        """The same for what changes nothing, and needs nobody to wait.

        :raise Refusal: `act` raises it.
        """
        if current() is not None:
            return act()
        if self._looker is None:
            self._looker = self._more()
        command = _Command(act, self.do)
        paused = Paused(self._looker, act)
        came = paused.begin()
        if came is None:
            paused.then = command.end
        return self._given(command, came)

    def _given(self, command: _Command, came: Came | None) -> Any:
        if came is None:
            return command.reply
        value = value_of(came)
        if isinstance(value, Deferred):
            value.apart = self.do
        return value

    def do(self, act: Callable[[], Any]) -> None:
        """The same for what nobody waits for."""
        if current() is not None:
            act()
            return
        command = _Command(act, None)
        if self._under_way is not None:
            self._waiting.append(command)
        elif (came := self._begin(command)) is not None:
            value_of(came)

    def _begin(self, command: _Command) -> Came | None:
        paused = Paused(self._executor, command.act)
        came = paused.begin()
        if came is None:
            self._under_way = command
            command.reply.is_begun = True
            paused.then = functools.partial(self._end, command)
        return came

    def _end(self, command: _Command, came: Came) -> None:
        self._under_way = None
        command.end(came)
        self._go_on()

    def hold(self) -> None:
        """Have commands wait until `let_go` is called."""
        self._holders += 1

    def let_go(self) -> None:
        """Let commands go on, if nobody else holds them."""
        self._holders -= 1
        self._go_on()

    def _go_on(self) -> None:
        """Begin with those that have waited."""
        while self._under_way is None:
            following = next((each for each in self._waiting if not (self._holders and each.answers)), None)
            if following is None:
                return
            self._waiting.remove(following)
            if following.reply.is_over:
                # It was made to fail, or another process executes it.
                continue
            its = self._begin(following)
            if its is not None:
                following.end(its)


class _Command:
    """One command, and its reply, in case that comes later; `do` is what computes that, None where nobody is told."""

    __slots__ = ("_came", "act", "answers", "reply")

    def __init__(self, act: Callable[[], Any], do: Callable[[Callable[[], None]], None] | None) -> None:
        self.act = act
        self.answers = do is not None
        self._came: Came | None = None
        self.reply = Deferred(self._value, self._may)
        self.reply.apart = do

    def end(self, came: Came) -> None:
        """This has come of it: it is replied, or what that waits for in turn."""
        if not self.answers:
            value_of(came)
            return
        self._came = came
        self.reply.is_begun = False
        if isinstance(came.value, Deferred):
            came.value.passed_to(self.reply.ready)
        else:
            self.reply.ready()

    def _value(self) -> object:
        assert self._came is not None
        value = value_of(self._came)
        return value.outcome() if isinstance(value, Deferred) else value

    def _may(self) -> bool:
        value = None if self._came is None else self._came.value
        return value.may if isinstance(value, Deferred) else True


def value_of(came: Came) -> Any:
    """What a piece of work has given.

    :raise BaseException: it has raised that.
    """
    if came.error is not None:
        raise came.error
    return came.value
