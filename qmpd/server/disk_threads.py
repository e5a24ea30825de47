"""The threads that read and write a machine's disks.

One piece of work is done at a time, in the order in which they come.  A thread whose work waits for something passes
its turn on to another one, which is started where there is none.  A machine whose disks nobody touches has no thread.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from qmpd.block.executor import Outcome, came_of, outcome_of
from qmpd.block.pausing import MOMENT, Came, current, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.pausing import Paused

_TURN = 0.0005
"""Seconds after which a thread of a process whose disks are used lets another one have its turn."""
PATIENCE = 2.0
"""Seconds that a machine with a virtual clock waits for the host's disk before it goes on without."""
# While a machine ends it is looked so often, at least, whether its disks are quiet.
_LONGEST_PAUSE = 0.05
_BRIEF = 0.5
"""Who waits for less than so many seconds does not want to be put aside."""


class _Piece:
    """A piece of work.  `then` is told what came of it, in the main loop; without one somebody waits for it.

    `whose` is who asked for it, where that can be put aside; `is_left`: it was.
    """

    __slots__ = ("came", "is_left", "then", "whose", "work")

    def __init__(self, work: Callable[[], Any], then: Callable[[Outcome], None] | None, whose: Paused | None) -> None:
        self.work = work
        self.then = then
        self.whose = whose
        self.came: Came | None = None
        self.is_left = False

    def carry_out(self, lender: DiskThreads) -> Callable[[], None] | None:
        """Do it; what is to be called in the main loop."""
        if self.then is None:
            self.came = came_of(self.work)
            return None
        try:
            outcome = outcome_of(self.work)
            # Who hears of it may have to wait for something in turn.
            return partial(run, lender, partial(self.then, outcome))
        except Exception as error:
            return partial(_raise, error)


def _raise(error: Exception) -> None:
    raise error


