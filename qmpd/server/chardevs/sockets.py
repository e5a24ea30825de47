"""Character devices that are sockets, those that connect and those that listen."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from qmpd.chardev.device import Chardev
from qmpd.common.addresses import describe_unix, socket_name
from qmpd.common.refusals import NotModelled
from qmpd.server import log
from qmpd.server.chardevs.device import Device
from qmpd.server.connecting import connect, connect_host
from qmpd.server.listener import (
    ONE_AT_A_TIME,
    Listener,
    ListenError,
    describe_connection,
    describe_listener,
    listen_tcp,
)
from qmpd.system import monitors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.chardev.telnet import Telnet
    from qmpd.server.chardevs.device import Keep
    from qmpd.server.settings import ChardevSettings, MonitorSettings


class SocketDevice(Device):
    """A socket: `held` is a connection that nobody here uses."""

    held: socket.socket | None = None
    # How many clients there are that speak anything but plain bytes, or are about to.
    speaking = 0
    _telnet: Telnet | None = None

    @property
    def flag(self) -> str:
        """What stands behind a flag in query-chardev."""
        return self.vm.system.release.behaviour.chardev_flag

    async def converse(self, client: socket.socket, address: Any = None) -> None:
        """Serve a new connection, which may have to be talked to in a way of its own."""
        if not self.settings.has_dialect:
            await self.hold(client, address)
            return
        from qmpd.server.chardevs import dialects

        if self._telnet is None:
            self._telnet = dialects.telnet_of(self.settings)
        self.speaking += 1
        try:
            spoken = await dialects.speak(client, self.settings, self._telnet)
            if spoken is not None:
                await self.hold(spoken, address)
        finally:
            self.speaking -= 1

    async def hold(self, client: socket.socket, address: Any = None) -> None:
        """Serve a connection: that of a monitor's client, or of whoever talks to the guest, until it ends."""
        settings = self.settings
        monitor = settings.monitor
        if monitor is not None:
            await self.serve(client, address)
            if monitor.removable and settings.monitor is monitor:
                machine = self.vm.system.machine
                machine.later(partial(monitors.client_left, self.vm.system, self.label))
            return
        self.held = client
        entry = self._of_the_machine()
        entry.held = True
        try:
            if entry.listening:
                entry.connected_address = describe_connection(client, address, settings.scheme)
            await self.serve(client, address)
        finally:
            if self.held is client:
                self.held = None
                entry.held = False

    def _of_the_machine(self) -> Chardev:
        """What the machine knows of this device; where it was taken away by now, what it would."""
        known = (each for each in self.vm.system.chardevs if each.label == self.label)
        return next(known, Chardev(self.label, ""))

    def take(self, keep: Keep) -> Any:
        """See `Device`."""
        return None if self.held is None else keep(self.held.fileno())

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        if state is not None:
            self.held = socket.socket(fileno=descriptors[state])
            self.held.setblocking(False)

    def release(self) -> None:
        """See `Device`."""
        if self.held is not None:
            trio.lowlevel.notify_closing(self.held)
            self.held.close()


class ConnectingSocket(SocketDevice):
    """A socket that connects instead of listening; with `reconnect` again and again."""

    _entry: Chardev

    def open(self) -> None:
        """See `Device`."""
        settings = self.settings
        self._entry = self.enter(f"disconnected:{address_of(settings, self.flag)}", yankable=True)
        if not settings.reconnect:
            self.held = self._connect(starting=not self.vm.started)
            self.lose_nothing()

    def _connect(self, starting: bool = False) -> socket.socket:
        settings = self.settings
        try:
            if settings.descriptor is not None:
                client = socket.socket(fileno=os.dup(settings.descriptor))
            elif settings.host is not None:
                client = connect_host(settings.host, settings.port, starting=starting)
            else:
                client = connect(socket.AF_UNIX, settings.path, starting=starting)
        except socket.gaierror as error:
            raise ListenError(
                f"address resolution failed for {settings.host}:{settings.port}: {error.strerror}"
            ) from None
        except OSError as error:
            where = socket_name(settings.path) if settings.host is None else f"{settings.host}:{settings.port}"
            raise ListenError(f"Failed to connect to '{where}': {error.strerror}") from None
        client.setblocking(False)
        self._entry.address = describe_connection(client, scheme=settings.scheme) or self._entry.address
        return client

    def give(self, client: socket.socket) -> bool:
        """See `Device`."""
        if not self._entry.address.startswith("disconnected:"):
            return False
        raise NotModelled("a client for a character device that connects")

    async def run(self) -> None:
        """See `Device`."""
        settings = self.settings
        while True:
            if self.held is None and settings.reconnect:
                try:
                    self.held = await trio.to_thread.run_sync(self._connect)
                except ListenError as error:
                    log.error(f"Unable to connect character device {settings.label}: {error}")
            client, self.held = self.held, None
            if client is not None:
                await self.hold(client)
                self._entry.address = f"disconnected:{address_of(settings, self.flag)}"
            if not settings.reconnect:
                return
            await trio.sleep(settings.reconnect)

    def close(self) -> None:
        """See `Device`."""
        if self.held is not None:
            self.held.close()
            self.held = None

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        super().put(state, descriptors)
        self._entry = next(each for each in self.vm.system.chardevs if each.label == self.label)


