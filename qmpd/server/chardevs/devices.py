"""Character devices that are no listening Unix sockets: standard input and output, pseudo-terminals, files, and
sockets that connect (QEMU's `-chardev`).

What a monitor talks through is always a connected socket, so those that are none get a pair of sockets, and tasks that
copy between it and the device.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.plain import from_plain, to_plain
from qmpd.server import log
from qmpd.server.listener import BACKLOG, Listener, ListenError
from qmpd.server.settings import ChardevSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qmpd.server.settings import MonitorSettings
    from qmpd.server.virtual_machine import VirtualMachine
    from qmpd.system.chardev import Chardev
    from qmpd.system.descriptors import Descriptors

    Keep = Callable[[int], int]

_CHUNK = 1 << 16
_PATIENCE = 0.1
PTY_POLL = 0.2
"""Seconds between two looks at whether somebody has opened a pseudo-terminal; nothing tells of it."""


class CharacterDevices:
    """The devices of one machine: opened before it starts, closed when it ends."""

    __slots__ = ("_devices", "_scopes", "_vm")

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self._devices: list[_Device] = []
        # What ends what a device does.
        self._scopes: dict[str, trio.CancelScope] = {}

    def open(self) -> None:
        """Open all of them, and tell the monitor that they are there.

        :raise ListenError: one cannot be opened; the others are closed again.
        """
        try:
            for settings in self._vm.settings.chardevs:
                device = _KINDS.get(settings.backend, _Device)(self._vm, settings)
                self._devices.append(device)
                try:
                    device.open()
                except ListenError as error:
                    place = f"{settings.location}: " if settings.location else ""
                    raise ListenError(f"{place}{error}") from None
        except BaseException:
            self.close()
            raise

    def add(self, settings: ChardevSettings) -> _Device:
        """Open one more, while the machine runs.

        :raise ListenError: it cannot be opened.
        """
        device = _KINDS.get(settings.backend, _Device)(self._vm, settings)
        device.open()
        self._devices.append(device)
        self._vm.nursery.start_soon(self._carry, device)
        return device

    async def _carry(self, device: _Device) -> None:
        if device not in self._devices:
            return  # it was removed at once
        with trio.CancelScope() as scope:
            self._scopes[device.settings.label] = scope
            await device.run()

    def remove(self, label: str) -> None:
        """Close one."""
        scope = self._scopes.pop(label, None)
        if scope is not None:
            scope.cancel()
        for device in [device for device in self._devices if device.settings.label == label]:
            device.close()
            self._devices.remove(device)

    async def run(self) -> None:
        """Carry what passes through them until the machine ends."""
        async with trio.open_nursery() as nursery:
            for device in self._devices:
                nursery.start_soon(self._carry, device)

    def close(self) -> None:
        """Give them up."""
        for device in self._devices:
            device.close()
        self._devices.clear()

    # A live update

    def take(self, keep: Keep) -> list[list[Any]]:
        """The devices as plain data; `keep` gives the number by which that refers to an open file."""
        return [[to_plain(device.settings), device.take(keep)] for device in self._devices]

    def put(self, state: list[list[Any]], descriptors: Sequence[int]) -> None:
        """Have the devices that `take` made `state` of; the monitor knows them already."""
        for plain, inner in state:
            settings = from_plain(ChardevSettings, plain)
            device = _KINDS.get(settings.backend, _Device)(self._vm, settings)
            device.put(inner, descriptors)
            self._devices.append(device)

    def release(self) -> None:
        """Another process has them now: nothing more is read from them, and nothing is taken away."""
        for device in self._devices:
            device.release()
        self._devices.clear()


class _Device:
    """A device that nothing passes through: `null` and the like."""

    def __init__(self, vm: VirtualMachine, settings: ChardevSettings) -> None:
        self.vm = vm
        self.settings = settings

    def open(self) -> None:
        self.enter(self.settings.backend)

    def enter(self, address: str, listening: bool = False, yankable: bool = False) -> Chardev:
        """Make the device known to the monitor; `address` is what query-chardev calls it."""
        from qmpd.system.chardev import Chardev

        is_used = self.settings.monitor is not None or self.settings.listened
        entry = Chardev(self.settings.label, address, listening, yankable, is_used)
        self.vm.dispatcher.chardevs.append(entry)
        return entry

    async def run(self) -> None:
        return

    def close(self) -> None:
        return

    def take(self, keep: Keep) -> Any:
        """What is open, by the numbers that `keep` gives."""
        return None

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """Have what `take` told of."""

    def release(self) -> None:
        """Let go of what is open, without a trace."""
        self.close()

    async def talk(self, monitor: MonitorSettings, reads: int | None, writes: int) -> None:
        """Serve the monitor of this device from one descriptor to another, until input ends."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with ours:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.vm.converse, monitor, theirs)
                nursery.start_soon(_copy_out, ours, writes)
                if reads is not None:
                    await _copy_in(reads, ours)
                    with contextlib.suppress(OSError):
                        ours.shutdown(socket.SHUT_WR)


