"""The thread in which the VMs of a test run: one for all of them, with trio's loop in it.

It begins with the first VM and ends with the last one, so nothing is left behind.  Tests that use asyncio, trio or
nothing at all are alike to it: they call into it from outside and wait for the answer.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import threading
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")

NAME = "qmpd"
"""The thread's name."""


class Background:
    """A thread that runs trio.  Everything may be called from any thread."""

    def __init__(self) -> None:
        """Start the thread; it is ready when this returns."""
        ready: concurrent.futures.Future[trio.Nursery] = concurrent.futures.Future()
        self._stop = trio.Event()
        # A daemon, so that a test run that was cut short can end; `users` and `stop` are for all others.
        self._thread = threading.Thread(target=self._run, args=(ready,), name=NAME, daemon=True)
        self._thread.start()
        self._nursery = ready.result()

    def _run(self, ready: concurrent.futures.Future[trio.Nursery]) -> None:
        trio.run(self._main, ready)

    async def _main(self, ready: concurrent.futures.Future[trio.Nursery]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            ready.set_result(nursery)
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """End the thread and all that runs in it."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()

    def call(self, function: Callable[[], R]) -> R:
        """Call a function in the thread; its result, or its exception, is the caller's."""
        if threading.current_thread() is self._thread:
            return function()
        answer: concurrent.futures.Future[R] = concurrent.futures.Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        self._token.run_sync_soon(run)
        return answer.result()

    def spawn(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task that lasts; it must not raise."""
        self.call(lambda: self._nursery.start_soon(task))


_lock = threading.Lock()
_users = 0
_background: Background | None = None


def acquire() -> Background:
    """The thread, which is there until everybody who acquired it has released it."""
    global _background, _users
    with _lock:
        if _background is None:
            _background = Background()
        _users += 1
        return _background


def release() -> None:
    """Be done with the thread; the last one ends it."""
    global _background, _users
    with _lock:
        _users -= 1
        if _users == 0 and _background is not None:
            _background.stop()
            _background = None


def _forget() -> None:
    """In a process that was forked the thread does not exist."""
    global _background, _users, _lock
    _lock = threading.Lock()
    _background, _users = None, 0


def _end() -> None:
    with _lock:
        if _background is not None:
            _background.stop()


os.register_at_fork(after_in_child=_forget)
atexit.register(_end)
