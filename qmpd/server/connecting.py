"""Connecting without being out of reach: a peer that does not answer keeps no signal and no main loop waiting."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from qmpd.common.addresses import socket_name, socket_path, vsock_place
from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal
from qmpd.server.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOK = 0.02
"""Seconds between two looks at what has come meanwhile."""

PATIENCE = 2.0
"""Seconds that a machine which runs gives its peer; one that starts waits as long as it takes, as QEMU does."""


class Interrupted(BaseException):
    """A signal came while something was waited for before the machine has started; `number` is its."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def connect(family: int, address: object, *, starting: bool) -> socket.socket:
    """A connected stream socket, which does not block.

    :raise OSError: it cannot be connected; the machine runs, and its peer does not answer.
    :raise Interrupted: the machine is `starting`, and a signal has come.
    """
    if family == socket.AF_UNIX and not address:
        # As the kernel says to an empty path that ends with a NUL.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    client = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _connect(client, address, None if starting else time.monotonic() + PATIENCE)
    except BaseException:
        client.close()
        raise
    return client


def _connect(client: socket.socket, address: object, end: float | None) -> None:
    looking = select.poll()
    looking.register(client, select.POLLOUT)
    while (code := client.connect_ex(address)) not in (0, errno.EISCONN):  # type: ignore[arg-type]
        if code == errno.EAGAIN:
            time.sleep(_LOOK)  # the peer's queue of clients is full
        elif code in (errno.EINPROGRESS, errno.EALREADY):
            if looking.poll(_LOOK * 1000) and (code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                raise OSError(code, os.strerror(code))
        else:
            raise OSError(code, os.strerror(code))
        _look(end)


def _look(end: float | None) -> None:
    waiting = [number for number in SIGNALS if number in signal.sigpending()]
    if end is None and waiting:
        raise Interrupted(waiting[0])
    if end is not None and (waiting or time.monotonic() > end):
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def connect_host(host: str, port: str, *, starting: bool) -> socket.socket:
    """A TCP connection, which does not block.

    :raise gaierror: there is no such host.
    :raise OSError: it cannot be connected.
    :raise Interrupted: the machine is `starting`, and a signal has come.
    """
    failure: OSError | None = None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return connect(family, address, starting=starting)
        except OSError as error:
            failure = error
    assert failure is not None  # there is at least one address
    raise failure


def connect_to(address: Mapping[str, Any]) -> socket.socket:
    """A connection to a server (QAPI's SocketAddress); of `fd`, which is a number, a copy of what is open there.

    :raise Refusal: it cannot be reached.
    """
    kind = address["type"]
    if kind == "fd":
        return _copy_of(str(address["str"]))
    try:
        if kind == "unix":
            path = socket_path(address)
            where = socket_name(path)
            return connect(socket.AF_UNIX, path, starting=False)
        if kind == "inet":
            where = f"{address['host']}:{address['port']}"
            return connect_host(address["host"], str(address["port"]), starting=False)
        where = f"{address['cid']}:{address['port']}"
        return connect(socket.AF_VSOCK, vsock_place(address), starting=False)
    except socket.gaierror as error:
        raise Refusal(
            "address-resolution", host=address["host"], port=address["port"], reason=error.strerror
        ) from None
    except OSError as error:
        raise Refusal("connect-failed", place=where, reason=error.strerror) from None


def _copy_of(text: str) -> socket.socket:
    if not is_digits(text):
        raise Refusal("descriptor-name-missing", name=text)
    try:
        return socket.socket(fileno=os.dup(from_digits(text)))
    except (OSError, OverflowError):
        raise Refusal("descriptor-no-socket", text=text) from None
