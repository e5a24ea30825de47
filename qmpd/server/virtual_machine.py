"""One virtual machine as it is served: its listeners, its clients and its main loop, in one nursery.

Nothing but the main loop touches the machine: the connections hand their requests to the session's queue.  The
loop waits for work, executes requests, lets the machine take its turns, and hands out what is owed to the
clients.  It has a task for what takes time; while that sleeps, a pass of the loop is made by the task of the
client that asks for something.
"""

from __future__ import annotations

import errno
import os
from socket import AF_UNIX
from typing import TYPE_CHECKING

import trio

from qmpd.machine import SystemClock
from qmpd.machine.machine import ignore_report
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.monitor.errors import HandOver, Waiting
from qmpd.qapi import load_release
from qmpd.schedule.clock import SteppedClock
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.listener import Listener, ListenError
from qmpd.system.chardev import Chardev

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Any

    from qmpd.control.dispatcher import ControlDispatcher
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.machine import Clock
    from qmpd.server.chardevs.devices import CharacterDevices
    from qmpd.server.pid_file import PidFile
    from qmpd.server.puppet_host import PuppetHost
    from qmpd.server.settings import MonitorSettings, VMSettings

FAREWELL = 2.0
"""Seconds that clients are given to take what is owed to them when the machine ends."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PATIENCE = 0.1
"""Seconds until accepting is tried again after the process ran out of file descriptors."""


class VirtualMachine:
    """A machine, its monitors and its clients.  `run` serves until the machine ends."""

    __slots__ = (
        "_deadline",
        "_task",
        "_woken",
        "accepts",
        "clock",
        "connections",
        "control",
        "devices",
        "dispatcher",
        "hand_over",
        "handed_over",
        "listeners",
        "numbers",
        "nursery",
        "pid_file",
        "puppet_host",
        "puppeteer",
        "running",
        "settings",
        "started",
    )

    nursery: trio.Nursery

    def __init__(self, settings: VMSettings, clock: Clock | None = None) -> None:
        """Prepare the machine.  Without a clock it gets the one that the settings ask for.

        :raise UnknownRelease: there is no release of that name.
        :raise ValueError: the settings' clock is none.
        """
        self.settings = settings
        self.clock: Clock = _clock(settings) if clock is None else clock
        self.connections: set[Connection] = set()
        self.listeners: list[tuple[MonitorSettings, Listener]] = []
        self.pid_file: PidFile | None = None
        # The character devices that are no listening sockets; None, almost always.
        self.devices: CharacterDevices | None = None
        # What `live-update-commit` has asked for and the main loop is to carry out; whether it has.
        self.hand_over: HandOver | Waiting | None = None
        self.handed_over = False
        # Who plays the machine (`play`), and what it is done with; None for almost all machines.
        self.puppeteer: Puppeteer | None = None
        self.puppet_host: PuppetHost | None = None
        self.running = False
        self.started = False
        # Whether clients are accepted here, rather than by somebody who brings them (`serve_client`).
        self.accepts = True
        self.control: ControlDispatcher | None = None
        self._task: trio.lowlevel.Task | None = None
        self._woken = False
        self.numbers = 0
        # The deadline that the main loop's task sleeps to.
        self._deadline: int | None = None
        chardevs = [
            Chardev(each.chardev, each.address or f"unix:{each.path}", connected_address=f"unix:{each.path}")
            for each in settings.monitors
        ]
        release = load_release(settings.release, settings.extensions)
        # A test program ends the machine with a signal as a matter of course.
        report = ignore_report if settings.clock == "stepped" else log.error
        self.dispatcher = Dispatcher(release, settings.machine, self.clock, self.wake, chardevs, report)
        self.dispatcher.chardev_host = self
        if settings.descriptors:
            from qmpd.system.descriptors import Descriptors

            self.dispatcher.descriptors = Descriptors()
            for identifier, number, opaque in settings.descriptors:
                self.dispatcher.descriptors.add(number, identifier, opaque)
        if settings.control is not None:
            self.open_control()

    def open_control(self) -> None:
        """Let the control socket's clients in; the transcript begins here."""
        from qmpd.control.dispatcher import ControlDispatcher

        self.control = ControlDispatcher(self.play())

    def play(self) -> Puppeteer:
        """The machine's puppeteer, the same each time; without one nothing that it can do costs anything."""
        if self.puppeteer is None:
            from qmpd.control.puppeteer import Puppeteer
            from qmpd.server.puppet_host import PuppetHost

            self.puppet_host = PuppetHost(self)
            self.puppeteer = self.puppet_host.puppeteer = Puppeteer(self.puppet_host)
        return self.puppeteer

    @property
    def monitors(self) -> list[MonitorSettings]:
        """All that listens: the QMP sockets, then the control socket."""
        control = self.settings.control
        return self.settings.monitors if control is None else [*self.settings.monitors, control]

    def listen(self, tell: Callable[[str], None] | None = None) -> None:
        """Make the sockets, and the transcript where one is asked for.

        `tell` is told why one of them cannot be made before those that were are closed: whoever is connected to one
        looks for the reason then.

        :raise ListenError: one of them cannot be made; no socket is left behind.
        """
        try:
            for monitor in self.monitors:
                self.listeners.append((monitor, _listener(monitor)))
            if self.settings.chardevs:
                from qmpd.server.chardevs.devices import CharacterDevices

                self.devices = CharacterDevices(self)
                self.devices.open()
            self.write_transcript()
        except BaseException as error:
            if tell is not None and isinstance(error, ListenError):
                tell(str(error))
            self.close_listeners()
            raise

    def write_transcript(self) -> None:
        """Write the transcript to its file from now on, where one is asked for.

        :raise ListenError: the file cannot be written.
        """
        if self.settings.transcript is not None:
            self.play()
            assert self.puppet_host is not None
            self.puppet_host.write_transcript(self.settings.transcript)

    def close_listeners(self) -> None:
        """Stop listening and take the socket files away, unless the machine ends as if it were killed."""
        for _, listener in self.listeners:
            if self.puppet_host is not None and self.puppet_host.killed:
                listener.close()
            else:
                listener.remove()
        self.listeners.clear()
        if self.devices is not None:
            self.devices.close()

    async def run(self, on_start: Callable[[], None] | None = None) -> int:
        """Serve until the machine ends; the result is its exit status."""
        dispatcher = self.dispatcher
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self.running = True
                try:
                    await self._begin(on_start)
                    await self._main_loop()
                    if not self.handed_over:
                        await self._end()
                finally:
                    # Nobody is to bring clients to a nursery that is about to close.
                    self.running = False
                nursery.cancel_scope.cancel()
        finally:
            self.close_listeners()
            if self.puppet_host is not None:
                self.puppet_host.close()
            for connection in list(self.connections):
                connection.close()
        status = dispatcher.exit_status
        assert status is not None
        return status

    async def _begin(self, on_start: Callable[[], None] | None) -> None:
        waiting = []
        if self.devices is not None:
            self.nursery.start_soon(self.devices.run)
        for monitor, listener in self.listeners if self.accepts else ():
            first = trio.Event() if monitor.wait else None
            if first is not None:
                waiting.append((monitor, first))
            self.nursery.start_soon(self._accept, monitor, listener.socket, first)
        for monitor, first in waiting:
            suffix = self.dispatcher.release.behaviour.listening_chardev_suffix
            place = f"{monitor.location}: " if monitor.location else ""
            address = monitor.address or f"unix:{monitor.path}"
            log.error(f"{place}info: QEMU waiting for connection on: disconnected:{address}{suffix}")
            await first.wait()
        if on_start is not None:
            on_start()
        self.start()

    def start(self) -> None:
        """Start the machine; it needs no task for that.  Only once."""
        if not self.started:
            self.dispatcher.machine.start()
            self.started = True

    # The main loop

    def wake(self) -> None:
        """Tell the main loop that there is work."""
        self._woken = True
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    def work(self) -> None:
        """Do what a client has just asked for: at once, in the place of the main loop's task, where that sleeps.

        Waking the task instead would cost every single command a pass of trio's own loop.
        """
        task = self._task
        if task is None or self.puppeteer is not None:
            self.wake()
            if self.control is not None and not self.started:
                # The main loop's task waits for a first client; the puppeteer does not have to.
                self._run_puppeteer()
                self.flush()
            return
        # What the machine asks of its main loop meanwhile is looked at below.
        self._task = None
        more = self.step()
        self.flush()
        self._task = task
        if more or self.dispatcher.exit_status is not None or self._next_deadline() != self._deadline:
            self.wake()

    async def _main_loop(self) -> None:
        dispatcher = self.dispatcher
        while True:
            self._woken = False
            if self.puppeteer is not None and self._run_puppeteer():
                more = False
            else:
                more = self.step()
            if isinstance(self.hand_over, HandOver):
                self._hand_over(self.hand_over)
            elif self.hand_over is not None and not self.hand_over.started:
                self.hand_over.started = True
                self.nursery.start_soon(self._wait, self.hand_over)
            self.flush()
            if dispatcher.exit_status is not None:
                return
            if more:
                await trio.lowlevel.checkpoint()
            elif not self._woken:
                await self._wait_for_work()

    def step(self) -> bool:
        """One pass of the main loop: timers, a turn, requests; whether there is more to do at once."""
        if self.hand_over is not None:
            return False
        dispatcher = self.dispatcher
        machine, limiter = dispatcher.machine, dispatcher.limiter
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
        try:
            more = bool(dispatcher.ready) and dispatcher.run_requests()
        except (HandOver, Waiting) as left:
            self.hand_over = left
            return True
        return more or machine.pending

    def _hand_over(self, hand_over: HandOver) -> None:
        """Leave the machine to another process; where that fails, go on."""
        parent = self.dispatcher.parent
        assert parent is not None
        self.dispatcher.resume(hand_over.session)
        if parent.commit(hand_over):
            self.handed_over = True
            self.dispatcher.exit_status = 0
        self.hand_over = None

    async def _wait(self, waiting: Waiting) -> None:
        """Wait until a command can go on; the main loop does nothing else until then, as QEMU's does not."""
        try:
            await trio.lowlevel.wait_readable(waiting.descriptor)
        finally:
            os.close(waiting.descriptor)
        self.hand_over = None
        self.dispatcher.finish_waiting(waiting)
        self.wake()

    def _run_puppeteer(self) -> bool:
        """Execute what the control socket asks for; whether a fault keeps the main loop from all else."""
        assert self.puppeteer is not None
        if self.control is not None and self.control.ready:
            self.control.run_requests()
        return self.puppeteer.run()

    def _next_deadline(self) -> int | None:
        if self.puppeteer is not None:
            return self.puppeteer.next_deadline()
        machine, limiter = self.dispatcher.machine.next_deadline(), self.dispatcher.limiter.next_deadline()
        if machine is None or limiter is None:
            return machine if limiter is None else limiter
        return min(machine, limiter)

    def seconds_to_timer(self) -> float | None:
        """How long it is to the next timer, in seconds of the computer's time, negative where it is due.

        None where there is none, or none will be due by itself.
        """
        deadline = self._deadline = self._next_deadline()
        return None if deadline is None else self.clock.real_seconds(deadline - self.clock.monotonic_nanoseconds())

    async def _wait_for_work(self) -> None:
        remaining = self.seconds_to_timer()
        if remaining is None:
            await self._park()
        elif remaining > 0:
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

    async def _end(self) -> None:
        """Let everybody know that the machine has ended."""
        if self.puppet_host is not None:
            self.puppet_host.ended()
        await self._farewell()
        if self.puppet_host is not None:
            self.puppet_host.close_clients()

    async def _farewell(self) -> None:
        """Let the clients take what is owed to them; one that does not read is not waited for long."""
        killed = self.puppet_host is not None and self.puppet_host.killed
        with trio.move_on_after(FAREWELL):
            for connection in list(self.connections):
                if killed and connection.session.dispatcher is self.dispatcher:
                    continue
                while connection.owes:
                    await connection.progress()

    # Clients

    def accept(self, monitor: MonitorSettings, listener: Listener) -> None:
        """Accept clients from now on."""
        self.nursery.start_soon(self._accept, monitor, listener.socket, None)

    async def _accept(self, monitor: MonitorSettings, listening: socket.socket, first: trio.Event | None) -> None:
        while not self.handed_over:
            if listening.fileno() == -1:
                return  # it was closed while this task was busy
            try:
                await trio.lowlevel.wait_readable(listening)
                if self.puppet_host is not None and self.puppet_host.is_qmp(monitor):
                    await self.puppet_host.before_accept()
                client, _ = listening.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except trio.ClosedResourceError:
                return  # it was released: another process accepts here now
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                log.error(f"a client has to wait: {error.strerror}")
                await trio.sleep(PATIENCE)
                continue
            client.setblocking(False)
            if first is not None:
                first.set()
            if not monitor.exclusive:
                self.serve_client(monitor, client)
            else:
                await self.converse(monitor, client)

    async def converse(self, monitor: MonitorSettings, client: socket.socket) -> None:
        """Greet a client and serve it until it leaves."""
        connection = self.connect(monitor, client)
        if connection is not None:
            await self._serve(connection)

    def serve_client(self, monitor: MonitorSettings, client: socket.socket) -> None:
        """Greet a client and serve it from now on."""
        connection = self.connect(monitor, client)
        if connection is not None:
            self.connections.add(connection)
            self.nursery.start_soon(self._serve, connection)

    # Character devices that come and go while the machine runs

    def open_chardev(self, label: str, backend: str, options: Mapping[str, Any]) -> str | None:
        """Open a character device (`qmpd.system.chardev.ChardevHost`).

        :raise ValueError: it cannot be opened.
        """
        from qmpd.server.chardevs.devices import CharacterDevices, settings_of

        if self.devices is None:
            self.devices = CharacterDevices(self)
        try:
            self.devices.add(settings_of(label, backend, options))
        except ListenError as error:
            raise ValueError(str(error)) from None
        address = self.dispatcher.chardevs[-1].address
        return address.removeprefix("pty:") if backend == "pty" else None

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file (`qmpd.system.chardev.ChardevHost`).

        :raise OSError: it cannot be written.
        """
        with open(path, "wb") as file:
            file.write(content)

    def close_chardev(self, label: str) -> None:
        """Close a character device."""
        if self.devices is not None:
            self.devices.remove(label)

    def connect(self, monitor: MonitorSettings, client: socket.socket) -> Connection | None:
        """Greet a client; None where a fault turns it away."""
        if self.control is not None and monitor is self.settings.control:
            return Connection(self, client, self.control.open_session(monitor.chardev, monitor.pretty), 0)
        if self.puppet_host is not None and self.puppet_host.turns_away():
            client.close()
            return None
        self.numbers += 1
        if monitor.location and monitor.mode == "control" and client.family == AF_UNIX:
            from qmpd.server.descriptors import DescriptorSocket

            client = DescriptorSocket.adopt(client)
        if monitor.host is not None:
            from qmpd.server.chardevs.devices import name_connection

            name_connection(self.dispatcher.chardevs, monitor.chardev, client)
        if monitor.mode == "readline":
            from qmpd.human.terminal import open_terminal

            session = open_terminal(self.dispatcher, monitor.chardev)
        elif monitor.mode == "qtest":
            from qmpd.qtest.protocol import open_qtest

            session = open_qtest(self.dispatcher, monitor.chardev)
        else:
            session = self.dispatcher.open_session(monitor.chardev, monitor.pretty)
        log.info(f"client {self.numbers} connected to {session.label}")
        return Connection(self, client, session, self.numbers)

    async def _serve(self, connection: Connection) -> None:
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


def _listener(monitor: MonitorSettings) -> Listener:
    try:
        if monitor.host is not None:
            from qmpd.server.chardevs.devices import listen_tcp

            return listen_tcp(monitor.host, monitor.port)
        if monitor.descriptor is None:
            return Listener(monitor.path)
        # Somebody else has made the file, and will take it away.
        return Listener.inherit(monitor.path, monitor.descriptor, None)
    except ListenError as error:
        if not monitor.location:
            raise
        raise ListenError(f"{monitor.location}: {error}") from None


def _clock(settings: VMSettings) -> Clock:
    if settings.clock == "real" and settings.control is None and settings.transcript is None:
        return SystemClock()
    if settings.clock == "stepped":
        return SteppedClock()
    from qmpd.control.clock import PuppetClock

    return PuppetClock.parse(settings.clock)
