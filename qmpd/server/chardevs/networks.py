"""The sockets of network backends: `stream`, `dgram` and `socket`.  Whoever is at the other end is heard, and what he
sends goes nowhere; nothing is ever sent to him.

They are carried as character devices are, which these are not: nobody sees them there.  (QEMU's net/stream.c,
net/dgram.c and net/socket.c; tests/emulator/test_network_sockets.py asks the real programs.)
"""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal, Worded
from qmpd.server import log
from qmpd.server.chardevs.device import Device
from qmpd.server.listener import Listener, ListenError
from qmpd.server.places import bind_inet, connected, described, listen_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.hardware.network import Netdev
    from qmpd.server.chardevs.device import Keep
    from qmpd.server.owner import DeviceOwner
    from qmpd.server.settings import ChardevSettings

LONGEST_FRAME = 4096 + 65536
"""Bytes that a frame has at most."""

_HEADER = 4
_CHUNK = 1 << 16
_ANY = "0.0.0.0"
_TOO_LONG = "serious error: oversized packet received,connection terminated.\n"
_STREAM, _SOCKET = "stream", "socket"


class Frames:
    """The frames of a stream, each behind its length in four bytes, as they come; nothing is kept of them."""

    __slots__ = ("_come", "_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        # Bytes of a frame that have come, and that are to come.
        self._come = self._left = 0

    def feed(self, data: bytes) -> bool:
        """Take some of it; whether it goes on: a frame of which too much has come ends the connection."""
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._come += taken
                self._left -= taken
                data = data[taken:]
                if self._come > LONGEST_FRAME:
                    return False
                continue
            need = _HEADER - len(self._header)
            self._header += data[:need]
            data = data[need:]
            if len(self._header) == _HEADER:
                self._come, self._left = 0, int.from_bytes(self._header, "big")
                self._header = b""
        return True


class NetworkSocket(Device):
    """What all of them have in common; `settings.network` is what the backend is given."""

    # What there is while there is a connection, or the socket of one that has none.
    _held: socket.socket | None = None
    _listener: Listener | None = None

    def open(self) -> None:
        """See `Device`: it is none of the machine's character devices."""

    @property
    def _values(self) -> Mapping[str, Any]:
        values = self.settings.network
        assert values is not None
        return values

    @property
    def _is_stream(self) -> bool:
        return bool(self._values["type"] == _STREAM)

    def _show(self, text: str) -> None:
        """Have `info network` say this of the backend."""
        netdev: Netdev | None = self.vm.system.inventory.backends.network.find(self._values["id"])
        if netdev is not None:
            netdev.state = text

    @property
    def _shown(self) -> str:
        netdev = self.vm.system.inventory.backends.network.find(self._values["id"])
        return "" if netdev is None else netdev.state

    def _say(self, code: str, **values: object) -> None:
        self._show(self.vm.system.release.refusals.message(Refusal(code, **values)))

    def _refuse(self, code: str, **values: object) -> NoReturn:
        """:raise ListenError: always."""
        raise ListenError(self.vm.system.release.refusals.message(Refusal(code, **values)))

    def _bind_inet(self, host: str, port: str, *, datagrams: bool = False) -> socket.socket:
        """:raise ListenError: somebody has the address by now (`qmpd.hardware.network_rules`)."""
        try:
            return bind_inet(host, port, datagrams=datagrams)
        except OSError as error:
            self._refuse("net-bind", address=host or _ANY, reason=error.strerror)

    def _tell(self, event: str, **data: object) -> None:
        machine = self.vm.system.machine
        machine.later(partial(machine.emit, event, {"netdev-id": self._values["id"], **data}))

    async def _hear(self, client: socket.socket) -> None:
        """Hear whoever is at the other end until he leaves."""
        self._held = client
        frames = Frames()
        try:
            while True:
                await trio.lowlevel.wait_readable(client)
                try:
                    data = client.recv(_CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                if not frames.feed(data):
                    log.raw(_TOO_LONG)
                    return
        except trio.ClosedResourceError:
            return  # the backend is gone
        finally:
            self._held = None
            client.close()

    def close(self) -> None:
        """See `Device`."""
        if self._listener is not None:
            self._listener.remove()
        if self._held is not None:
            trio.lowlevel.notify_closing(self._held)
            self._held.close()
            self._held = None

    def release(self) -> None:
        """See `Device`."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.close()

    def take(self, keep: Keep) -> Any:
        """See `Device`."""
        listening = None
        if self._listener is not None:
            listening = [keep(self._listener.socket.fileno()), self._listener.path, self._listener.identity]
        return [listening, None if self._held is None else keep(self._held.fileno())]

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        listening, held = state
        if listening is not None:
            number, path, identity = listening
            self._listener = Listener.inherit(path, descriptors[number], identity)
        if held is not None:
            self._held = socket.socket(fileno=descriptors[held])
            self._held.setblocking(False)


class ListeningBackend(NetworkSocket):
    """One that listens: a client at a time, while others wait."""

    def open(self) -> None:
        """See `Device`."""
        if not self._is_stream:
            host, _, port = self._values["listen"].partition(":")
            listening = self._bind_inet(host, port)
            listening.listen(0)
            self._listener = Listener.inherit("", listening.detach(), None)
            return
        try:
            address = self._values["addr"]
            if address["type"] == "fd":
                _open_file(address["str"]).close()
            self._listener = listen_at(address)
        except Refusal as refusal:
            self._say("stream-failed", reason=self.vm.system.release.refusals.message(refusal))
        else:
            self._say("stream-listening")

    async def run(self) -> None:
        """See `Device`."""
        if self._held is not None:
            await self._serve(self._held)  # another process has let it in
        listener = self._listener
        while listener is not None and (accepted := await listener.accept("a client of a network backend")) is not None:
            client, there = accepted
            self._tell_of(client, there)
            await self._serve(client)

    def _tell_of(self, client: socket.socket, there: Any) -> None:
        if not self._is_stream:
            self._show(f"socket: connection from {there[0]}:{there[1]}")
            return
        is_unix = client.family == socket.AF_UNIX
        address = described(client.family, client.getsockname() if is_unix else there)
        self._show(_uri(address))
        self._tell("NETDEV_STREAM_CONNECTED", addr=address)

    async def _serve(self, client: socket.socket) -> None:
        await self._hear(client)
        if self._is_stream:
            self._say("stream-listening")
            self._tell("NETDEV_STREAM_DISCONNECTED")
        else:
            self._show("")


class ConnectingBackend(NetworkSocket):
    """One that connects; a `stream` with `reconnect` again and again."""

    async def run(self) -> None:
        """See `Device`."""
        values = self._values
        pause = values.get("reconnect", 0) or values.get("reconnect-ms", 0) / 1000
        while True:
            client = self._held or await self._connected(again=bool(pause))
            if client is not None:
                await self._hear(client)
                self._left(again=bool(pause))
            if not pause:
                return
            await trio.sleep(pause)

    async def _connected(self, *, again: bool) -> socket.socket | None:
        """A connection, which is told of; None where there is none."""
        if self._is_stream:
            self._say("stream-connecting")
        try:
            stream = await self._reach()
        except Worded as refusal:
            if self._is_stream and not again:
                self._say("stream-failed", reason=refusal.message)
            return None
        client = socket.socket(fileno=stream.detach())
        client.setblocking(False)
        if not self._is_stream:
            self._show(f"socket: connect to {self._values['connect']}")
            return client
        with contextlib.suppress(OSError):  # he may be gone
            address = described(client.family, client.getpeername())
            self._show(_uri(address))
            self._tell("NETDEV_STREAM_CONNECTED", addr=address)
        return client

    async def _reach(self) -> trio.socket.SocketType:
        if not self._is_stream:
            host, _, port = self._values["connect"].partition(":")
            return await connected({"type": "inet", "host": host or _ANY, "port": port})
        address = self._values["addr"]
        if address["type"] != "fd":
            return await connected(address)
        return trio.socket.from_stdlib_socket(_open_file(address["str"]))

    def _left(self, *, again: bool) -> None:
        if not self._is_stream:
            self._show("")
            return
        if again:
            self._say("stream-connecting")
        else:
            self._say("stream-left", before=self._shown)
        self._tell("NETDEV_STREAM_DISCONNECTED")


class DatagramBackend(NetworkSocket):
    """One that has no connections; those for a group of computers are not opened, for nobody misses them."""

    def open(self) -> None:
        """See `Device`."""
        values = self._values
        if values["type"] == _SOCKET:
            self._show(f"socket: mcast={values['mcast']}" if "mcast" in values else f"socket: udp={values['udp']}")
            if "udp" in values:
                host, _, port = values["localaddr"].partition(":")
                self._held = self._bind_inet(host, port, datagrams=True)
            return
        local, remote = values.get("local"), values.get("remote")
        if local is None or remote is None or local["type"] == "fd":
            self._show("" if remote is None else f"mcast={remote['host']}:{remote['port']}")
        elif local["type"] == "unix":
            self._show(f"udp={local['path']}:{remote['path']}")
            self._held = self._bind_unix(local)
        else:
            self._show(f"udp={local['host']}:{local['port']}/{remote['host']}:{remote['port']}")
            self._held = self._bind_inet(local["host"], local["port"], datagrams=True)

    def _bind_unix(self, local: Mapping[str, Any]) -> socket.socket:
        # Whether the name is to be in no file system is asked by nobody.
        path = str(local["path"])
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            opened.bind(path)
        except OSError as error:
            opened.close()
            self._refuse("net-bind-unix", path=path, reason=error.strerror or str(error))
        return opened

    async def run(self) -> None:
        """See `Device`."""
        while self._held is not None:
            try:
                await trio.lowlevel.wait_readable(self._held)
                self._held.recv(_CHUNK)
            except trio.ClosedResourceError:
                return
            except OSError:
                continue  # nothing has come, or nobody is where something was sent


def _open_file(text: str) -> socket.socket:
    """A copy of the open file of this number, which does not block.

    :raise Worded: it is no socket; the names of files that clients have handed over mean nothing here.
    """
    if not is_digits(text):
        raise Worded(f"Unable to parse FD number {text}")
    try:
        opened = socket.socket(fileno=os.dup(from_digits(text)))
    except (OSError, OverflowError):
        raise Worded(f"File descriptor '{text}' is not a socket") from None
    opened.setblocking(False)
    return opened


def _uri(address: Mapping[str, Any]) -> str:
    """How `info network` calls an address."""
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    return f"tcp:{address['host']}:{address['port']}"


def new(vm: DeviceOwner, settings: ChardevSettings) -> NetworkSocket:
    """The socket of a backend."""
    values = settings.network
    assert values is not None
    if values["type"] == "dgram" or "udp" in values or "mcast" in values:
        return DatagramBackend(vm, settings)
    if values.get("server") or "listen" in values:
        return ListeningBackend(vm, settings)
    return ConnectingBackend(vm, settings)
