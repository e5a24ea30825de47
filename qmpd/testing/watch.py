"""Following a VM's transcript from other threads: what has happened, and waiting for what will."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from qmpd.testing.patterns import Command, Event
from qmpd.timeline.transcript import Entry, entry

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WatchEndedError(Exception):
    """Nothing more will happen."""


class _Waiter:
    __slots__ = ("future", "wanted")

    def __init__(self, wanted: Callable[[Entry], Any]) -> None:
        self.wanted = wanted
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()


class Watch:
    """The transcript of one VM as it grows.  Everything may be called from any thread.

    `history` is all of it, `entries` what came since `forget` was last called.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._taken: set[int] = set()
        self._start: int | None = None
        self._from = 0
        self._closed = False
        self.history: list[Entry] = []

    @property
    def entries(self) -> list[Entry]:
        """What has happened since the transcript was last reset."""
        return self.history[self._from :]

    def add(self, members: dict[str, Any]) -> None:
        """Take in an entry, as JSON values; entries are numbered anew, from 1."""
        members = {**members, "number": len(self.history) + 1}
        each = entry(members)
        done: list[tuple[_Waiter, Any]] = []
        with self._lock:
            if self._start is None:
                self._start = each.time
            self.history.append(each)
            for waiter in list(self._waiters):
                if each.number in self._taken:
                    break
                try:
                    found = waiter.wanted(each)
                except Exception as error:  # a test's own function has raised it: the test is told
                    self._waiters.remove(waiter)
                    waiter.future.set_exception(error)
                    continue
                if found is not None:
                    self._waiters.remove(waiter)
                    self._taken.add(each.number)
                    done.append((waiter, found))
        for waiter, found in done:
            # One that gave up in the meantime is not told.
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_result(found)

    def close(self) -> None:
        """Nothing more will happen: who waits waits in vain."""
        with self._lock:
            self._closed = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(WatchEndedError())

    def reopen(self) -> None:
        """More will happen, after all."""
        with self._lock:
            self._closed = False

    def forget(self) -> None:
        """Begin anew: `entries`, and what is waited for, are only what comes from now on."""
        with self._lock:
            self._from = len(self.history)

    def when(self, wanted: Callable[[Entry], T | None]) -> concurrent.futures.Future[T]:
        """What `wanted` makes of the first entry that it wants, be it there or still to come.

        An entry is given to one waiter only, once.  Whoever gives up has to call `give_up`.
        """
        waiter = _Waiter(wanted)
        with self._lock:
            for each in self.entries:
                if each.number not in self._taken:
                    found = wanted(each)
                    if found is not None:
                        self._taken.add(each.number)
                        waiter.future.set_result(found)
                        break
            else:
                if self._closed:
                    waiter.future.set_exception(WatchEndedError())
                self._waiters.append(waiter)
        return waiter.future

    def give_up(self, future: concurrent.futures.Future[T]) -> None:
        """Wait no more."""
        with self._lock:
            self._waiters = [waiter for waiter in self._waiters if waiter.future is not future]

    # Entries as what a test asks for

    def seconds(self, each: Entry) -> float:
        """When an entry was written, in seconds since the VM began."""
        return (each.time - (self._start or 0)) / 1_000_000_000

    def command(self, each: Entry) -> Command | None:
        """The command that an entry tells of."""
        message = each.message if each.kind == "received" else {}
        name = message.get("execute", message.get("exec-oob"))
        if not isinstance(name, str):
            return None
        arguments = message.get("arguments", {})
        return Command(
            name,
            arguments if isinstance(arguments, dict) else {},
            message.get("id"),
            each.client or 0,
            self.seconds(each),
            "exec-oob" in message,
        )

    def event(self, each: Entry) -> Event | None:
        """The event that an entry tells of."""
        if each.kind != "event":
            return None
        return Event(str(each.members.get("event")), each.members.get("data") or {}, self.seconds(each))
