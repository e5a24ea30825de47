"""One virtual machine as it is served: its listeners, its clients and its main loop, in one nursery.

`qmpd.server.main_loop` runs the machine, `qmpd.server.acceptor` lets its clients in.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import trio

from qmpd.chardev.device import Chardev
from qmpd.human.command import lines_of
from qmpd.machine import SystemClock
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.qapi import load_release
from qmpd.schedule.clock import SteppedClock
from qmpd.server import log, signals
from qmpd.server.acceptor import Acceptor, listen
from qmpd.server.computer import ThisComputer
from qmpd.server.listener import ListenError, name_unix_connection
from qmpd.server.main_loop import MainLoop
from qmpd.server.output_host import OutputHost
from qmpd.server.pipes import until_written
from qmpd.server.places import socket_of
from qmpd.system import networks
from qmpd.system.system import System

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from qmpd.block.exports.exports import Listening
    from qmpd.control.dispatcher import ControlDispatcher
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import Clock
    from qmpd.migration.channel import Ways
    from qmpd.server.chardevs.devices import CharacterDevices
    from qmpd.server.disk_threads import DiskThreads
    from qmpd.server.listener import Listener
    from qmpd.server.pid_file import PidFile
    from qmpd.server.puppet_host import PuppetHost
    from qmpd.server.settings import MonitorSettings, VMSettings

# Seconds that a thread gives standard error.
_MOMENT = 0.5
_COMPUTER = ThisComputer()

FAREWELL = 2.0
"""Seconds that clients are given to take what is owed to them when the machine ends."""


class VirtualMachine(OutputHost):
    """A machine, its monitors and its clients.  `run` serves until the machine ends."""

    __slots__ = (
        "acceptor", "accepts", "clock", "control", "devices", "dispatcher", "handed_over", "listeners", "loop",
        "nursery", "pid_file", "puppet_host", "puppeteer", "running", "settings", "started", "system",
        "threads_of_disks",
    )  # fmt: skip

    nursery: trio.Nursery

    def __init__(
        self, settings: VMSettings, clock: Clock | None = None, inventory: Inventory | None = None
    ) -> None:
        """Prepare the machine.  Without a clock it gets the one that the settings ask for.

        `inventory` is what was built for it; without one its parts are built when they are asked for.

        :raise UnknownRelease: there is no release of that name.
        :raise ValueError: the settings' clock is none.
        """
        self.settings = settings
        self.clock: Clock = _clock(settings) if clock is None else clock
        self.loop = MainLoop(self)
        self.acceptor = Acceptor(self)
        self.listeners: list[tuple[MonitorSettings, Listener]] = []
        self.pid_file: PidFile | None = None
        # The character devices that are no listening sockets; None, almost always.
        self.devices: CharacterDevices | None = None
        # Whether another process serves the machine by now.
        self.handed_over = False
        # Who plays the machine (`play`), and what it is done with; None for almost all machines.
        self.puppeteer: Puppeteer | None = None
        self.puppet_host: PuppetHost | None = None
        # Who reads and writes the disks; None until somebody does.
        self.threads_of_disks: DiskThreads | None = None
        self.running = False
        self.started = False
        # Whether clients are accepted here, rather than by somebody who brings them (`Acceptor.serve_client`).
        self.accepts = True
        self.control: ControlDispatcher | None = None
        release = load_release(settings.release, settings.extensions)
        flag = release.behaviour.chardev_flag
        chardevs = [
            Chardev(each.chardev, each.name(flag), connected_address=name_unix_connection(each.path))
            for each in settings.monitors
        ]
        self.system = System(
            release,
            settings.machine,
            self.clock,
            self.loop.wake,
            chardevs,
            log.error,
            inventory,
            _COMPUTER,
        )
        self.system.machine.sender_name = signals.name_of
        self.system.host = self
        self.system.disk_pace = settings.disk_pace
        self.system.human = lines_of(self.system)
        if settings.machine.load_snapshot is not None:
            from qmpd.system import whole_snapshots

            tag = settings.machine.load_snapshot
            self.system.machine.start_by = lambda: whole_snapshots.start_from(self.system, tag)
        self.dispatcher = Dispatcher(self.system)
        self.system.report_defect = log.error
        if settings.descriptors:
            from qmpd.system.descriptors import Descriptors

            self.system.descriptors = Descriptors()
            for identifier, number, opaque in settings.descriptors:
                self.system.descriptors.add(number, identifier, opaque)
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
                self.listeners.append((monitor, listen(monitor)))
            if self.settings.chardevs:
                from qmpd.server.chardevs.devices import CharacterDevices

                self.devices = CharacterDevices(self)
                self.devices.open()
            if self.settings.debugger is not None:
                from qmpd.server import debugging

                debugging.begin(self, self.settings.debugger)
            networks.open_all(self.system)
            self.write_transcript()
        except BaseException as error:
            if tell is not None and isinstance(error, ListenError):
                for line in str(error).splitlines():
                    tell(line)
            self.let_go()
            raise

    def write_transcript(self) -> None:
        """Write the transcript to its file from now on, where one is asked for.

        :raise ListenError: the file cannot be written.
        """
        if self.settings.transcript is not None:
            self.play()
            assert self.puppet_host is not None
            self.puppet_host.write_transcript(self.settings.transcript)

    def let_go(self) -> None:
        """Close the disks' files, stop listening, and take the sockets away unless it ends as if it were killed."""
        self._close_disks()
        if self.threads_of_disks is not None:
            self.threads_of_disks.settle()
        for _, listener in self.listeners:
            if self._killed:
                listener.close()
            else:
                listener.remove()
        self.listeners.clear()
        for used in (self.devices, self.threads_of_disks):
            if used is not None:
                used.close()

    @property
    def _killed(self) -> bool:
        return self.puppet_host is not None and self.puppet_host.killed

    def _close_disks(self) -> None:
        self.system.close_exports()
        if self.system.built is not None:
            # Whoever goes on with the machine has its bitmaps, too; one that ends itself by exit() stores nothing.
            abrupt = self._killed or self.handed_over or self.system.machine.exit_status is not None
            self.system.built.close(orderly=not abrupt)

    async def run(self, on_start: Callable[[], None] | None = None) -> int:
        """Serve until the machine ends; the result is its exit status."""
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self.running = True
                try:
                    await self._begin(on_start)
                    if self.system.exit_status is None:
                        await self.loop.run()
                    if not self.handed_over:
                        await self._end()
                    if self.threads_of_disks is not None:
                        # Whoever sees that this machine has ended can use its disks.
                        self._close_disks()
                        await self.await_disks()
                    if self.puppet_host is not None and not self.handed_over:
                        self.puppet_host.close_clients()
                finally:
                    # Nobody is to bring clients to a nursery that is about to close.
                    self.running = False
                nursery.cancel_scope.cancel()
        finally:
            self.let_go()
            if self.puppet_host is not None:
                self.puppet_host.close()
            for connection in list(self.acceptor.connections):
                connection.close()
        status = self.system.exit_status
        assert status is not None
        return status

    async def _begin(self, on_start: Callable[[], None] | None) -> None:
        waiting, flag = [], self.system.release.behaviour.chardev_flag
        if self.devices is not None:
            self.nursery.start_soon(self.devices.run)
        for monitor, listener in self.listeners if self.accepts else ():
            first = trio.Event() if monitor.wait else None
            if first is not None:
                waiting.append((monitor.location, monitor.name(flag), first))
            self.acceptor.start(monitor, listener, first)
        if self.devices is not None:
            waiting += self.devices.waiting()
        for location, address, first in waiting:
            place = f"{location}: " if location else ""
            log.error(f"{place}info: QEMU waiting for connection on: disconnected:{address},server{flag}")
            await self.loop.until(first)
            if self.system.exit_status is not None:
                return
        if on_start is not None:
            on_start()
        self.start()
        if self.devices is not None:
            self.devices.begin()
        if self.settings.machine.load_snapshot is not None:
            # Nobody is served before the snapshot is loaded.
            self.disk_threads().settle()
        if self.settings.machine.incoming not in (None, "defer"):
            self.system.migrations.begin_to_wait()

    def start(self) -> None:
        """Start the machine; it needs no task for that.  Only once."""
        if not self.started:
            self.system.machine.start()
            self.started = True

    @property
    def keeps_up(self) -> bool:
        """Whether what clients have sent is executed before anything else goes on: a puppeteer counts on it."""
        return self.puppeteer is not None

    def work(self) -> None:
        """Do what a client has just asked for."""
        self.loop.work()

    async def _end(self) -> None:
        """Let everybody know that the machine has ended."""
        machine, status = self.system.machine, self.system.exit_status
        if machine.debugger is not None and status is not None and status >= 0:
            machine.debugger.ended(status)
            self.loop.flush()
        if self.puppet_host is not None:
            self.puppet_host.ended()
        # What was begun is written.
        await self.await_disks()
        await self._farewell()

    async def await_disks(self) -> None:
        """Wait until what was begun on the disks is done, but not for those that do not answer: they are given up."""
        if self.threads_of_disks is not None:
            await self.threads_of_disks.be_quiet()

    async def _farewell(self) -> None:
        """Let the clients take what is owed to them; one that does not read is not waited for long."""
        with trio.move_on_after(FAREWELL):
            for connection in list(self.acceptor.connections):
                if self._killed and connection.session.dispatcher is self.dispatcher:
                    continue
                while connection.owes:
                    await connection.progress()

    # Character devices that come and go while the machine runs

    def character_devices(self) -> CharacterDevices:
        """The machine's character devices, also where there are none yet."""
        from qmpd.server.chardevs.devices import CharacterDevices

        if self.devices is None:
            self.devices = CharacterDevices(self)
        return self.devices

    def open_monitor(self, settings: Mapping[str, Any]) -> None:
        """Have a monitor on a character device (`qmpd.system.ports.Host`)."""
        self.character_devices().attach(settings)

    def has_removable_monitor(self, label: str) -> bool:
        """Whether a monitor can be taken away (`qmpd.system.ports.Host`)."""
        return self.devices is not None and self.devices.has_removable_monitor(label)

    def close_monitor(self, label: str) -> None:
        """Take away a monitor (`qmpd.system.ports.Host`)."""
        if self.devices is not None:
            self.devices.detach(label)

    def open_debugger(self, device: str) -> bool:
        """Let debuggers connect (`qmpd.system.ports.Host`).

        :raise Refusal: the device cannot be opened, or the machine takes no debugger.
        """
        from qmpd.server import debugging

        return debugging.change_device(self, device)

    def open_chardev(self, label: str, backend: Mapping[str, Any]) -> str | None:
        """Open a character device (`qmpd.system.ports.Host`).

        :raise Refusal: it cannot be opened.
        """
        from qmpd.server.chardevs.devices import settings_of
        from qmpd.server.chardevs.probing import probe

        probe(backend)
        self.character_devices().add(settings_of(label, backend))
        return self.system.chardevs[-1].address.removeprefix("pty:") if backend["type"] == "pty" else None

    def disk_threads(self) -> DiskThreads:
        """The threads that read and write the machine's disks (`qmpd.system.ports.Host`)."""
        if self.threads_of_disks is None:
            from qmpd.server.disk_threads import DiskThreads

            real = isinstance(self.clock, SteppedClock)
            stands = (lambda: False) if real else (lambda: self.clock.real_seconds(1) is None)
            self.threads_of_disks = DiskThreads(self.system.machine.later, stands)
        return self.threads_of_disks

    def more_threads(self) -> DiskThreads:
        """Threads that write other files (`qmpd.system.ports.Host`)."""
        return self.disk_threads().beside()

    def open_nbd_server(self, address: Mapping[str, Any]) -> Listening:
        """Let clients of the machine's exports connect (`qmpd.system.ports.Host`).

        :raise Refusal: the address cannot be had.
        """
        from qmpd.server.exporting import NbdServer

        return NbdServer(self, address)

    def open_front_end(self, address: Mapping[str, Any], name: str) -> Listening:
        """Listen for what is turned away (`qmpd.system.ports.Host`).

        :raise Refusal: the address cannot be had.
        """
        from qmpd.server.exporting import FrontEnds

        return FrontEnds(self, address, name)

    def migration_ways(self) -> Ways:
        """Who makes the channels of migrations (`qmpd.system.ports.Host`)."""
        from qmpd.server.migrating import ServedWays

        return ServedWays(self)

    def do_apart(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do something in a thread of its own (`qmpd.system.ports.Host`)."""

        async def wait() -> None:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
            then()

        self.nursery.start_soon(wait)

    def wait_for_writer(self, path: str, then: Callable[[], None]) -> bool:
        """Have `then` done in the main loop once somebody has written to this named pipe (`qmpd.system.ports.Host`)."""
        try:
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                return False
            # A reader that does not block waits for the first writer's end of file.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False  # whoever opens it says what is wrong with it
        self.nursery.start_soon(until_written, descriptor, self.system.machine.later, then)
        return True

    async def _wait(self, descriptor: int, then: Callable[[], None]) -> None:
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        self.system.machine.later(then)

    def when_readable(self, descriptor: int, then: Callable[[], None]) -> None:
        """Have `then` done in the main loop once this can be read; it is closed (`qmpd.system.ports.Host`)."""
        self.nursery.start_soon(self._wait, descriptor, then)

    def give_client(self, label: str, number: int) -> bool:
        """Give a character device a client by its socket (`qmpd.system.ports.Host`)."""
        client = socket_of(number)
        monitor = next((each for each in self.settings.monitors if each.chardev == label), None)
        taken = False
        try:
            if monitor is not None:
                taken = self.acceptor.admit(monitor, client)
            elif self.devices is not None:
                taken = self.devices.give(label, client)
        finally:
            if not taken:
                client.close()
        return taken

    def close_chardev(self, label: str) -> None:
        """Close a character device."""
        if self.devices is not None:
            self.devices.remove(label)


def _clock(settings: VMSettings) -> Clock:
    if settings.clock == "real" and settings.control is None and settings.transcript is None:
        return SystemClock()
    if settings.clock == "stepped":
        return SteppedClock()
    from qmpd.control.clock import PuppetClock

    return PuppetClock.parse(settings.clock)
