"""The threads that read and write a machine's disks.

One piece of work is done at a time, in the order in which they come.  A thread whose work waits for something passes
its turn on to another one, which is started where there is none.  A machine whose disks nobody touches has no thread.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from qmpd.block.executor import Outcome, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

_TURN = 0.0005
"""Seconds after which a thread of a process whose disks are used lets another one have its turn."""
PATIENCE = 2.0
"""Seconds that a machine with a virtual clock waits for the host's disk before it goes on without."""


class DiskThreads:
    """The threads of one machine (`qmpd.block.executor.Executor`).

    `tell` has something done in the main loop.  `clock_waits` tells whether time stands still meanwhile: then what came
    of a piece of work is told at the moment at which it was asked for.
    """

    def __init__(self, tell: Callable[[Callable[[], None]], None], clock_waits: Callable[[], bool]) -> None:
        self._tell = tell
        self._clock_waits = clock_waits
        self._changed = threading.Condition()
        self._queue: deque[tuple[Callable[[], Any], Callable[[Outcome], None]]] = deque()
        self._done: deque[tuple[Outcome, Callable[[Outcome], None]]] = deque()
        # Whether somebody has the turn; how many threads wait for work, and how many for something else.
        self._busy = False
        self._idle = 0
        self._waiting: deque[object] = deque()
        self._closed = False
        self._beside: list[DiskThreads] = []
        self._token: trio.lowlevel.TrioToken | None = None

    def do(self, work: Callable[[], Any], then: Callable[[Outcome], None]) -> None:
        """Do this in a thread; `then` is told in the main loop."""
        if self._token is None:
            try:
                self._token = trio.lowlevel.current_trio_token()
            except RuntimeError:
                pass  # nobody serves the machine yet, or it is a test that calls this by itself
        with self._changed:
            self._queue.append((work, then))
            if not self._idle:
                self._start()
            self._changed.notify_all()
        if self._token is None or self._clock_waits():
            self.settle()

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
                work, then = self._queue.popleft()
                self._idle -= 1
                self._busy = True
                changed.release()
                try:
                    outcome = outcome_of(work)
                except Exception as error:
                    outcome = Outcome(error=_DefectError(error))
                finally:
                    changed.acquire()
                self._busy = False
                self._idle += 1
                self._done.append((outcome, then))
                # A thread that waits for work keeps nobody's.
                del work, then, outcome
                changed.notify_all()
                self._wake()
            self._idle -= 1

    def _is_due(self) -> bool:
        """Whether a thread that waits for work has something to do: a piece of it, or to end."""
        if not self._queue:
            return self._closed
        return not self._busy and not self._waiting_ready()

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

    def _waiting_ready(self) -> bool:
        """Whether somebody who waited can go on: those come before new work."""
        return any(until() for until in self._waiting)  # type: ignore[operator]

    def _wake(self) -> None:
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._arrived, idempotent=True)
            except trio.RunFinishedError:
                pass  # the machine has ended

    def _arrived(self) -> None:
        self._tell(self.collect)

    def collect(self) -> None:
        """Tell what came of what is done; in the main loop."""
        while self._done:
            outcome, then = self._done.popleft()
            if isinstance(outcome.error, _DefectError):
                raise outcome.error.error
            then(outcome)

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
            self._changed.wait_for(lambda: not self._busy and until())
            self._waiting.remove(until)
            self._busy = True

    def stir(self) -> None:
        """Something has changed that a piece of work may wait for."""
        with self._changed:
            self._changed.notify_all()
        if self._token is None or self._clock_waits():
            self.settle()

    def settle(self, patience: float = PATIENCE) -> bool:
        """Wait for all that goes on by itself, but no longer than so many seconds; whether all of it is done."""
        deadline = time.monotonic() + patience
        while True:
            with self._changed:
                quiet = self._changed.wait_for(self._is_quiet, max(0.0, deadline - time.monotonic()))
            self.collect()
            if not quiet:
                return False
            with self._changed:
                if self._is_quiet() and not self._done:
                    return True

    def _is_quiet(self) -> bool:
        return not self._busy and not self._queue and not self._waiting_ready()


class _DefectError(OSError):
    """What is wrong with qmpd itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
