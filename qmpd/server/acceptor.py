"""Lets the clients of one machine in, and keeps them until they leave."""

from __future__ import annotations

from functools import partial
from socket import AF_UNIX
from typing import TYPE_CHECKING, Protocol

import trio

from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.descriptors import DescriptorSocket
from qmpd.server.listener import (
    BACKLOG,
    ONE_AT_A_TIME,
    Listener,
    ListenError,
    describe_connection,
    listen_tcp,
    send_at_once,
)
from qmpd.server.owner import MachineOwner

if TYPE_CHECKING:
    import socket
    from typing import Any

    from qmpd.monitor.session import Session
    from qmpd.server.settings import MonitorSettings


class Gate(Protocol):
    """Who can keep clients out (`qmpd.server.puppet_host.PuppetHost`)."""

    def is_qmp(self, monitor: MonitorSettings) -> bool:
        """Whether this is a QMP socket, not the control socket."""

    async def before_accept(self) -> None:
        """Wait as long as nobody is let in."""

    def turns_away(self) -> bool:
        """Whether the client that has just been accepted is not to be served."""


class GatedMachine(MachineOwner, Protocol):
    """Whoever serves a virtual machine, and may have a gate."""

    @property
    def puppet_host(self) -> Gate | None:
        """The gate; None for almost all machines."""


class Acceptor:
    """The clients of one machine: `connections` are there, `numbers` is how many have come."""

    __slots__ = ("_left", "_vm", "connections", "numbers")

    def __init__(self, vm: GatedMachine) -> None:
        self._vm = vm
        # Set when a client leaves.
        self._left = trio.Event()
        self.connections: set[Connection] = set()
        self.numbers = 0

    def start(self, monitor: MonitorSettings, listener: Listener, first: trio.Event | None = None) -> None:
        """Accept clients from now on; `first` is set when one has come."""
        self._vm.nursery.start_soon(self.accept, monitor, listener, first)

    async def accept(self, monitor: MonitorSettings, listener: Listener, first: trio.Event | None = None) -> None:
        """Accept clients until the socket is closed; `first` is set when one has come."""
        vm = self._vm
        while not vm.handed_over:
            accepted = await listener.accept(before=partial(self._before_accept, monitor))
            if accepted is None:
                return  # it was closed, or released: another process accepts here now
            client, address = accepted
            if first is not None:
                first.set()
            if not monitor.exclusive:
                self.serve_client(monitor, client, address)
            else:
                await self.converse(monitor, client, address)

    async def _before_accept(self, monitor: MonitorSettings) -> None:
        """Wait as long as nobody is let in, by a fault or by a monitor that serves one client at a time."""
        gate = self._vm.puppet_host
        if gate is not None and gate.is_qmp(monitor):
            await gate.before_accept()
        while monitor.exclusive and self._is_busy(monitor):
            await self._left.wait()

    def _is_busy(self, monitor: MonitorSettings) -> bool:
        """Whether a monitor has a client."""
        return any(connection.session.label == monitor.chardev for connection in self.connections)

    async def converse(self, monitor: MonitorSettings, client: socket.socket, address: Any = None) -> None:
        """Greet a client and serve it until it leaves."""
        connection = self._connect(monitor, client, address)
        if connection is not None:
            await self.serve(connection)

    def serve_client(self, monitor: MonitorSettings, client: socket.socket, address: Any = None) -> None:
        """Greet a client and serve it from now on."""
        connection = self._connect(monitor, client, address)
        if connection is not None:
            self.connections.add(connection)
            self._vm.nursery.start_soon(self.serve, connection)

    def admit(self, monitor: MonitorSettings, client: socket.socket) -> bool:
        """Serve a client that somebody else has let in; False where the monitor has one and takes no other."""
        if monitor.exclusive and self._is_busy(monitor):
            return False
        self.serve_client(monitor, client)
        return True

    def part(self, monitor: MonitorSettings) -> socket.socket | None:
        """End the session of a monitor's client; gives his connection, None where there is none."""
        for connection in self.connections:
            if connection.session.label == monitor.chardev:
                client = connection.socket.dup()
                connection.close()
                return client
        return None

    async def serve(self, connection: Connection) -> None:
        """Serve a client until it leaves."""
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._left.set()
            self._left = trio.Event()

    def _connect(self, monitor: MonitorSettings, client: socket.socket, address: Any) -> Connection | None:
        """Greet a client; None where that fails, or a fault turns it away."""
        try:
            if self._takes_files(monitor, client) and not isinstance(client, DescriptorSocket):
                client = DescriptorSocket.adopt(client)
            return self._greet(monitor, client, address)
        except Exception as error:
            # Whatever is wrong with one client, or with what is done for it, the next one is served.
            log.defect("a client is turned away: qmpd failed at greeting it, a defect of qmpd", error)
            client.close()
            for session in [session for session in self._vm.dispatcher.sessions if session.owner is None]:
                self._vm.dispatcher.close_session(session)
            return None

    def _takes_files(self, monitor: MonitorSettings, client: socket.socket) -> bool:
        """Whether clients may hand over open files: on each QMP socket, but not to the puppeteer's."""
        if self._vm.control is not None and monitor is self._vm.settings.control:
            return False
        return monitor.mode == "control" and client.family == AF_UNIX

    def _greet(self, monitor: MonitorSettings, client: socket.socket, address: Any) -> Connection | None:
        vm = self._vm
        if vm.control is not None and monitor is vm.settings.control:
            return Connection(vm, client, vm.control.open_session(monitor.chardev, monitor.pretty), 0)
        if vm.puppet_host is not None and vm.puppet_host.turns_away():
            client.close()
            return None
        self.numbers += 1
        if monitor.host is not None or monitor.exclusive:
            for chardev in vm.system.chardevs:
                if chardev.label == monitor.chardev:
                    chardev.connected_address = describe_connection(client, address, monitor.scheme)
        session = self._open_session(monitor)
        log.info(f"client {self.numbers} connected to {session.label}")
        connection = Connection(vm, client, session, self.numbers)
        if monitor.mode == "gdb":
            send_at_once(client)
            # The machine has stopped, which others hear of.
            vm.work()
        return connection

    def _open_session(self, monitor: MonitorSettings) -> Session:
        system, dispatcher = self._vm.system, self._vm.dispatcher
        if monitor.mode == "readline":
            from qmpd.human.terminal import open_terminal

            return open_terminal(system, dispatcher, monitor.chardev)
        if monitor.mode == "qtest":
            from qmpd.qtest.protocol import open_qtest

            return open_qtest(system, dispatcher, monitor.chardev)
        if monitor.mode == "gdb":
            from qmpd.debugger.session import open_debugger

            return open_debugger(system, dispatcher, monitor.chardev)
        return dispatcher.open_session(monitor.chardev, monitor.pretty)


def listen(monitor: MonitorSettings) -> Listener:
    """The socket on which a monitor's clients come.

    :raise ListenError: it cannot be made.
    """
    backlog = ONE_AT_A_TIME if monitor.exclusive else BACKLOG
    try:
        if monitor.host is not None:
            return listen_tcp(monitor.host, monitor.port, backlog=backlog)
        if monitor.descriptor is None:
            return Listener(monitor.path, backlog=backlog, replaces=monitor.replaces)
        # Somebody else has made the file, and will take it away.
        return Listener.inherit(monitor.path, monitor.descriptor, None)
    except ListenError as error:
        if not monitor.location:
            raise
        raise ListenError(f"{monitor.location}: {error}") from None
