"""What a puppeteer can do to a served machine's sockets and process; only made for machines that have one."""

from __future__ import annotations

import contextlib
import os
import resource
import signal as signals
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import trio

from qmpd.control.fault_list import FaultKind
from qmpd.server import log
from qmpd.server.acceptor import listen
from qmpd.server.listener import Listener, ListenError
from qmpd.server.owner import MachineOwner

if TYPE_CHECKING:
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.machine import Clock
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.server.acceptor import Acceptor
    from qmpd.server.connection import Connection
    from qmpd.server.listener import Client
    from qmpd.server.main_loop import MainLoop
    from qmpd.server.settings import MonitorSettings
    from qmpd.server.transcript_file import TranscriptFile
    from qmpd.system.system import System


class PlayedMachine(MachineOwner, Protocol):
    """Whoever serves the machine that is played; the attributes are those of `VirtualMachine`."""

    listeners: list[tuple[MonitorSettings, Listener]]

    @property
    def loop(self) -> MainLoop:
        """The machine's main loop."""

    @property
    def acceptor(self) -> Acceptor:
        """Who lets its clients in."""

    @property
    def running(self) -> bool:
        """Whether clients can be brought to it."""


class PuppetHost:
    """Serves a puppeteer (`qmpd.control.host.Host`).  Nothing here affects the control socket."""

    __slots__ = ("_accepting", "_vm", "killed", "puppeteer", "transcript")

    puppeteer: Puppeteer

    def __init__(self, vm: PlayedMachine) -> None:
        self._vm = vm
        self.killed = False
        self.transcript: TranscriptFile | None = None
        # Set while clients are accepted again; None where nothing keeps them from it.
        self._accepting: trio.Event | None = None

    @property
    def clock(self) -> Clock:
        """The machine's clock."""
        return self._vm.clock

    @property
    def system(self) -> System:
        """The machine."""
        return self._vm.system

    @property
    def dispatcher(self) -> Dispatcher:
        """The machine's monitors."""
        return self._vm.dispatcher

    def write_transcript(self, path: str) -> None:
        """Write the transcript to a file, too.

        :raise ListenError: it cannot be written.
        """
        from qmpd.server.transcript_file import TranscriptFile

        self.transcript = TranscriptFile(path, self.puppeteer.recorder)

    def inherit_transcript(self, path: str, descriptor: int) -> None:
        """Go on writing the transcript to a file that another process has handed over."""
        from qmpd.server.transcript_file import TranscriptFile

        self.transcript = TranscriptFile.inherit(path, descriptor, self.puppeteer.recorder)

    def ended(self) -> None:
        """The main loop has ended: the transcript tells of it, also to those who follow it."""
        status = self._vm.system.exit_status
        assert status is not None
        self.puppeteer.finish(status)
        self._vm.loop.flush()

    def close(self) -> None:
        """Nothing more will happen."""
        if self.transcript is not None:
            self.transcript.close()
            self.transcript = None

    @property
    def away(self) -> bool:
        """Whether the main loop runs no timers for now: it has not begun, or waits for something else."""
        return not self._vm.started or self._vm.loop.is_asked

    def wake(self) -> None:
        """Tell the main loop that there is work."""
        self._vm.loop.wake()

    def wake_later(self) -> None:
        """Tell it when others have had their turn."""
        trio.lowlevel.current_trio_token().run_sync_soon(self._vm.work)

    def step(self) -> bool:
        """Let the main loop go round once, without waiting; whether it is to go round again at once."""
        return self._vm.started and self._vm.loop.step()

    def flush(self) -> None:
        """Hand out what is owed to the clients."""
        self._vm.loop.flush()

    # What has been sent by now

    def catch_up(self) -> None:
        """Take in what clients have sent, and those that have connected, by now.

        Each connection reads when its task's turn comes; here the order in which things were sent on several
        sockets is kept, as far as somebody waited between them.
        """
        vm = self._vm
        if not vm.running:
            return
        if self._accepting is None:
            for monitor, listener in vm.listeners:
                while not monitor.exclusive and self.is_qmp(monitor):
                    accepted = _accepted(listener)
                    if accepted is None:
                        break
                    vm.acceptor.serve_client(monitor, *accepted)
        for connection in self._clients():
            connection.read_now()

    def close_ended(self) -> None:
        """Forget the clients that have closed their end and have been answered."""
        for connection in self._clients():
            if connection.session.drained and not connection.owes and connection.at_end:
                connection.close()

    def close_clients(self) -> None:
        """Close all connections, in the order in which they came."""
        for connection in self._clients():
            connection.close()

    def _clients(self) -> list[Connection]:
        dispatcher = self._vm.dispatcher
        connections = self._vm.acceptor.connections
        found = [each for each in connections if each.session.dispatcher is dispatcher and not each.closed]
        return sorted(found, key=lambda connection: connection.number)

    def is_qmp(self, monitor: MonitorSettings) -> bool:
        """Whether this is a QMP socket, not the control socket."""
        return monitor is not self._vm.settings.control

    # Faults of sockets and of the process

    async def before_accept(self) -> None:
        """Wait as long as there is no file descriptor for another client."""
        if self._accepting is not None:
            log.error("a client has to wait: Too many open files")
            await self._accepting.wait()

    def turns_away(self) -> bool:
        """Whether the client that has just been accepted is not to be served."""
        return self.puppeteer.fault_list.take((FaultKind.CLOSE_CONNECTIONS,)) is not None

    def exhaust_descriptors(self, exhausted: bool) -> None:
        """Accept nobody, as if there were no file descriptor left, or accept again."""
        if exhausted:
            if self._accepting is None:
                self._accepting = trio.Event()
        elif self._accepting is not None:
            self._accepting.set()
            self._accepting = None

    def refuse_connections(self, refuse: bool) -> None:
        """Stop listening, or listen again."""
        vm = self._vm
        for position, (monitor, listener) in enumerate(vm.listeners):
            if not self.is_qmp(monitor) or (listener.socket.fileno() == -1) == refuse:
                continue
            if refuse:
                listener.close()
                continue
            try:
                again = listen(replace(monitor, descriptor=None))
            except ListenError as error:
                log.error(str(error))
                continue
            vm.listeners[position] = (monitor, again)
            if vm.running:
                vm.acceptor.start(monitor, again)

    def kill(self, signal: int) -> None:
        """End as a process that this signal kills: the exit status is the negative of its number."""
        self.killed = True
        self._vm.system.exit_status = -signal


def _accepted(listener: Listener) -> Client | None:
    """A client that waits to be accepted, and can be."""
    try:
        return listener.accept_now()
    except OSError:
        return None  # whoever waits for clients tells of it


def die(signal: int) -> None:
    """End this process as `signal` ends one, without a core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signals.signal(signal, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_UNBLOCK, {signal})
    os.kill(os.getpid(), signal)
    os._exit(128 + signal)  # it was one that does not end a process