class _Stdio(_Device):
    """Standard input and output; a terminal hands over each key at once and shows none by itself."""

    _saved: list[object] | None = None

    def open(self) -> None:
        self.enter("stdio")
        with contextlib.suppress(termios.error, OSError):
            attributes = termios.tcgetattr(0)
            self._saved = list(attributes)
            attributes[0] = attributes[0] & ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            attributes[1] |= termios.OPOST
            attributes[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
            if not self.settings.signal:
                attributes[3] &= ~termios.ISIG
            termios.tcsetattr(0, termios.TCSANOW, attributes)

    async def run(self) -> None:
        if self.settings.monitor is not None:
            await self.talk(self.settings.monitor, 0, 1)

    def close(self) -> None:
        if self._saved is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._saved = None


class _File(_Device):
    """A file that takes what is written, and another one where `input_path` is given."""

    _writes = -1
    _reads: int | None = None

    def open(self) -> None:
        self.enter("file")
        settings = self.settings
        way = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if settings.append else os.O_TRUNC)
        files = self.vm.dispatcher.descriptors
        self._writes = _open(settings.path, way, files)
        if settings.input_path:
            self._reads = _open(settings.input_path, os.O_RDONLY | os.O_CLOEXEC, files)

    async def run(self) -> None:
        if self.settings.monitor is not None:
            await self.talk(self.settings.monitor, self._reads, self._writes)

    def close(self) -> None:
        for number in (self._writes, self._reads):
            if number is not None and number >= 0:
                os.close(number)
        self._writes, self._reads = -1, None

    def take(self, keep: Keep) -> Any:
        return [keep(self._writes), None if self._reads is None else keep(self._reads)]

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        writes, reads = state
        self._writes, self._reads = descriptors[writes], None if reads is None else descriptors[reads]


