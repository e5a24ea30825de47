"""Listening at addresses and connecting to them, as QAPI's SocketAddress has them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.addresses import (
    is_too_long,
    port_of,
    socket_name,
    socket_path,
    socket_place,
    unix_address,
    vsock_place,
)
from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal, Worded
from qmpd.server.listener import Listener, listen_tcp

if TYPE_CHECKING:
    from collections.abc import Mapping


def listen_at(address: Mapping[str, Any]) -> Listener:
    """The socket that listens at an address.

    :raise Refusal: it cannot be had.
    """
    kind = address["type"]
    if kind == "unix":
        return Listener(socket_path(address), replaces=True)
    if kind == "inet":
        return _listen_inet(address)
    if kind == "fd":
        return _inherit(int(address["str"]))
    return _listen_vsock(address)


def _listen_inet(address: Mapping[str, Any]) -> Listener:
    if not is_digits(address.get("port", "")) or "to" not in address:
        return listen_tcp(address.get("host", ""), address["port"])
    first = from_digits(address["port"])
    for port in range(first, from_digits(str(address["to"])) + 1):
        try:
            return listen_tcp(address.get("host", ""), str(port))
        except Worded as error:
            last = error
    raise last


def bind_inet(host: str, port: str, *, datagrams: bool = False) -> socket.socket:
    """A socket that has an IPv4 address, an empty host being any, and does not block.

    :raise OSError: it cannot have it.
    """
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port_of(port)))
    except OSError:
        opened.close()
        raise
    return opened


def _inherit(number: int) -> Listener:
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise Refusal("descriptor-no-socket", text=str(number))
    except OSError as error:
        raise Worded(f"Unable to use file descriptor '{number}': {error.strerror}") from None
    with socket.socket(fileno=os.dup(number)) as opened:
        if not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            try:
                opened.listen()
            except OSError as error:
                os.close(number)
                raise Worded(f"Failed to listen on fd socket: {error.strerror}") from None
    return Listener.inherit("", number, None)


def _listen_vsock(address: Mapping[str, Any]) -> Listener:
    place = vsock_place(address)
    try:
        opened = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        raise Worded(f"Failed to create socket: {error.strerror}") from None
    try:
        opened.bind(place)
        opened.listen()
    except OSError as error:
        opened.close()
        what = "bind" if error.errno != errno.EOPNOTSUPP else "listen on"
        raise Worded(f"Failed to {what} socket: {error.strerror}") from None
    return Listener.inherit("", opened.detach(), None)


def described(family: int, name: Any) -> Mapping[str, Any]:
    """The address of a socket of this family that has this name."""
    if family == socket.AF_UNIX:
        return {"type": "unix", **unix_address(socket_place(name))}
    version = "ipv6" if family == socket.AF_INET6 else "ipv4"
    return {"type": "inet", "host": name[0], "port": str(name[1]), version: True}


def socket_of(number: int) -> socket.socket:
    """The socket that an open file is; it does not block from now on."""
    found = socket.socket(fileno=number)
    found.setblocking(False)
    return found


async def connected(address: Mapping[str, Any]) -> trio.socket.SocketType:
    """A connection to an address; of an open file its `number` counts.

    :raise Worded: it cannot be reached.
    """
    match address["type"]:
        case "fd":
            return trio.socket.from_stdlib_socket(socket_of(int(address["number"])))
        case "unix":
            path = socket_path(address)
            if is_too_long(path):
                raise Worded(f"UNIX socket path '{socket_name(path)}' is too long")
            return await _connect(socket.AF_UNIX, path, socket_name(path))
        case "inet":
            host, port = address["host"], str(address["port"])
            try:
                found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                raise Worded(f"address resolution failed for {host}:{port}: {error.strerror}") from None
            failure = Worded(f"Failed to connect to '{host}:{port}'")
            for family, _, _, _, where in found:
                try:
                    return await _connect(family, where, f"{host}:{port}")
                except Worded as error:
                    failure = error
            raise failure
    return await _connect(socket.AF_VSOCK, vsock_place(address), f"{address['cid']}:{address['port']}")


async def _connect(family: int, where: Any, called: str) -> trio.socket.SocketType:
    try:
        client = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await client.connect(where)
        except BaseException:
            client.close()
            raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Worded(f"Failed to connect to '{called}': {reason}") from None
    return client