class ListeningSocket(SocketDevice):
    """A socket that listens for something that is no monitor: its clients are let in and heard by nobody."""

    _listener: Listener | None = None
    # Serves a client that was not let in here (`give`); it ends with the device.
    _given: trio.CancelScope | None = None
    # Set once that client has left.
    _left: trio.Event | None = None

    def open(self) -> None:
        """See `Device`."""
        settings = self.settings
        if settings.host is not None:
            self._listener = listen_tcp(settings.host, settings.port, backlog=ONE_AT_A_TIME)
        elif settings.descriptor is not None:
            self._listener = Listener.inherit("", settings.descriptor, None)
        else:
            self._listener = Listener(settings.path, backlog=ONE_AT_A_TIME, replaces=True)
        self.enter(describe_listener(self._listener.socket, self.flag, settings.scheme), listening=True, yankable=True)

    async def run(self) -> None:
        """See `Device`."""
        assert self._listener is not None
        if self.held is not None:
            await self.hold(self.held)  # another process has let it in
        wanted = f"a client of {self.settings.label}"
        while (accepted := await self._listener.accept(wanted, before=self._until_free)) is not None:
            if self.first is not None:
                self.first.set()
            await self.converse(*accepted)

    def attach(self, monitor: MonitorSettings) -> None:
        """See `Device`."""
        if self.settings.shared:
            super().attach(monitor)
        self.settings.monitor = monitor
        if self.held is not None:
            client = self.held.dup()
            trio.lowlevel.notify_closing(self.held)
            self.held.close()
            self._hand(client)

    def detach(self) -> None:
        """See `Device`."""
        monitor, self.settings.monitor = self.settings.monitor, None
        client = None if monitor is None else self.vm.acceptor.part(monitor)
        if client is not None:
            self._hand(client)

    def _hand(self, client: socket.socket) -> None:
        """Serve a client from now on that was served in another way so far."""
        self._left, self._given = trio.Event(), trio.CancelScope()
        self.vm.nursery.start_soon(self._hold_given, client, self._given, self._left)

    async def _until_free(self) -> None:
        while self._left is not None:
            await self._left.wait()

    def give(self, client: socket.socket) -> bool:
        """See `Device`."""
        if self.held is not None or self._left is not None or self.speaking:
            return False
        if not self.settings.has_dialect:
            if self.settings.monitor is not None:
                return self.vm.acceptor.admit(self.settings.monitor, client)
            self.held = client
            entry = self._of_the_machine()
            entry.held, entry.connected_address = True, describe_connection(client)
        self._hand(client)
        return True

    async def _hold_given(self, client: socket.socket, scope: trio.CancelScope, left: trio.Event) -> None:
        with scope:
            await self.converse(client)
        if self._left is left:  # nobody else has it by now
            self._of_the_machine().connected_address = ""
            self._left = self._given = None
        left.set()

    def close(self) -> None:
        """See `Device`."""
        if self._given is not None:
            self._given.cancel()
        if self._listener is not None:
            self._listener.remove()

    def take(self, keep: Keep) -> Any:
        """See `Device`."""
        assert self._listener is not None
        return [keep(self._listener.socket.fileno()), self._listener.identity, super().take(keep)]

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        number, identity, held = state
        self._listener = Listener.inherit(self.settings.path, descriptors[number], identity)
        super().put(held, descriptors)

    def release(self) -> None:
        """See `Device`."""
        super().release()
        if self._listener is not None:
            self._listener.close()


def address_of(settings: ChardevSettings, flag: str) -> str:
    """What query-chardev calls a socket that has no connection; `flag` is what the release has behind a flag."""
    if settings.descriptor is not None:
        return f"fd:{settings.descriptor}"
    if settings.host is not None:
        return f"{settings.scheme}:{settings.host}:{settings.port}"
    return describe_unix(settings.path, flag)