class _Pty(_Device):
    """A pseudo-terminal; whoever opens its other end is greeted."""

    _master = -1

    def open(self) -> None:
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise ListenError(f"Failed to create PTY: {error.strerror}") from None
        attributes = termios.tcgetattr(slave)
        attributes[0] = attributes[1] = 0
        attributes[2] = attributes[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        attributes[3] = 0
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        name = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.enter(f"pty:{name}")
        if self.vm.accepts:  # a machine of a fleet has no output of its own
            sys.stdout.write(f"char device redirected to {name} (label {self.settings.label})\n")
            sys.stdout.flush()

    async def run(self) -> None:
        monitor = self.settings.monitor
        if monitor is None:
            return
        looking = select.poll()
        looking.register(self._master, select.POLLHUP)
        while True:
            while looking.poll(0):  # noqa: ASYNC110 - nothing tells when somebody opens it
                await trio.sleep(PTY_POLL)
            await self.talk(monitor, self._master, self._master)

    def close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def take(self, keep: Keep) -> Any:
        return keep(self._master)

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        self._master = descriptors[state]


class _Socket(_Device):
    """A socket: `held` is a connection that nobody here uses."""

    held: socket.socket | None = None

    async def hold(self, client: socket.socket) -> None:
        """Serve a connection, or, where nobody uses it, drop what comes until it ends."""
        if self.settings.monitor is not None:
            await self.vm.converse(self.settings.monitor, client)
            return
        self.held = client
        entry = next(each for each in self.vm.dispatcher.chardevs if each.label == self.settings.label)
        if self.settings.host is not None and entry.listening:
            name_connection(self.vm.dispatcher.chardevs, entry.label, client)
        entry.held = True
        try:
            while True:
                await trio.lowlevel.wait_readable(client)
                try:
                    if not client.recv(_CHUNK):
                        return
                except BlockingIOError:
                    continue
        except (OSError, trio.ClosedResourceError):
            return
        finally:
            self.held = None
            entry.held = False
            client.close()

    def take(self, keep: Keep) -> Any:
        return None if self.held is None else keep(self.held.fileno())

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        if state is not None:
            self.held = socket.socket(fileno=descriptors[state])
            self.held.setblocking(False)

    def release(self) -> None:
        if self.held is not None:
            trio.lowlevel.notify_closing(self.held)
            self.held.close()


class _Client(_Socket):
    """A socket that connects instead of listening; with `reconnect` again and again."""

    _entry: Chardev

    def open(self) -> None:
        settings = self.settings
        self._entry = self.enter(f"disconnected:{_address(settings)}", yankable=True)
        if not settings.reconnect:
            self.held = self._connect()

    def _connect(self) -> socket.socket:
        settings = self.settings
        try:
            if settings.descriptor is not None:
                client = socket.socket(fileno=os.dup(settings.descriptor))
            elif settings.host is not None:
                client = socket.create_connection((settings.host, settings.port))
            else:
                client = _connect_unix(settings.path)
        except socket.gaierror as error:
            raise ListenError(
                f"address resolution failed for {settings.host}:{settings.port}: {error.strerror}"
            ) from None
        except OSError as error:
            where = settings.path if settings.host is None else f"{settings.host}:{settings.port}"
            raise ListenError(f"Failed to connect to '{where}': {error.strerror}") from None
        client.setblocking(False)
        self._entry.address = _describe(client)
        return client

    async def run(self) -> None:
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
                self._entry.address = f"disconnected:{_address(settings)}"
            if not settings.reconnect:
                return
            await trio.sleep(settings.reconnect)

    def close(self) -> None:
        if self.held is not None:
            self.held.close()
            self.held = None

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        super().put(state, descriptors)
        self._entry = next(each for each in self.vm.dispatcher.chardevs if each.label == self.settings.label)


class _Server(_Socket):
    """A socket that listens for something that is no monitor: its clients are let in and heard by nobody."""

    _listener: Listener | None = None

    def open(self) -> None:
        settings = self.settings
        if settings.host is not None:
            self._listener = listen_tcp(settings.host, settings.port)
        elif settings.descriptor is not None:
            self._listener = Listener.inherit("", settings.descriptor, None)
        else:
            self._listener = Listener(settings.path)
        self.enter(_name(self._listener.socket), listening=True, yankable=True)

    async def run(self) -> None:
        assert self._listener is not None
        listening = self._listener.socket
        if self.held is not None:
            await self.hold(self.held)  # another process has let it in
        while listening.fileno() != -1:
            try:
                await trio.lowlevel.wait_readable(listening)
                client, _ = listening.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except trio.ClosedResourceError:
                return
            except OSError as error:
                log.error(f"a client of {self.settings.label} has to wait: {error.strerror}")
                await trio.sleep(_PATIENCE)
                continue
            client.setblocking(False)
            await self.hold(client)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.remove()

    def take(self, keep: Keep) -> Any:
        assert self._listener is not None
        return [keep(self._listener.socket.fileno()), self._listener.identity, super().take(keep)]

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        number, identity, held = state
        self._listener = Listener.inherit(self.settings.path, descriptors[number], identity)
        super().put(held, descriptors)

    def release(self) -> None:
        super().release()
        if self._listener is not None:
            self._listener.close()


_KINDS: dict[str, type[_Device]] = {
    "stdio": _Stdio,
    "file": _File,
    "pty": _Pty,
    "connect": _Client,
    "listen": _Server,
}


def settings_of(label: str, backend: str, options: Mapping[str, Any]) -> ChardevSettings:
    """The settings of a device that `chardev-add` describes.

    :raise ValueError: it is one that is not opened here.
    """
    if backend == "file":
        return ChardevSettings(label=label, backend="file", path=options["out"], append=options.get("append", False))
    if backend == "pty":
        return ChardevSettings(label=label, backend="pty")
    address = options["addr"]
    data = address.get("data", {})
    kind = "listen" if options.get("server", True) else "connect"
    if address["type"] == "unix":
        return ChardevSettings(label=label, backend=kind, path=data["path"])
    if address["type"] == "inet":
        return ChardevSettings(label=label, backend=kind, host=data["host"], port=data["port"])
    if address["type"] == "fd":
        return ChardevSettings(label=label, backend=kind, descriptor=int(data["str"]))
    raise ValueError(f"qmpd does not model character devices with an address of type {address['type']}")


def listen_tcp(host: str, port: str) -> Listener:
    """A TCP socket that listens; the port is a number or a service's name.

    :raise ListenError: it cannot be made.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"address resolution failed for {host}:{port}: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(f"Failed to find an available port: {error.strerror}") from None
    return Listener.inherit("", listening.detach(), None)


def name_connection(chardevs: list[Chardev], label: str, client: socket.socket) -> None:
    """Note who is at the other end of a listening TCP socket."""
    for chardev in chardevs:
        if chardev.label == label:
            chardev.connected_address = _describe(client)


def _address(settings: ChardevSettings) -> str:
    if settings.descriptor is not None:
        return f"fd:{settings.descriptor}"
    if settings.host is not None:
        return f"tcp:{settings.host}:{settings.port}"
    return f"unix:{settings.path}"


def _name(listening: socket.socket) -> str:
    """A listening socket in the words of query-chardev; it is called by its address however it came."""
    name = listening.getsockname()
    return f"unix:{name}" if listening.family == socket.AF_UNIX else f"tcp:{name[0]}:{name[1]}"


def _describe(client: socket.socket) -> str:
    """A connected socket in the words of query-chardev."""
    if client.family == socket.AF_UNIX:
        return f"unix:{client.getsockname() or ''}"
    here, there = client.getsockname(), client.getpeername()
    return f"tcp:{here[0]}:{here[1]} <-> {there[0]}:{there[1]}"


def _connect_unix(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(path)
    except OSError:
        client.close()
        raise
    return client


def _open(path: str, way: int, files: Descriptors | None) -> int:
    """Open a file, or the one of a set that `/dev/fdset/NUMBER` stands for.

    :raise ListenError: it cannot be opened.
    """
    head, _, number = path.rpartition("/")
    try:
        if head == "/dev/fdset" and number.isdecimal() and files is not None:
            return files.open(int(number), way)
        return os.open(path, way, 0o666)
    except OSError as error:
        raise ListenError(f"Could not open '{path}': {error.strerror}") from None


def _can_wait(number: int) -> bool:
    """Whether one can wait for a descriptor; a file on a disk can always be read and written."""
    with select.epoll() as probe:
        try:
            probe.register(number)
        except PermissionError:
            return False
    return True


async def _readable(number: int, can_wait: bool) -> None:
    if can_wait:
        await trio.lowlevel.wait_readable(number)
    else:
        await trio.lowlevel.checkpoint()


async def _writable(number: int, can_wait: bool) -> None:
    if can_wait:
        await trio.lowlevel.wait_writable(number)
    else:
        await trio.lowlevel.checkpoint()


async def _copy_in(reads: int, ours: socket.socket) -> None:
    """Hand what can be read to the monitor until it ends."""
    can_wait = _can_wait(reads)
    while True:
        await _readable(reads, can_wait)
        try:
            data = memoryview(os.read(reads, _CHUNK))
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the other end of the pseudo-terminal was closed
        if not data:
            return
        while data:
            try:
                await trio.lowlevel.wait_writable(ours)
                data = data[ours.send(data) :]
            except BlockingIOError:
                continue
            except OSError:
                return


async def _copy_out(ours: socket.socket, writes: int) -> None:
    """Write what the monitor says; when the machine ends, all that it has said by then."""
    can_wait = _can_wait(writes)
    data = memoryview(b"")
    try:
        while True:
            await trio.lowlevel.wait_readable(ours)
            data = memoryview(ours.recv(_CHUNK))
            if not data:
                return
            while data:
                await _writable(writes, can_wait)
                try:
                    data = data[os.write(writes, data) :]
                except BlockingIOError:
                    continue
    except OSError:
        return  # nobody reads it any more
    finally:
        _drain(ours, writes, data)


def _drain(ours: socket.socket, writes: int, data: memoryview) -> None:
    while True:
        try:
            while data:
                data = data[os.write(writes, data) :]
            data = memoryview(ours.recv(_CHUNK))
        except OSError:
            return
        if not data:
            return
