"""nbd: what a server exports.  (QEMU's block/nbd.c.)"""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from qmpd.block.exports import protocol
from qmpd.block.exports.client import Session
from qmpd.block.images.errors import ImageError, failure
from qmpd.block.images.errors import text as error_text
from qmpd.block.pausing import slow
from qmpd.common.refusals import Refusal, Worded
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.block.exports.client import Stream
    from qmpd.block.nodes import BlockNode

    class Connector(Protocol):
        """Who has sockets, and the objects with TLS credentials."""

        def __call__(self, address: Mapping[str, Any]) -> Stream:
            """Connect to a server (QAPI's SocketAddress).

            :raise Refusal: it cannot be reached.
            """

_PORT = "10809"
_AHEAD = 128 << 10
"""So much of the beginning is read as soon as the server is there: formats are looked for there."""
_PAUSE = 0.1
_GLANCE = 0.01
"""Seconds between two tries to connect, and between two looks whether anybody still waits for that."""


class Nbd:
    """What a server exports (`qmpd.block.content.Content`).

    Where the connection is lost requests fail, and the next one connects again; with a `reconnect-delay` they wait for
    so many seconds after the loss, or until `cancel` is called.
    """

    allocated = None

    def __init__(self, connect: Callable[[], Session], patience: int = 0) -> None:
        """:raise Refusal: there is no such server, or no such export."""
        self._connect = connect
        self._patience = patience
        self._lock = threading.Lock()
        self._session: Session | None = connect()
        self.size = self._session.size
        self.is_read_only = self._session.is_read_only
        self.is_extended = self._session.extended
        # Whether it tells what is dirty, not what is allocated.
        self.tells_dirty = False
        self._closed = False
        # Until when requests wait for the server, by the monotonic clock.
        self._until = 0.0
        # The beginning, for as long as the node is being opened.
        self._ahead: bytes | None = None

    def look_ahead(self) -> None:
        """Read the beginning before anybody asks for it."""
        try:
            self._ahead = self.read(0, min(self.size, _AHEAD))
        except OSError:
            self._ahead = None

    def forget_ahead(self) -> None:
        """Ask the server for all bytes from now on."""
        self._ahead = None

    def _do(self, ask: Callable[[Session], Any]) -> Any:
        """Ask the server for something.

        :raise OSError: it fails there, or there is no server any more.
        """
        with self._lock:
            while not self._closed:
                try:
                    session = self._session
                    if session is not None:
                        return ask(session)
                    # It may have been yanked meanwhile.
                    self._session = self._again()
                except (ConnectionError, TimeoutError, Refusal):
                    session, self._session = self._session, None
                    if session is not None:
                        session.close()
                        self._until = time.monotonic() + self._patience
                    if not self._may_wait():
                        break
            if self._closed:
                self._end()
            raise failure(errno.EIO)

    def _may_wait(self) -> bool:
        """Wait for a moment; whether the server may still come back."""
        until = min(self._until, time.monotonic() + _PAUSE)
        while (left := until - time.monotonic()) > 0 and self._until and not self._closed:
            time.sleep(min(left, _GLANCE))
        return time.monotonic() < self._until

    def cancel(self) -> None:
        """Nobody waits for the server any more; what is asked of it fails until it is back."""
        self._until = 0.0

    def _again(self) -> Session:
        session = self._connect()
        if session.size != self.size or session.is_read_only != self.is_read_only:
            session.close()
            raise Worded("the export is another one by now")
        return session

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        ahead = self._ahead
        if ahead is not None and offset + length <= len(ahead):
            return ahead[offset : offset + length]
        return self._read(offset, length)

    @slow
    def _read(self, offset: int, length: int) -> bytes:
        # A server's last sector may be shorter than ours.
        there = max(0, min(length, self.size - offset))
        data: bytes = self._do(lambda session: session.read(offset, there)) if there else b""
        return data.ljust(length, b"\0")

    @slow
    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self._ahead = None
        self._do(lambda session: session.write(offset, data))

    @slow
    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self._ahead = None
        self._do(lambda session: session.zero(offset, length, unmap=unmap))

    @slow
    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them."""
        self._ahead = None
        self._do(lambda session: session.discard(offset, length))

    def truncate(self, size: int) -> None:
        """It cannot grow; to be smaller means nothing.

        :raise ImageError: it is to grow.
        """
        if size > self.size:
            raise ImageError("Cannot grow NBD nodes", errno.EINVAL)

    @slow
    def flush(self) -> None:
        """Return when all that was written survives."""
        self._do(lambda session: session.flush())

    def status(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Lengths, and what `base:allocation`, or the context of `x-dirty-bitmap`, tells of them."""
        yield from self._do(lambda session: list(session.status(offset, length)))

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """All of it counts as allocated, but for what is dirty where that is told."""
        if not self.tells_dirty:
            yield length, True
            return
        for part, told in self.status(offset, length):
            yield part, not told & protocol.HOLE or bool(told & protocol.ZERO)

    def yank(self) -> None:
        """End the connection, and have none any more: whoever waits for the server gets an error.

        It waits for nobody itself: what keeps the disks' threads busy may be what it is to end.
        """
        self._end()

    @slow
    def close(self) -> None:
        """Take leave of the server."""
        self._end()

    def _end(self) -> None:
        self._closed = True
        # Whoever waits for the server has the lock, and finds the connection ended.
        session, self._session = self._session, None
        if session is not None:
            session.close()


# Options


