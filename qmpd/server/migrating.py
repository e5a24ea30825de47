"""The ways that migrations take: sockets, commands and files (`qmpd.migration.channel`).

The channels themselves are in `qmpd.server.moving`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from qmpd.common.addresses import socket_path, vsock_place
from qmpd.common.refusals import Refusal, Worded
from qmpd.server.listener import Listener, ListenError
from qmpd.server.migrating_tls import check_way, secured
from qmpd.server.moving import File, Moving
from qmpd.server.places import connected, described, socket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.migration.channel import Channel, Waiting, Way
    from qmpd.server.moving import MigratingMachine


class ServedWays:
    """Makes channels for one machine (`qmpd.migration.channel.Ways`)."""

    def __init__(self, vm: MigratingMachine) -> None:
        self._vm = vm

    def reach(self, way: Way, then: Callable[[Channel | str], None]) -> Callable[[], None]:
        """See `Ways`."""
        address = way.address
        match address["transport"]:
            case "exec":
                return self._given(self._command(list(address["args"]), outgoing=True), then)
            case "file":
                return self._given(self._file(address, outgoing=True), then)
            case "socket" if address["type"] == "fd" and not _is_socket(int(address["number"])):
                return self._given(self._open_file(int(address["number"]), outgoing=True), then)
            case "socket":
                check_way(way)
                scope = trio.CancelScope()
                self._vm.nursery.start_soon(self._connect, way, then, scope)
                return scope.cancel
        raise Worded("RDMA ERROR: could not create CM channel")

    def _given(self, channel: Channel, then: Callable[[Channel | str], None]) -> Callable[[], None]:
        """A channel that is there already; it is told of in the main loop's next turn."""
        self._vm.system.machine.later(lambda: then(channel))
        return lambda: None

    async def _connect(self, way: Way, then: Callable[[Channel | str], None], scope: trio.CancelScope) -> None:
        found: Channel | str = ""
        with scope:
            try:
                stream = await secured(trio.SocketStream(await connected(way.address)), way, server=False)
                found = Moving(self._vm, stream, "socket", answers=True, reads=True)
            except Worded as refusal:
                found = refusal.message
        if not scope.cancelled_caught:
            self._vm.system.machine.later(lambda: then(found))

    def _command(self, args: list[str], *, outgoing: bool) -> Moving:
        """:raise Refusal: there is no such command."""
        try:
            if outgoing:
                process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                pipe = process.stdin
            else:
                process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                pipe = process.stdout
        except (OSError, ValueError) as error:
            raise Worded(f"Failed to execute child process \u201c{args[0]}\u201d ({error})") from None
        assert pipe is not None
        stream = trio.lowlevel.FdStream(os.dup(pipe.fileno()))
        pipe.close()
        return Moving(self._vm, stream, "command", answers=False, reads=not outgoing, process=process)

    def _file(self, address: Mapping[str, Any], *, outgoing: bool) -> Moving:
        """:raise Refusal: it cannot be opened."""
        path, offset = address["filename"], int(address["offset"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if outgoing else os.O_RDONLY
        try:
            number = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o660)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Refusal("create-failed" if outgoing else "open-failed", path=path, reason=reason) from None
        if offset:
            os.lseek(number, offset, os.SEEK_SET)
        return self._open_file(number, outgoing=outgoing, called="file")

    def _open_file(self, number: int, *, outgoing: bool, called: str = "") -> Moving:
        """:raise Refusal: it is of no use."""
        mode = os.fstat(number).st_mode
        if stat.S_ISSOCK(mode):
            stream: Any = trio.SocketStream(trio.socket.from_stdlib_socket(socket_of(number)))
            return Moving(self._vm, stream, called or "socket", answers=True, reads=True)
        if stat.S_ISFIFO(mode):
            stream = trio.lowlevel.FdStream(number)
            return Moving(self._vm, stream, called or "file", answers=False, reads=not outgoing)
        rules = self._vm.system.release.behaviour
        if not called and rules.descriptors_of_files == "refused":
            os.close(number)
            raise Refusal("descriptor-of-file")
        timeless = self._vm.system.clock.real_seconds(1) is None
        file = File(number, takes_no_time=timeless)
        return Moving(self._vm, file, called or "file", answers=False, reads=not outgoing)

    def wait(self, way: Way, then: Callable[[Channel], None]) -> Waiting:
        """See `Ways`."""
        address = way.address
        match address["transport"]:
            case "exec":
                return _Pending(self._vm, self._command(list(address["args"]), outgoing=False), then)
            case "file":
                return _Pending(self._vm, self._file(address, outgoing=False), then)
            case "socket" if address["type"] == "fd":
                try:
                    return _Pending(self._vm, self._open_file(int(address["number"]), outgoing=False), then)
                except OSError:
                    return _Nobody()
            case "socket":
                check_way(way)
                return _Listening(self._vm, _listen(address), way, then)
        raise Worded("RDMA ERROR: could not create rdma event channel")


class _Nobody:
    """Where nobody ever comes from."""

    addresses: ClassVar[list[Mapping[str, Any]]] = []

    def close(self) -> None:
        """See `Waiting`."""


class _Pending(_Nobody):
    """A channel that is there: it counts once something can be read from it."""

    def __init__(self, vm: MigratingMachine, channel: Moving, then: Callable[[Channel], None]) -> None:
        self._vm = vm
        self._channel = channel
        self._then = then
        self._scope = trio.CancelScope()
        vm.nursery.start_soon(self._wait)

    def close(self) -> None:
        """See `Waiting`."""
        self._scope.cancel()

    async def _wait(self) -> None:
        came = False
        try:
            with self._scope:
                await self._until_it_speaks()
                came = True
        finally:
            if not came:
                self._channel.abandon()
        if came:
            self._vm.system.machine.later(lambda: self._then(self._channel))

    async def _until_it_speaks(self) -> None:
        stream = self._channel._stream
        if isinstance(stream, File):
            return
        number = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else stream.fileno()
        await trio.lowlevel.wait_readable(number)
        looking = select.poll()
        looking.register(number, select.POLLIN)
        if not any(events & select.POLLIN for _, events in looking.poll(0)):
            # It has ended without a word, which QEMU does not look for.
            await trio.sleep_forever()


class _Listening:
    """Sockets at which somebody may come."""

    def __init__(
        self, vm: MigratingMachine, listeners: list[Listener], way: Way, then: Callable[[Channel], None]
    ) -> None:
        self._vm = vm
        self._way = way
        self._listeners = listeners
        self._then = then
        self.addresses = [described(each.socket.family, each.socket.getsockname()) for each in listeners]
        for each in listeners:
            vm.nursery.start_soon(self._accept, each)

    def close(self) -> None:
        """See `Waiting`."""
        for each in self._listeners:
            each.remove()

    async def _accept(self, listener: Listener) -> None:
        try:
            while (accepted := await listener.accept("a migration")) is not None:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted[0]))
                if self._vm.system.migrations.ways.have_credentials:
                    self._vm.nursery.start_soon(self._secure, stream)
                else:
                    self._has_come(stream)
        finally:
            listener.remove()

    async def _secure(self, stream: trio.SocketStream) -> None:
        """Have TLS around it; who does not speak it has not come."""
        machine = self._vm.system.machine
        try:
            self._way.credentials()
        except Refusal as refusal:
            why = str(refusal)
            machine.later(lambda: self._vm.system.migrations.lacks_credentials(why))
            await stream.aclose()
            return
        try:
            self._has_come(await secured(stream, self._way, server=True))
        except Refusal as refusal:
            said = str(refusal)
            machine.later(lambda: machine.report(said))

    def _has_come(self, stream: Any) -> None:
        channel = Moving(self._vm, stream, "socket", answers=True, reads=True)
        self._vm.system.machine.later(lambda: self._then(channel))


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


