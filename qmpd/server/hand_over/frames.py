"""How a parent and its child talk: messages of plain data, and open files with them, over a private socket.

A frame is a head, one byte for each batch of descriptors, and the message, a dictionary (`qmpd.server.hand_over.plain`
is its format).  The peer may be another program, or another version of this one: what it sends is taken for nothing
until it was checked, its size first, and memory is taken for what has come, not for what is said to come.  `FORMAT` is
the first thing told.
"""

from __future__ import annotations

import array
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import trio

from qmpd.server.hand_over import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = dict[str, Any]

FORMAT = 3
"""The version of the messages' content; a process refuses one that it does not know."""

LARGEST = 1 << 30
"""Bytes of a message that a parent may send: what clients have not read is in it."""

LARGEST_ANSWER = 1 << 16
"""Bytes of a message that a child may send."""

MOST_DESCRIPTORS = 1 << 20
"""Open files that may come with a message."""

_HEAD = struct.Struct("!4sQI")
_MAGIC = b"QMPU"
# Linux takes that many descriptors at once (SCM_MAX_FD).
_BATCH = 253
CHUNK = 1 << 20
"""Bytes that are sent or received at once."""


class Disconnected(Exception):  # noqa: N818 - it says what happened
    """The peer has closed its end."""

    def __init__(self) -> None:
        super().__init__("the other process is gone")


class BadFrame(Exception):  # noqa: N818 - it says what came
    """What came is no frame, or is larger than it may be."""


class TooLarge(Exception):  # noqa: N818 - it says what it is
    """What is to be sent is larger than the other process takes."""


class Channel:
    """One end of the socket, which blocks; all that is done with it together has until `deadline` (`time.monotonic`).

    Without a deadline it waits as long as it takes.
    """

    __slots__ = ("_received", "_socket", "deadline")

    def __init__(
        self, channel: socket.socket, deadline: float | None = None, received: bytes | bytearray = b""
    ) -> None:
        """`received` was received before, and is no whole message yet."""
        self._socket = channel
        self._received = received
        self.deadline = deadline

    def _wait(self) -> None:
        """Let the next operation take until the deadline.

        :raise TimeoutError: it has passed.
        """
        if self.deadline is None:
            self._socket.settimeout(None)
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message and the open files that belong to it.

        :raise OSError: it cannot be sent; TimeoutError, where the peer does not take it in time.
        :raise TooLarge: it is larger than a message may be.
        """
        head, payload = _frame(message, len(descriptors))
        self._wait()
        self._socket.sendall(head)
        for start in range(0, len(descriptors), _BATCH):
            batch = array.array("i", descriptors[start : start + _BATCH])
            self._wait()
            self._socket.sendmsg([b"D"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, batch)])
        self._wait()
        self._socket.sendall(payload)

    def send_rest(self, rest: memoryview) -> None:
        """Send what is left of a message.

        :raise OSError: it cannot be sent; TimeoutError, where the peer does not take it in time.
        """
        self._wait()
        self._socket.sendall(rest)

    def receive(self, largest: int = LARGEST, most_descriptors: int = 0) -> tuple[Message, list[int]]:
        """The next message, of at most `largest` bytes, and the open files that came with it.

        :raise Disconnected: the peer has closed its end.
        :raise BadFrame: what came is no frame.
        :raise OSError: the socket fails; TimeoutError, where nothing comes in time.
        """
        size, count = _unpack(self._exactly(_HEAD.size), largest, most_descriptors)
        descriptors: list[int] = []
        for start in range(0, count, _BATCH):
            descriptors += self._batch(min(_BATCH, count - start))
        return _message(self._exactly(size)), descriptors

    def _batch(self, expected: int) -> array.array[int]:
        room = socket.CMSG_SPACE(expected * array.array("i").itemsize)
        self._wait()
        data, ancillary, flags, _ = self._socket.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise Disconnected
        batch = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                batch.frombytes(content[: len(content) - len(content) % batch.itemsize])
        if flags & socket.MSG_CTRUNC or len(batch) != expected:
            raise BadFrame("open files were lost on the way: too many are open")
        return batch

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(self._received[:size])
        self._received = self._received[size:]
        while len(data) < size:
            self._wait()
            received = self._socket.recv(min(size - len(data), CHUNK))
            if not received:
                raise Disconnected
            data += received
        return data


def spelled(message: Message) -> memoryview:
    """A message without descriptors, as the bytes to send.

    :raise TooLarge: it is larger than a message may be.
    """
    return memoryview(b"".join(_frame(message)))


def _frame(message: Message, descriptors: int = 0) -> tuple[bytes, bytes]:
    payload = plain.write(message)
    if len(payload) > LARGEST:
        raise TooLarge(f"what it is to be told are {len(payload)} bytes, and it takes {LARGEST}")
    return _HEAD.pack(_MAGIC, len(payload), descriptors), payload


def _unpack(head: bytes | bytearray, largest: int, most_descriptors: int) -> tuple[int, int]:
    magic, size, descriptors = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise BadFrame("what came is not from a qmpd")
    if size > largest or descriptors > most_descriptors:
        raise BadFrame(f"what is to come is too large: {size} bytes and {descriptors} open files")
    return size, descriptors


def _message(payload: bytes | bytearray) -> Message:
    try:
        message = plain.read(payload)
    except plain.NotPlain as error:
        raise BadFrame(f"what came cannot be read: {error}") from error
    if not isinstance(message, dict) or type(message.get("kind")) is not str:
        raise BadFrame("what came is no message")
    return message


class Incoming:
    """Takes messages without descriptors from a socket that does not block, in a trio task.

    `received` is what has come of a message that is not whole yet.
    """

    __slots__ = ("_largest", "received")

    def __init__(self, largest: int) -> None:
        """A message has at most `largest` bytes."""
        self._largest = largest
        self.received = bytearray()

    async def message(self, channel: socket.socket) -> Message:
        """The next message.

        :raise Disconnected: the peer has closed its end.
        :raise BadFrame: what came is no frame.
        :raise OSError: the socket fails.
        """
        while True:
            message = self._take()
            if message is not None:
                return message
            await trio.lowlevel.wait_readable(channel)
            try:
                received = channel.recv(CHUNK)
            except BlockingIOError:
                continue
            if not received:
                raise Disconnected
            self.received += received

    def _take(self) -> Message | None:
        data = self.received
        if len(data) < _HEAD.size:
            return None
        size, _ = _unpack(data[: _HEAD.size], self._largest, 0)
        end = _HEAD.size + size
        if len(data) < end:
            return None
        payload = data[_HEAD.size : end]
        del data[:end]
        return _message(payload)