def key_of(options: Mapping[str, Any]) -> str:
    """What tells one connection from another."""
    server = options.get("server")
    place = sorted(server.items()) if isinstance(server, dict) else server
    rest = ("export", "tls-creds", "tls-hostname", "path", "host", "port", "x-dirty-bitmap")
    return repr([place, *((name, options.get(name)) for name in rest)])


def failure_to_open(number: int) -> MachineError:
    """What refuses an export that is not what options ask for."""
    return MachineError(f"Could not open image: {error_text(number)}")


def open_nbd(
    options: Mapping[str, Any], connect: Connector, credentials: Mapping[str, Any] | None, *, extended: bool = False
) -> Nbd:  # fmt: skip
    """Connect to what options name; `credentials` are those of its TLS.  `extended`: see `Session`.

    :raise Refusal: it cannot be reached, or refuses.
    """
    address = address_of(options)
    export = str(options.get("export", ""))
    if len(export.encode("utf-8", "surrogateescape")) > protocol.LONGEST_STRING:
        raise MachineError("export name too long to send to server")
    hostname = str(options.get("tls-hostname", address.get("host", "")))

    context = str(options.get("x-dirty-bitmap", protocol.BASE))

    def begin() -> Session:
        stream = connect(address)
        session = Session(stream, extended=extended)
        try:
            session.negotiate(export, credentials, hostname, context)
            if context != protocol.BASE and not session.tells_status:
                raise failure_to_open(errno.EINVAL)
        except (OSError, EOFError) as error:
            stream.close()
            raise Worded(f"Failed to negotiate with the server: {error}") from None
        except BaseException:
            stream.close()
            raise
        return session

    def patiently() -> Session:
        end = time.monotonic() + int(options.get("open-timeout", 0))
        while True:
            try:
                return begin()
            except Refusal:
                if time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE)

    opened = Nbd(patiently, int(options.get("reconnect-delay", 0)))
    opened._connect = begin
    opened.tells_dirty = context != protocol.BASE
    return opened


def address_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The server that options name, as QAPI's SocketAddress has it; `path`, `host` and `port` are an older way.

    :raise Refusal: they name none.
    """
    path, host, port = (options.get(name) for name in ("path", "host", "port"))
    if "server" in options and (path, host, port) != (None, None, None):
        raise MachineError("Cannot use 'server' and path/host/port at the same time")
    if path is not None and host is not None:
        raise MachineError("path and host may not be used at the same time")
    if path is not None:
        if port is not None:
            raise MachineError("port may not be used without host")
        return {"type": "unix", "path": path}
    if host is not None:
        return {"type": "inet", "host": host, "port": str(port if port is not None else _PORT)}
    server = options.get("server")
    if not isinstance(server, dict) or "type" not in server:
        raise MachineError("NBD server address missing")
    return server


def name_of(options: Mapping[str, Any]) -> str:
    """What queries call what options name; empty where no name tells it."""
    address, export = address_of(options), options.get("export", "")
    if address["type"] == "unix":
        return f"nbd+unix:///{export}?socket={address['path']}" if export else f"nbd+unix://?socket={address['path']}"
    if address["type"] == "inet":
        where = f"nbd://{address['host']}:{address['port']}"
        return f"{where}/{export}" if export else where
    return ""


def parse_name(filename: str) -> dict[str, Any]:
    """The options of a name that begins with `nbd:` or `nbd+`.

    :raise Refusal: it is none.
    """
    if "://" in filename:
        return _of_url(filename)
    rest = filename.removeprefix("nbd:")
    rest, found, export = rest.partition(":exportname=")
    options: dict[str, Any] = {"driver": "nbd"}
    if (found and not export) or not rest:
        raise MachineError("NBD server address missing")
    if found:
        options["export"] = export
    if rest.startswith("unix:"):
        return {**options, "server": {"type": "unix", "path": rest.removeprefix("unix:")}}
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise Refusal("address-unreadable", text=rest)
    return {**options, "server": {"type": "inet", "host": host.strip("[]"), "port": port}}


def _of_url(filename: str) -> dict[str, Any]:
    scheme = filename.partition("://")[0]
    wrong = MachineError("No valid URL specified")
    try:
        url = urlsplit(filename)
        port = url.port
    except ValueError:
        raise wrong from None
    query = parse_qsl(url.query, keep_blank_values=True)
    options: dict[str, Any] = {"driver": "nbd"}
    export = unquote(url.path.removeprefix("/"))
    if export:
        options["export"] = export
    if scheme == "nbd+unix":
        if url.netloc or len(query) != 1 or query[0][0] != "socket":
            raise wrong
        return {**options, "server": {"type": "unix", "path": query[0][1]}}
    if query or not url.hostname:
        raise wrong
    return {**options, "server": {"type": "inet", "host": url.hostname, "port": str(port or _PORT)}}


def location_of(node: BlockNode) -> str:
    """The name of a node with this driver."""
    return name_of(node.options)


def limits_of(node: BlockNode) -> dict[str, int]:
    """What is asked of requests to a node with this driver (QAPI's BlockLimitsInfo)."""
    limits = {
        "request-alignment": 1, "opt-transfer": 4096, "min-mem-alignment": 512,
        "max-transfer": protocol.LONGEST_REQUEST, "opt-mem-alignment": 4096, "max-iov": 1024,
    }  # fmt: skip
    if not node.read_only and not getattr(node.content, "is_extended", False):
        limits |= {"max-write-zeroes": protocol.LONGEST_REQUEST, "max-discard": (1 << 31) - 1}
    return limits
