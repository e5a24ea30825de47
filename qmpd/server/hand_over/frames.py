"""How a parent and its child talk: messages of plain data, and open files with them, over a private socket.

A frame is a head, one byte for each batch of descriptors, and the message.  A message is a dictionary of what
`marshal` knows, in its format 4, which every Python from 3.4 on reads.  The peer is this program's own child,
so what comes is trusted to be well meant, but not to be of the same version: `FORMAT` is the first thing told.
"""

from __future__ import annotations

import array
import marshal
import socket
import struct
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = dict[str, Any]

FORMAT = 2
"""The version of the messages' content; a process refuses one that it does not know."""

_HEAD = struct.Struct("!4sQI")
_MAGIC = b"QMPU"
_MARSHAL_VERSION = 4
# Linux takes that many descriptors at once (SCM_MAX_FD).
_BATCH = 253
_CHUNK = 1 << 20


class Disconnected(Exception):  # noqa: N818 - it says what happened
    """The peer has closed its end."""

    def __init__(self) -> None:
        super().__init__("the other process is gone")


class BadFrame(Exception):  # noqa: N818 - it says what came
    """What came is no frame."""


def _frame(message: Message, descriptors: int = 0) -> tuple[bytes, bytes]:
    payload = marshal.dumps(message, _MARSHAL_VERSION)
    return _HEAD.pack(_MAGIC, len(payload), descriptors), payload


def send(channel: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message and the open files that belong to it; waits as long as the socket's timeout allows.

    :raise OSError: it cannot be sent; TimeoutError, where the peer does not take it in time.
    """
    head, payload = _frame(message, len(descriptors))
    channel.sendall(head)
    for start in range(0, len(descriptors), _BATCH):
        batch = array.array("i", descriptors[start : start + _BATCH])
        channel.sendmsg([b"D"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, batch)])
    channel.sendall(payload)


def receive(channel: socket.socket) -> tuple[Message, list[int]]:
    """The next message, and the open files that came with it; waits as long as the socket's timeout allows.

    :raise Disconnected: the peer has closed its end.
    :raise BadFrame: what came is no frame.
    :raise OSError: the socket fails; TimeoutError, where nothing comes in time.
    """
    size, count = _unpack(_receive_exactly(channel, _HEAD.size))
    descriptors: list[int] = []
    for start in range(0, count, _BATCH):
        expected = min(_BATCH, count - start)
        room = socket.CMSG_SPACE(expected * array.array("i").itemsize)
        data, ancillary, flags, _ = channel.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise Disconnected
        batch = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                batch.frombytes(content[: len(content) - len(content) % batch.itemsize])
        descriptors += batch
        if flags & socket.MSG_CTRUNC or len(batch) != expected:
            raise BadFrame("open files were lost on the way: too many are open")
    return _message(_receive_exactly(channel, size)), descriptors


def _receive_exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = channel.recv_into(view)
        if not received:
            raise Disconnected
        view = view[received:]
    return data


def _unpack(head: bytes | bytearray) -> tuple[int, int]:
    magic, size, descriptors = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise BadFrame("what came is not from a qmpd")
    return size, descriptors


def _message(payload: bytes | bytearray) -> Message:
    try:
        message = marshal.loads(payload)
    except (ValueError, EOFError, TypeError) as error:
        raise BadFrame(f"what came cannot be read: {error}") from error
    if not isinstance(message, dict):
        raise BadFrame("what came is no message")
    return message


async def send_soon(channel: socket.socket, message: Message) -> None:
    """`send` without descriptors, in a trio task; the socket must be non-blocking.

    :raise OSError: it cannot be sent.
    """
    head, payload = _frame(message)
    view = memoryview(head + payload)
    while view:
        await trio.lowlevel.wait_writable(channel)
        try:
            view = view[channel.send(view[:_CHUNK]) :]
        except BlockingIOError:
            continue


async def receive_soon(channel: socket.socket) -> Message:
    """`receive` without descriptors, in a trio task; the socket must be non-blocking.

    :raise Disconnected: the peer has closed its end.
    :raise BadFrame: what came is no frame.
    :raise OSError: the socket fails.
    """
    size, _ = _unpack(await _receive_exactly_soon(channel, _HEAD.size))
    return _message(await _receive_exactly_soon(channel, size))


async def _receive_exactly_soon(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        await trio.lowlevel.wait_readable(channel)
        try:
            received = channel.recv(min(size - len(data), _CHUNK))
        except BlockingIOError:
            continue
        if not received:
            raise Disconnected
        data += received
    return bytes(data)