def _listen(address: Mapping[str, Any]) -> list[Listener]:
    """:raise Refusal: nobody can be waited for there."""
    match address["type"]:
        case "unix":
            return [Listener(socket_path(address), replaces=True)]
        case "inet":
            return _listen_inet(address["host"], str(address["port"]))
    vsock_place(address)
    raise ListenError(f"Failed to bind socket: {os.strerror(errno.EADDRNOTAVAIL)}")


def _listen_inet(host: str, port: str) -> list[Listener]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise Refusal("address-resolution", host=host, port=port, reason=error.strerror) from None
    listeners: list[Listener] = []
    # Where IPv6 alone is named IPv4 is heard there, too.
    apart = any(each[0] == socket.AF_INET for each in found)
    for family, kind, protocol, _, where in sorted(found, key=lambda each: each[0] != socket.AF_INET6):
        listening = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, apart)
            if listeners:
                where = (where[0], listeners[0].socket.getsockname()[1], *where[2:])
            listening.bind(where)
            listening.listen()
        except OSError as error:
            listening.close()
            for each in listeners:
                each.close()
            what = "find an available port" if error.errno == errno.EADDRINUSE else "bind socket"
            raise ListenError(f"Failed to {what}: {error.strerror}") from None
        listeners.append(Listener.inherit("", listening.detach(), None))
    return listeners
