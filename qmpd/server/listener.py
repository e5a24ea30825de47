"""Sockets that listen: made, and taken away, without harm to a server that already lives there; and what QEMU calls
them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.addresses import describe_unix, is_abstract, is_too_long, socket_name, socket_place
from qmpd.common.refusals import Worded
from qmpd.server import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Client = tuple[socket.socket, Any]
"""A client's socket and its address, as `socket.accept` gives them."""

BACKLOG = 1024
ONE_AT_A_TIME = 1
"""The backlog of a socket that serves one client at a time, as QEMU's do: the third that waits finds it full."""

PATIENCE = 0.1
"""Seconds until accepting is tried again where there was no room for a client."""

_GONE = frozenset({
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENONET,
    errno.ENOPROTOOPT,
    errno.EPERM,
    errno.EPROTO,
})
"""What accepting fails with where it is the client that is gone, or not let through (accept(2))."""


class ListenError(Worded):
    """The socket cannot be made; the text is the operating system's, with the path."""


class Listener:
    """A non-blocking Unix socket that listens at `path`, its file of mode 0600.

    The path may be a name that is in no file system, as `qmpd.common.addresses.socket_path` has it.
    """

    __slots__ = ("identity", "path", "socket")

    def __init__(self, path: str, *, backlog: int = BACKLOG, replaces: bool = False) -> None:
        """Bind and listen.  A file that is in the way is deleted, as QEMU does.

        `backlog` is how many clients can wait to be accepted (and one more: listen(2)).  A live server's socket is left
        alone unless `replaces`; QEMU takes even that one's place.

        :raise ListenError: a live server listens there, the path is no place for a socket, or the system refuses.
        """
        if is_too_long(path):
            raise ListenError(f"UNIX socket path '{socket_name(path)}' is too long")
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # The file gets the socket's mode; the process's mask is every thread's, so it is left alone.
        os.fchmod(self.socket.fileno(), 0o600)
        try:
            if not is_abstract(path):
                _make_room(path, replaces)
            self.socket.bind(path)
            self.socket.listen(backlog)
        except (OSError, ValueError) as error:
            self.socket.close()
            raise _refusal(path, getattr(error, "strerror", None) or str(error)) from None
        except ListenError:
            self.socket.close()
            raise
        self.identity = None if is_abstract(path) else _identity(path)

    @classmethod
    def inherit(cls, path: str, descriptor: int | None, identity: tuple[int, int] | None) -> Listener:
        """The listener of another process, which has handed over its open socket and the `identity` of its file.

        Without a descriptor it is one that does not listen at present.
        """
        listener = cls.__new__(cls)
        listener.path = path
        if descriptor is None:
            listener.socket = socket.socket(socket.AF_UNIX)
            listener.socket.close()
        else:
            # Of whichever family it is.
            listener.socket = socket.socket(fileno=descriptor)
            listener.socket.setblocking(False)
        listener.identity = identity
        return listener

    async def accept(
        self, wanted: str = "a client", before: Callable[[], Awaitable[None]] | None = None
    ) -> Client | None:
        """The next client; None once the socket is closed.

        `wanted` is what it is called while it has to wait; `before` is waited for when one has come.

        Nothing that a client does makes this fail, nor does a process that has no room for one more: it waits then.
        """
        told = False
        while self.socket.fileno() != -1:
            try:
                await trio.lowlevel.wait_readable(self.socket)
                if before is not None:
                    await before()
                client = self.accept_now()
            except trio.ClosedResourceError:
                break
            except OSError as error:
                if error.errno == errno.EBADF:
                    break
                if not told:
                    log.error(f"{wanted} has to wait: {error.strerror}")
                    told = True
                await trio.sleep(PATIENCE)
                continue
            if client is not None:
                return client
        return None

    def accept_now(self) -> Client | None:
        """A client that waits already, its socket non-blocking; None where there is none.

        :raise OSError: there is no room for it, most likely no file descriptor; it goes on waiting.
        """
        while True:
            try:
                client, address = self.socket.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            try:
                client.setblocking(False)
                if client.family != socket.AF_UNIX:
                    # An event is not to wait until the reply before it is acknowledged.
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # it is gone, which whoever reads from it will find
            return client, address

    def close(self) -> None:
        """Stop listening: a task that waits for clients is told, before the descriptor is somebody else's."""
        if self.socket.fileno() == -1:
            return
        with contextlib.suppress(RuntimeError):  # where trio does not run nobody waits
            trio.lowlevel.notify_closing(self.socket)
        self.socket.close()

    def remove(self) -> None:
        """Stop listening and delete the file, unless it is another server's by now."""
        self.close()
        if self.identity is not None and _identity(self.path) == self.identity:
            os.unlink(self.path)


def _refusal(path: str, reason: str) -> ListenError:
    return ListenError(f"Failed to bind socket to {socket_name(path)}: {reason}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_room(path: str, replaces: bool) -> None:
    """Delete the file at `path`.

    :raise ListenError: a live server's is not to be deleted, or it cannot be.
    """
    if not replaces:
        _check_dead(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ListenError(f"Failed to unlink socket {path}: {error.strerror}") from None


def _check_dead(path: str) -> None:
    """:raise ListenError: a live server listens there, or it cannot be told."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        code = probe.connect_ex(path)
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        # Connected, or its queue of waiting clients is full: somebody lives there.
        raise _refusal(path, os.strerror(errno.EADDRINUSE if code in (0, errno.EAGAIN) else code))


def listen_tcp(host: str, port: str, *, backlog: int = BACKLOG) -> Listener:
    """A TCP socket that listens; the port is a number or a service's name.  `backlog` as for Unix sockets.

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
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        what = "find an available port" if error.errno == errno.EADDRINUSE else "bind socket"
        raise ListenError(f"Failed to {what}: {error.strerror}") from None
    return Listener.inherit("", listening.detach(), None)


def describe_listener(listening: socket.socket, flag: str, scheme: str = "tcp") -> str:
    """A listening socket in the words of query-chardev; it is called by its address however it came.

    `flag` is what the release has behind a flag; `scheme` is what the address begins with where it is not a path.
    """
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return describe_unix(socket_place(name), flag)
    return f"{scheme}:{name[0]}:{name[1]}"


def inherited_name(descriptor: int) -> tuple[str, str]:
    """The path that an inherited socket listens at, or else how query-chardev names its address."""
    with socket.socket(fileno=os.dup(descriptor)) as listening:
        name = listening.getsockname()
    if isinstance(name, (str, bytes)):
        return socket_place(name), ""
    return "", f"tcp:{name[0]}:{name[1]}" if isinstance(name, tuple) else f"fd:{descriptor}"


def send_at_once(client: socket.socket) -> None:
    """Have small packets sent without waiting for more."""
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def name_unix_connection(path: str) -> str:
    """A connected Unix socket of this place in the words of query-chardev: a name in no file system is not told."""
    return "unix:" if is_abstract(path) else f"unix:{path}"


def describe_connection(client: socket.socket, there: Any = None, scheme: str = "tcp") -> str:
    """A connected socket in the words of query-chardev; `there` is the client's address, where that is known.

    Nothing where the client has turned away, which reading will find.  `scheme` as for `describe_listener`.
    """
    if client.family == socket.AF_UNIX:
        return name_unix_connection(socket_place(client.getsockname()))
    here = client.getsockname()
    if there is None:
        try:
            there = client.getpeername()
        except OSError:
            return ""
    return f"{scheme}:{here[0]}:{here[1]} <-> {there[0]}:{there[1]}"