class DiskThreads:
    """The threads of one machine (`qmpd.block.executor.Executor`).

    `tell` has something done in the main loop.  `clock_waits` tells whether time stands still meanwhile: then what came
    of a piece of work is told at the moment at which it was asked for.
    """

    def __init__(self, tell: Callable[[Callable[[], None]], None], clock_waits: Callable[[], bool]) -> None:
        self._tell = tell
        self._clock_waits = clock_waits
        self._changed = threading.Condition()
        self._queue: deque[_Piece] = deque()
        # What is to be called in the main loop.
        self._done: deque[Callable[[], None]] = deque()
        # Whether somebody has the turn; how many threads wait for work, and how many for something else.
        self._busy = False
        self._idle = 0
        self._waiting: deque[object] = deque()
        # Who has the disks for itself, and who was put aside until they are quiet.
        self._owner: Paused | None = None
        self._for_quiet: list[Paused] = []
        self._closed = False
        self._beside: list[DiskThreads] = []
        # Whether the main loop has waited for the disks in vain.
        self._stuck = False
        # Whether the machine has ended, and has waited long enough for disks that do not answer.
        self._gave_up = False
        self._token: trio.lowlevel.TrioToken | None = None

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do this in a thread; `then` is told in the main loop."""
        self._enter(_Piece(work, then, current()))
        self._keep_up()

    def _enter(self, piece: _Piece) -> None:
        if self._token is None:
            try:
                self._token = trio.lowlevel.current_trio_token()
            except RuntimeError:
                pass  # nobody serves the machine yet, or it is a test that calls this by itself
        with self._changed:
            self._queue.append(piece)
            if not self._idle:
                self._start()
            self._changed.notify_all()

    def _keep_up(self) -> None:
        """Wait where time stands still meanwhile; not again for disks that do not answer."""
        if self._token is None:
            self.settle()
        elif self._clock_waits() and not self._stuck:
            self._stuck = not self.settle()

    def _start(self) -> None:
        # The main loop must not wait long for a thread that computes.
        sys.setswitchinterval(min(sys.getswitchinterval(), _TURN))
        self._idle += 1
        threading.Thread(target=self._run, name="disk", daemon=True).start()

    def _run(self) -> None:
        changed = self._changed
        with changed:
            while True:
                # A thread that has nothing to do for a while ends, and every one when the machine does.
                due = changed.wait_for(self._is_due, 30)
                if not self._queue and (self._closed or not due):
                    break
                if not due:
                    continue
                piece = self._next()
                assert piece is not None
                self._queue.remove(piece)
                self._idle -= 1
                self._busy = True
                if piece.then is None:
                    self._owner = piece.whose
                changed.release()
                try:
                    done = piece.carry_out(self)
                finally:
                    changed.acquire()
                self._busy = False
                self._idle += 1
                if piece.is_left:
                    assert piece.whose is not None
                    done = partial(piece.whose.go_on, piece.came)
                if done is not None:
                    self._done.append(done)
                # A thread that waits for work keeps nobody's.
                del piece, done
                changed.notify_all()
                self._wake()
            self._idle -= 1

    def _is_due(self) -> bool:
        """Whether a thread that waits for work has something to do: a piece of it, or to end."""
        return self._next() is not None if self._queue else self._closed

    def beside(self) -> DiskThreads:
        """Threads that wait for nothing that these wait for; they are closed together."""
        other = DiskThreads(self._tell, self._clock_waits)
        self._beside.append(other)
        return other

    def close(self) -> None:
        """Let the threads end as soon as they have done what they were given; what comes later is still done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for other in self._beside:
            other.close()

    def _next(self) -> _Piece | None:
        """The piece that can be done now."""
        if self._busy or not self._queue:
            return None
        if self._owner is not None:
            return next((piece for piece in self._queue if piece.whose is self._owner), None)
        return None if self._waiting_ready() else self._queue[0]

    def _waiting_ready(self) -> bool:
        """Whether somebody who waited can go on: those come before new work."""
        return any(until() for until in self._waiting)  # type: ignore[operator]

    def _wake(self) -> None:
        if self._token is not None and (self._done or self._for_quiet):
            try:
                self._token.run_sync_soon(self._arrived, idempotent=True)
            except trio.RunFinishedError:
                pass  # the machine has ended

    def _arrived(self) -> None:
        self._tell(self.collect)

    def collect(self) -> None:
        """Tell what came of what is done; in the main loop."""
        while self._done:
            self._done.popleft()()
        while self._for_quiet and self._is_all_told():
            self._for_quiet.pop(0).go_on()

    def _is_all_told(self) -> bool:
        with self._changed:
            quiet = self._is_quiet() and not self._done
            self._stuck &= not quiet
            return quiet

    def wait(self, until: Callable[[], bool]) -> None:
        """Called by a piece of work: pass the turn on until `until` is true."""
        with self._changed:
            if until():
                return
            self._busy = False
            self._waiting.append(until)
            if self._queue and not self._idle:
                self._start()
            self._changed.notify_all()
            self._wake()
            self._changed.wait_for(lambda: not self._busy and self._owner is None and until())
            self._waiting.remove(until)
            self._busy = True

    def soon(self, action: Callable[[], None]) -> None:
        """Called by a piece of work: have something done in the main loop."""
        with self._changed:
            self._done.append(action)
            self._wake()

    def stir(self) -> None:
        """Something has changed that a piece of work may wait for."""
        with self._changed:
            self._changed.notify_all()
        self._keep_up()

    def settle(self, patience: float = PATIENCE) -> bool:
        """Wait for all that goes on by itself, but no longer than so many seconds; whether all of it is done."""
        whose = current()
        patience = 0.0 if self._gave_up else patience
        if whose is not None and self._token is not None:
            self.free(whose)
            if patience >= _BRIEF:
                return self._settle_aside(whose)
        deadline = time.monotonic() + patience
        while self._owner is None:
            with self._changed:
                quiet = self._changed.wait_for(self._is_quiet, max(0.0, deadline - time.monotonic()))
            self.collect()
            if not quiet:
                return False
            if self._is_all_told():
                return True
        # Somebody who was put aside has the disks for itself, and needs the main loop to go on.
        return False

    async def be_quiet(self) -> None:
        """Wait as `settle` does, while others go on; then nobody waits any more for what is not done."""
        deadline = trio.current_time() + PATIENCE
        pause = _TURN
        while not self._gave_up and not self.settle(0):
            if trio.current_time() > deadline:
                self._gave_up = True
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _settle_aside(self, whose: Paused) -> bool:
        """The same for somebody who can be put aside, and waits for as long as it takes."""
        with self._changed:
            self._changed.wait_for(self._is_quiet, MOMENT)
        while True:
            self.collect()
            with self._changed:
                if self._done:
                    continue
                if self._is_quiet():
                    return True
                self._for_quiet.append(whose)
            whose.pause()

    def _is_quiet(self) -> bool:
        return not self._busy and not self._queue and not self._waiting_ready()

    def away(self, work: Callable[[], Any], whose: Paused, patience: float) -> Came | None:
        """Do a piece of work of somebody who can be put aside, and wait for it so many seconds."""
        piece = _Piece(work, None, whose)
        self._enter(piece)
        with self._changed:
            until = None if self._token is None else patience
            self._changed.wait_for(lambda: piece.came is not None, until)
            piece.is_left = piece.came is None
        return piece.came

    def free(self, whose: Paused) -> None:
        """Others' work may be done again."""
        with self._changed:
            if self._owner is whose:
                self._owner = None
                self._changed.notify_all()
