"""Lets the clients of one machine in, and keeps them until they leave."""

from __future__ import annotations

import errno
from socket import AF_UNIX
from typing import TYPE_CHECKING, Protocol

import trio

from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.listener import describe_connection
from qmpd.server.owner import MachineOwner

if TYPE_CHECKING:
    import socket

    from qmpd.server.listener import Listener
    from qmpd.server.settings import MonitorSettings

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PATIENCE = 0.1
"""Seconds until accepting is tried again after the process ran out of file descriptors."""


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

    __slots__ = ("_vm", "connections", "numbers")

    def __init__(self, vm: GatedMachine) -> None:
        self._vm = vm
        self.connections: set[Connection] = set()
        self.numbers = 0

    def start(self, monitor: MonitorSettings, listener: Listener, first: trio.Event | None = None) -> None:
        """Accept clients from now on; `first` is set when one has come."""
        self._vm.nursery.start_soon(self.accept, monitor, listener.socket, first)

    async def accept(self, monitor: MonitorSettings, listening: socket.socket, first: trio.Event | None) -> None:
        """Accept clients until the socket is closed; `first` is set when one has come."""
        vm = self._vm
        while not vm.handed_over:
            if listening.fileno() == -1:
                return  # it was closed while this task was busy
            try:
                await trio.lowlevel.wait_readable(listening)
                if vm.puppet_host is not None and vm.puppet_host.is_qmp(monitor):
                    await vm.puppet_host.before_accept()
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
        connection = self._connect(monitor, client)
        if connection is not None:
            await self.serve(connection)

    def serve_client(self, monitor: MonitorSettings, client: socket.socket) -> None:
        """Greet a client and serve it from now on."""
        connection = self._connect(monitor, client)
        if connection is not None:
            self.connections.add(connection)
            self._vm.nursery.start_soon(self.serve, connection)

    async def serve(self, connection: Connection) -> None:
        """Serve a client until it leaves."""
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def _connect(self, monitor: MonitorSettings, client: socket.socket) -> Connection | None:
        """Greet a client; None where a fault turns it away."""
        vm = self._vm
        if vm.control is not None and monitor is vm.settings.control:
            return Connection(vm, client, vm.control.open_session(monitor.chardev, monitor.pretty), 0)
        if vm.puppet_host is not None and vm.puppet_host.turns_away():
            client.close()
            return None
        self.numbers += 1
        if monitor.location and monitor.mode == "control" and client.family == AF_UNIX:
            from qmpd.server.descriptors import DescriptorSocket

            client = DescriptorSocket.adopt(client)
        if monitor.host is not None:
            for chardev in vm.dispatcher.chardevs:
                if chardev.label == monitor.chardev:
                    chardev.connected_address = describe_connection(client)
        if monitor.mode == "readline":
            from qmpd.human.terminal import open_terminal

            session = open_terminal(vm.dispatcher, monitor.chardev)
        elif monitor.mode == "qtest":
            from qmpd.qtest.protocol import open_qtest

            session = open_qtest(vm.dispatcher, monitor.chardev)
        else:
            session = vm.dispatcher.open_session(monitor.chardev, monitor.pretty)
        log.info(f"client {self.numbers} connected to {session.label}")
        return Connection(vm, client, session, self.numbers)
