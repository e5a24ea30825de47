"""Work of the main loop that waits for disks and servers, while the main loop goes on with something else.

What may take its time (opening a file, reading, asking a server) is done `away`: by a thread.  Work that is begun by
`run` waits for that a moment.  Then it is put aside, stack and all, as a greenlet, and the main loop is free; what came
of it brings the work back, in the main loop, where it was.  To the work itself all looks as if the call took its time.

From the first piece that it has done away until it ends, or lets others go on (`Executor.settle`), nobody else's pieces
are done: it finds the disks as it has left them.  Work that was not begun so, or in another thread, does all itself.
"""

from __future__ import annotations

import functools
import time
from _thread import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet

    class Lender(Protocol):
        """Who has threads (`qmpd.block.executor.Executor`)."""

        def away(self, work: Callable[[], Any], whose: Paused, patience: float) -> Came | None:
            """Do a piece of somebody's work in a thread, and wait for it so many seconds.

            None where that has not sufficed: `whose.go_on` is called with it in the main loop.
            """

        def free(self, whose: Paused) -> None:
            """Others' pieces may be done again."""


P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")

MOMENT = 0.05
"""Seconds for which the main loop waits at most for all that one command does away, before it goes on.

A disk that answers takes far less.  What goes on meanwhile may change the order of replies and events, so that a busy
computer must not be taken for a disk that is stuck.
"""
_AFTERWARDS = 0.001
_JUST_NOW = 0.005


class Came(NamedTuple):
    """What came of a piece of work: its value, or what it has raised."""

    value: Any = None
    error: BaseException | None = None


# The work that each thread's main loop is doing just now.
_running: dict[int, Paused] = {}


class Paused:
    """One piece of the main loop's work, which may be put aside; `then` is told what came of it if it was."""

    __slots__ = ("_act", "_answered", "_greenlet", "_lender", "_patience", "came", "then")

    def __init__(self, lender: Lender, act: Callable[[], Any]) -> None:
        self._lender = lender
        self._act = act
        self._patience = MOMENT
        # Until when what was asked just now is taken to answer at once.
        self._answered: dict[int, float] = {}
        self._greenlet: greenlet | None = None
        self.came: Came | None = None
        self.then: Callable[[Came], None] | None = None

    def begin(self) -> Came | None:
        """Begin with it; what came of it, None where it was put aside."""
        # Nobody whose disks are not used has to have it.
        from contextvars import copy_context

        from greenlet import greenlet

        self._greenlet = greenlet(self._whole)
        # What the server's library notes of the task that it is in is found by those who are called, too.
        self._greenlet.gr_context = copy_context()
        self._switch(None)
        return self.came

    def _whole(self, _: object) -> None:
        try:
            self.came = Came(self._act())
        except BaseException as error:
            self.came = Came(error=error)

    def _switch(self, value: object) -> None:
        from greenlet import getcurrent

        assert self._greenlet is not None
        thread = get_ident()
        before = _running.get(thread)
        _running[thread] = self
        try:
            self._greenlet.parent = getcurrent()
            self._greenlet.switch(value)
        finally:
            if before is None:
                del _running[thread]
            else:
                _running[thread] = before
            if self.came is not None:
                self._lender.free(self)

    def away(self, work: Callable[[], T]) -> T:
        """Have a piece of work done by a thread; what it gives, or raises."""
        begun = time.monotonic()
        came = self._lender.away(work, self, self._patience)
        self._patience = max(0.0, self._patience - (time.monotonic() - begun))
        if came is None:
            came = self.pause()
        if came.error is not None:
            raise came.error
        value: T = came.value
        return value

    def ask(self, what: object, work: Callable[[], T]) -> T:
        """The same for something small about what has answered; it is done at once if that was just now."""
        if time.monotonic() < self._answered.get(id(what), 0):
            return work()
        value = self.away(work)
        self._answered[id(what)] = time.monotonic() + _JUST_NOW
        return value

    def pause(self) -> Any:
        """Be put aside until `go_on` is called; gives what that was called with."""
        assert self._greenlet is not None
        assert self._greenlet.parent is not None
        return self._greenlet.parent.switch()

    def go_on(self, value: object = None) -> None:
        """Go on with it, in the main loop.

        :raise BaseException: it raises that, and nobody is to be told.
        """
        self._patience = _AFTERWARDS
        self._switch(value)
        if self.came is None:
            return
        if self.then is not None:
            self.then(self.came)
        elif self.came.error is not None:
            raise self.came.error


def current() -> Paused | None:
    """The work of this thread's main loop that may be put aside; None where it does no such."""
    return _running.get(get_ident()) if _running else None


def run(lender: Lender, act: Callable[[], Any], then: Callable[[Any], None] | None = None) -> None:
    """Do something that may be put aside; `then` is told what it gives, once it has.

    :raise BaseException: `act` raises that before it is put aside; later it is raised in the main loop.
    """
    if current() is not None:
        value = act()
    else:
        paused = Paused(lender, act)
        came = paused.begin()
        if came is None:
            if then is not None:
                told = then
                paused.then = lambda late: told(_value(late))
            return
        value = _value(came)
    if then is not None:
        then(value)


def _value(came: Came) -> Any:
    if came.error is not None:
        raise came.error
    return came.value


def away(work: Callable[[], T]) -> T:
    """Do something that may take its time: in a thread, where the main loop's work can be put aside."""
    paused = current()
    return work() if paused is None else paused.away(work)


def slow(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, done `away`."""

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        if not _running:
            return function(*arguments, **options)
        paused = _running.get(get_ident())
        if paused is None:
            return function(*arguments, **options)
        return paused.away(lambda: function(*arguments, **options))

    return call


def asked(function: Callable[[T], V]) -> Callable[[T], V]:
    """The same property, done `away` unless its object has answered just now."""

    @functools.wraps(function)
    def call(what: T) -> V:
        if not _running:
            return function(what)
        paused = _running.get(get_ident())
        if paused is None:
            return function(what)
        return paused.ask(what, lambda: function(what))

    return call
