"""Thousands of virtual machines in one process.

A machine that nobody talks to has no task: its sockets are watched together with all others, so are its timers,
and its nursery is opened when its first client comes.  A machine that fails by an error of ours
takes down itself alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import traceback
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import trio

from qmpd.control.clock import PuppetClock
from qmpd.control.errors import ControlError
from qmpd.control.fleet import FleetDispatcher, FleetMachine, FleetStatistics
from qmpd.machine import ShutdownCause
from qmpd.qapi import load_release
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.file_limit import raise_file_limit
from qmpd.server.listener import PATIENCE, Listener, ListenError, listen_tcp
from qmpd.server.settings import MonitorSettings
from qmpd.server.virtual_machine import FAREWELL, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.listener import Client
    from qmpd.server.settings import VMSettings

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
"""What a machine may be called: it is the name of its folder."""

SPARE_FILES = 64
"""Open files that a fleet needs beside one for each socket that listens and each client."""

BATCH = 200
"""Machines created, or timers run, between two looks at what else there is to do."""

STEPS = 100
"""Passes of a main loop at once; a machine that wants more gets a task."""


class FleetError(Exception):
    """The fleet cannot be started; the text says why, and what to set."""


class Member:
    """One machine of the fleet.  `scope` ends its task, where it has one; `waiting` are clients on their way in."""

    __slots__ = ("control", "folder", "name", "scope", "vm", "waiting")

    def __init__(self, name: str, folder: str, vm: VirtualMachine, control: MonitorSettings | None) -> None:
        self.name = name
        self.folder = folder
        self.vm = vm
        self.control = control
        self.scope: trio.CancelScope | None = None
        self.waiting: list[tuple[MonitorSettings, Client]] = []


class Fleet:
    """The machines in `directory`: each has a folder of its name with `qmp.sock` and, unless left out, `control.sock`.

    `template` is what a machine is started with; `parse` makes other settings of options as `qmpd serve` takes
    them, beside those that the fleet was started with, and builds what they ask for.  `inventory` is what was built of
    the template, for its first machine; the others build theirs, by the same function, when they are asked for it.
    """

    def __init__(
        self,
        directory: str,
        template: VMSettings,
        parse: Callable[[str | None, list[str]], tuple[VMSettings, Inventory | None]],
        with_control: bool = True,
        inventory: Inventory | None = None,
    ) -> None:
        self.directory = directory
        self.template = template
        self._built = inventory
        self.path = os.path.join(directory, "fleet.sock")
        self.nursery: trio.Nursery
        self._parse = parse
        self._with_control = with_control
        self._members: dict[str, Member] = {}
        self._number = 0
        self._watched: dict[int, tuple[Member, MonitorSettings, Listener]] = {}
        self._poll = select.epoll()
        # The timers of machines without a task, by trio's clock; those of machines that have one by now do not count.
        self._timers: list[tuple[float, int, Member]] = []
        self._timers_set = 0
        self._earlier_timer = trio.Event()
        self._listener: Listener | None = None
        # Where counts are told over HTTP; None where they are not.
        self._metrics: Listener | None = None
        self._ended: trio.Event | None = None
        self._empty: trio.Event
        self.dispatcher = FleetDispatcher(self)
        # The connections of the fleet's own socket look for this; a fleet is not updated live.
        self.handed_over = False
        self.keeps_up = False
        self._created = self._destroyed = self._failed = 0
        self._past_commands = self._past_events = self._past_connections = 0

    # Starting and ending

    def raise_file_limit(self, count: int) -> None:
        """Allow this process as many open files as the system lets it have.

        :raise FleetError: `count` machines do not fit.
        """
        limit = raise_file_limit()
        needed = count * (2 if self._with_control else 1) + SPARE_FILES
        if needed > limit:
            advice = f"allow more with ulimit -Hn {needed} (in a systemd unit, LimitNOFILE={needed})"
            if self._with_control:
                advice += ", or leave the control sockets out with --no-control"
            raise FleetError(f"{count} machines take {needed} open files, and the limit is {limit}: {advice}")

    def listen(self) -> None:
        """Make the folder and the fleet's control socket.

        :raise ListenError: one of them cannot be made.
        """
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ListenError(f"{self.directory}: {error.strerror}") from None
        self._listener = Listener(self.path)

    def listen_for_metrics(self, host: str, port: str) -> int:
        """Tell the counts over HTTP; the number of the port.

        :raise ListenError: the address cannot be listened on.
        """
        self._metrics = listen_tcp(host, port)
        number: int = self._metrics.socket.getsockname()[1]
        return number

    async def run(self, count: int, on_ready: Callable[[], None], on_progress: Callable[[int], None]) -> None:
        """Create `count` machines and serve until the fleet is ended."""
        self._ended = trio.Event()
        self._empty = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                nursery.start_soon(self._accept)
                nursery.start_soon(self._keep_time)
                assert self._listener is not None
                nursery.start_soon(self._accept_control, self._listener)
                if self._metrics is not None:
                    from qmpd.server.metrics import MetricsServer

                    nursery.start_soon(MetricsServer(self, self._metrics).run)
                for number in range(count):
                    self._create_another(None)
                    if number % BATCH == BATCH - 1:
                        on_progress(number + 1)
                        await trio.lowlevel.checkpoint()
                    if self._ended.is_set():
                        break
                else:
                    on_ready()
                await self._ended.wait()
                await self._farewell()
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def end(self) -> None:
        """End all machines, each with SHUTDOWN to its clients, and the fleet."""
        assert self._ended is not None
        self._ended.set()

    async def _farewell(self) -> None:
        for member in list(self._members.values()):
            if member.scope is None:
                self._forget(member)
            else:
                member.vm.system.machine.quit(ShutdownCause.HOST_SIGNAL)
                member.vm.loop.wake()
        with trio.move_on_after(FAREWELL):
            if self._members:
                await self._empty.wait()
            for session in self.dispatcher.sessions:
                if isinstance(session.owner, Connection):
                    while session.owner.owes:
                        await session.owner.progress()

    def close(self) -> None:
        """Take all sockets and folders away."""
        for member in list(self._members.values()):
            self._forget(member)
        if self._listener is not None:
            self._listener.remove()
            self._listener = None
        if self._metrics is not None:
            self._metrics.remove()
            self._metrics = None
        for session in list(self.dispatcher.sessions):
            if isinstance(session.owner, Connection):
                session.owner.close()
        self._poll.close()

    # Machines

    @property
    def version(self) -> tuple[int, int, int]:
        """The version of the release that machines have unless they say otherwise."""
        return load_release(self.template.release).version

    def create(self, name: str | None, settings: VMSettings, inventory: Inventory | None = None) -> Member:
        """Create a machine and serve it; `inventory` is what was built for it.

        :raise ControlError: the name is taken, or is none; its sockets cannot be made.
        """
        if name is None:
            name = f"vm-{self._number:05}"
            self._number += 1
        self._check(name)
        folder = os.path.join(self.directory, name)
        path = os.path.join(folder, "qmp.sock")
        monitor = replace(settings.monitors[0], path=path) if settings.monitors else MonitorSettings(path=path)
        clock = PuppetClock.parse(settings.clock) if self._with_control else None
        vm = VirtualMachine(replace(settings, monitors=[monitor]), clock, inventory)
        control = MonitorSettings(path=os.path.join(folder, "control.sock"), chardev="control")
        member = Member(name, folder, vm, control if self._with_control else None)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            vm.listen()
            if member.control is not None:
                vm.listeners.append((member.control, Listener(member.control.path)))
        except (OSError, ListenError) as error:
            vm.let_go()
            _remove_folder(folder)
            raise ControlError(f"{folder}: {error.strerror}" if isinstance(error, OSError) else str(error)) from None
        self._members[name] = member
        self._created += 1
        if monitor.wait or monitor.exclusive or vm.settings.machine.incoming not in (None, "defer"):
            # It takes its clients in one by one, or another machine, which needs a task of its own.
            self._run_member(member)
            return member
        vm.accepts = False
        for each, listener in vm.listeners:
            self._watch(member, each, listener)
        vm.start()
        self._let_run(member)
        return member

    def _check(self, name: str) -> None:
        if name in self._members:
            raise ControlError(f"There is a machine '{name}'")
        if NAME.fullmatch(name) is None:
            raise ControlError(f"'{name}' is no name for a machine")

    def _create_another(self, name: str | None) -> Member:
        """Create a machine of the template."""
        inventory, self._built = self._built, None
        return self.create(name, self.template, inventory)

    def _watch(self, member: Member, monitor: MonitorSettings, listener: Listener) -> None:
        number = listener.socket.fileno()
        self._watched[number] = (member, monitor, listener)
        self._poll.register(number, select.EPOLLIN)

    def _unwatch(self, member: Member) -> None:
        for _, listener in member.vm.listeners:
            if self._watched.pop(listener.socket.fileno(), None) is not None:
                self._poll.unregister(listener.socket)

    def _run_member(self, member: Member) -> None:
        member.scope = trio.CancelScope()
        self.nursery.start_soon(self._serve_member, member, member.scope)

    def _let_run(self, member: Member) -> None:
        """Do what there is to do for a machine without a task, and see when there is something next."""
        vm = member.vm
        try:
            for _ in range(STEPS):
                if not vm.loop.step():
                    break
            else:
                self._run_member(member)
                return
        except Exception:
            self._fail(member)
            self._forget(member)
            return
        if vm.system.exit_status is not None:
            self._tell_end(member)
            self._forget(member)
        elif vm.system.is_ending:
            self._run_member(member)
        if vm.system.is_ending:
            return
        remaining = vm.loop.seconds_to_timer()
        if remaining is None:
            return
        if len(timers := self._timers) > 2 * len(self._members) + BATCH:
            timers[:] = [timer for timer in timers if self._members.get(timer[2].name) is timer[2]]
            heapify(timers)
        self._timers_set += 1
        timer = (trio.current_time() + max(0.0, remaining), self._timers_set, member)
        heappush(timers, timer)
        if timers[0] is timer:
            self._earlier_timer.set()

    async def _keep_time(self) -> None:
        """Run the timers of the machines that have no task."""
        timers = self._timers
        while True:
            self._earlier_timer = trio.Event()
            with trio.move_on_at(timers[0][0] if timers else float("inf")):
                await self._earlier_timer.wait()
            now = trio.current_time()
            for _ in range(BATCH):
                if not timers or timers[0][0] > now:
                    break
                _, _, member = heappop(timers)
                if member.scope is None and self._members.get(member.name) is member:
                    self._let_run(member)

    async def _serve_member(self, member: Member, scope: trio.CancelScope) -> None:
        def begin() -> None:
            for monitor, client in member.waiting:
                self._bring(member, monitor, client)
            member.waiting.clear()

        try:
            with scope:
                await member.vm.run(begin)
                self._tell_end(member)
        except Exception:
            self._fail(member)
        finally:
            member.scope = None
            self._forget(member)

    def _tell_end(self, member: Member) -> None:
        log.info(f"{member.name} has ended with status {member.vm.system.exit_status}")

    def _fail(self, member: Member) -> None:
        self._failed += 1
        log.error(f"{member.name} failed:\n{traceback.format_exc()}")

    def _forget(self, member: Member) -> None:
        # By the time that a destroyed machine's task has ended there may be another one of its name.
        if self._members.get(member.name) is not member:
            return
        del self._members[member.name]
        self._destroyed += 1
        if not self._members:
            self._empty.set()
        dispatcher = member.vm.dispatcher
        self._past_commands += dispatcher.executed
        self._past_events += dispatcher.emitted
        self._past_connections += member.vm.acceptor.numbers
        if member.scope is not None:
            # Its task closes the rest on its way out.
            member.scope.cancel()
        self._unwatch(member)
        member.vm.let_go()
        for _, (client, _) in member.waiting:
            client.close()
        _remove_folder(member.folder)

    # Clients

    async def _accept(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._poll.fileno())
            for number, _ in self._poll.poll(0):
                watched = self._watched.get(number)
                if watched is not None and not self._accept_one(*watched):
                    await trio.sleep(PATIENCE)
                    break

    def _accept_one(self, member: Member, monitor: MonitorSettings, listener: Listener) -> bool:
        """Take a client in; False where there are no file descriptors left for it."""
        try:
            client = listener.accept_now()
        except OSError as error:
            log.error(f"a client of {member.name} has to wait: {error.strerror}")
            return False
        if client is None:
            return True
        if member.vm.running:
            self._bring(member, monitor, client)
        else:
            member.waiting.append((monitor, client))
            if member.scope is None:
                self._run_member(member)
        return True

    def _bring(self, member: Member, monitor: MonitorSettings, client: Client) -> None:
        vm = member.vm
        if monitor is member.control and vm.control is None:
            # From now on there can be faults in accepting, so the machine sees to that itself.
            vm.settings.control = monitor
            vm.open_control()
            self._unwatch(member)
            for each, listener in vm.listeners:
                vm.acceptor.start(each, listener)
        vm.acceptor.serve_client(monitor, *client)

    # The fleet's own socket; `Connection` takes the fleet for a machine with one monitor.

    async def _accept_control(self, listener: Listener) -> None:
        number = 0
        while (accepted := await listener.accept("a client of the fleet")) is not None:
            number += 1
            connection = Connection(self, accepted[0], self.dispatcher.open_session(), number)
            self.nursery.start_soon(connection.run)

    def work(self) -> None:
        """Execute what the fleet's clients have asked for."""
        self.dispatcher.run_requests()
        for session in self.dispatcher.unsent:
            if isinstance(session.owner, Connection):
                session.owner.flush()
        self.dispatcher.unsent.clear()

    # What the control socket asks for (`qmpd.control.fleet.FleetHost`)

    def create_machine(self, name: str | None, release: str | None, options: list[str] | None) -> FleetMachine:
        """Create a machine with its own release or options.

        :raise ControlError: the name is taken, or is none; the options are wrong; its sockets cannot be made.
        """
        if name is not None:
            self._check(name)
        if release is None and not options:
            return self._describe(self._create_another(name))
        return self._describe(self.create(name, *self._parse(release, options or [])))

    def destroy_machine(self, name: str) -> None:
        """End a machine at once.

        :raise ControlError: there is no machine of that name.
        """
        member = self._members.get(name)
        if member is None:
            raise ControlError(f"Machine '{name}' not found")
        self._forget(member)

    def machines(self) -> list[FleetMachine]:
        """All machines, in the order of their creation."""
        return [self._describe(member) for member in self._members.values()]

    def _describe(self, member: Member) -> FleetMachine:
        vm = member.vm
        return FleetMachine(
            member.name,
            vm.settings.release,
            str(vm.system.machine.state),
            vm.settings.monitors[0].path,
            None if member.control is None else member.control.path,
            len(vm.dispatcher.sessions),
        )

    def statistics(self) -> FleetStatistics:
        """The counts of now."""
        dispatchers = [member.vm.dispatcher for member in self._members.values()]
        return FleetStatistics(
            machines=len(self._members),
            created=self._created,
            destroyed=self._destroyed,
            failed=self._failed,
            clients=sum(len(each.sessions) for each in dispatchers),
            connections=self._past_connections + sum(member.vm.acceptor.numbers for member in self._members.values()),
            commands=self._past_commands + sum(each.executed for each in dispatchers),
            events=self._past_events + sum(each.emitted for each in dispatchers),
        )

    def report(self, text: str) -> None:
        """Tell what qmpd itself has failed at."""
        log.error(text)

    def metrics(self) -> str:
        """The counts in Prometheus's text format."""
        from qmpd.server.metrics import metrics_text

        return metrics_text(self)


def _remove_folder(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # something else was put there, or it is gone already
