"""One virtual machine as it is served: its listeners, its clients and its main loop, in one nursery.

Nothing but the main loop's task touches the machine: the connections hand their requests to the session's
queue and wake it.  The loop waits for work, executes requests, lets the machine take its turns, and hands
out what is owed to the clients.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from qmpd.monitor.chardev import Chardev
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.qapi import load_release
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from qmpd.machine import Clock
    from qmpd.server.settings import MonitorSettings, VMSettings

FAREWELL = 2.0
"""Seconds that clients are given to take what is owed to them when the machine ends."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PATIENCE = 0.1
"""Seconds until accepting is tried again after the process ran out of file descriptors."""


class VirtualMachine:
    """A machine, its monitors and its clients.  `run` serves until the machine ends."""

    __slots__ = (
        "_listeners",
        "_numbers",
        "_task",
        "_woken",
        "clock",
        "connections",
        "dispatcher",
        "nursery",
        "settings",
    )

    nursery: trio.Nursery

    def __init__(self, settings: VMSettings, clock: Clock) -> None:
        """Prepare the machine.

        :raise UnknownRelease: there is no release of that name.
        """
        self.settings = settings
        self.clock = clock
        self.connections: set[Connection] = set()
        self._listeners: list[tuple[MonitorSettings, Listener]] = []
        self._task: trio.lowlevel.Task | None = None
        self._woken = False
        self._numbers = 0
        chardevs = [Chardev(monitor.chardev, f"unix:{monitor.path}") for monitor in settings.monitors]
        release = load_release(settings.release)
        self.dispatcher = Dispatcher(release, settings.machine, clock, self.wake, chardevs, log.error)

    def listen(self) -> None:
        """Make the sockets.

        :raise ListenError: one of them cannot be made; none is left behind.
        """
        try:
            for monitor in self.settings.monitors:
                self._listeners.append((monitor, Listener(monitor.path)))
        except BaseException:
            self.close_listeners()
            raise

    def close_listeners(self) -> None:
        """Stop listening and take the socket files away."""
        for _, listener in self._listeners:
            listener.remove()
        self._listeners.clear()

    async def run(self, on_start: Callable[[], None] | None = None) -> int:
        """Serve until the machine ends; the result is its exit status."""
        dispatcher = self.dispatcher
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                waiting = []
                for monitor, listener in self._listeners:
                    first = trio.Event() if monitor.wait else None
                    if first is not None:
                        waiting.append((monitor, first))
                    nursery.start_soon(self._accept, monitor, listener.socket, first)
                for monitor, first in waiting:
                    log.error(f"info: waiting for connection on: disconnected:unix:{monitor.path},server=on")
                    await first.wait()
                if on_start is not None:
                    on_start()
                dispatcher.machine.start()
                await self._main_loop()
                await self._farewell()
                nursery.cancel_scope.cancel()
        finally:
            self.close_listeners()
            for connection in list(self.connections):
                connection.close()
        status = dispatcher.exit_status
        assert status is not None
        return status

    # The main loop

    def wake(self) -> None:
        """Tell the main loop that there is work."""
        self._woken = True
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def _main_loop(self) -> None:
        dispatcher = self.dispatcher
        machine, limiter = dispatcher.machine, dispatcher.limiter
        while True:
            self._woken = False
            deadline = machine.next_deadline()
            limited = limiter.next_deadline()
            if limited is not None or deadline is not None:
                now = self.clock.monotonic_nanoseconds()
                if deadline is not None and deadline <= now:
                    machine.run_timers()
                if limited is not None and limited <= now:
                    limiter.run()
            if machine.pending:
                dispatcher.turn()
            more = dispatcher.ready and dispatcher.run_requests()
            self.flush()
            if dispatcher.exit_status is not None:
                return
            if more or machine.pending:
                await trio.lowlevel.checkpoint()
            elif not self._woken:
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        deadlines = [
            deadline
            for deadline in (self.dispatcher.machine.next_deadline(), self.dispatcher.limiter.next_deadline())
            if deadline is not None
        ]
        if not deadlines:
            await self._park()
            return
        remaining = (min(deadlines) - self.clock.monotonic_nanoseconds()) / 1e9
        if remaining > 0:
            with trio.move_on_after(remaining):
                await self._park()

    async def _park(self) -> None:
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def flush(self) -> None:
        """Hand out what is owed to the clients."""
        unsent = self.dispatcher.unsent
        if unsent:
            for session in unsent:
                if isinstance(session.owner, Connection):
                    session.owner.flush()
                else:
                    session.unsent = False
            unsent.clear()

    async def _farewell(self) -> None:
        """Let the clients take what is owed to them; one that does not read is not waited for long."""
        with trio.move_on_after(FAREWELL):
            for connection in list(self.connections):
                while connection.owes:
                    await connection.progress()

    # Clients

    async def _accept(self, monitor: MonitorSettings, listening: socket.socket, first: trio.Event | None) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                client, _ = listening.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                log.error(f"a client has to wait: {error.strerror}")
                await trio.sleep(PATIENCE)
                continue
            client.setblocking(False)
            if first is not None:
                first.set()
            connection = self.connect(monitor, client)
            if monitor.exclusive:
                await self._serve(connection)
            else:
                self.nursery.start_soon(self._serve, connection)

    def connect(self, monitor: MonitorSettings, client: socket.socket) -> Connection:
        """Greet a client."""
        self._numbers += 1
        session = self.dispatcher.open_session(monitor.chardev, monitor.pretty)
        return Connection(self, client, session, self._numbers)

    async def _serve(self, connection: Connection) -> None:
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
