"""Sockets whose clients speak telnet or websockets: whoever reads and writes here hears and says the plain bytes."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import trio

from qmpd.chardev.telnet import Telnet
from qmpd.chardev.websocket import LONGEST_FRAME, Frames, Request, encode
from qmpd.server.descriptors import DescriptorSocket, FilesAhead

if TYPE_CHECKING:
    from typing import Self

    from qmpd.server.settings import ChardevSettings


class DialectSocket(DescriptorSocket):
    """A client's connection.

    As with TLS, what could not be sent is to be sent again, more behind it or not.
    """

    telnet: Telnet | None = None
    frames: Frames | None = None
    # Whether each line is a frame of its own.
    by_lines = False
    # Frames that are to be sent, and the number of the caller's bytes in them that he thinks are not.
    _owed = b""
    _framed = 0

    def dup(self) -> Self:
        """The same connection once more, which goes on where this one is; for another caller."""
        copied = super().dup()
        copied.telnet, copied.frames, copied._owed = self.telnet, self.frames, self._owed
        return copied

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive plain bytes, `size` or some more of them; with flags, which can only be to look at them, raw ones.

        :raise BlockingIOError: nothing has come that is to be heard.
        """
        if flags:
            return super().recv(size, flags)
        try:
            data = super().recv(size) if self.frames is None else self._unframed(self.frames)
        except FilesAhead as ahead:
            raise FilesAhead(self._heard(ahead.before)) from None
        if not data:
            return data
        data = self._heard(data)
        if not data:
            raise BlockingIOError
        return data

    def _heard(self, data: bytes) -> bytes:
        return data if self.telnet is None else self.telnet.read(data)

    def _unframed(self, frames: Frames) -> bytes:
        """What the next frames carry; nothing at the end.

        :raise BlockingIOError: they carry nothing.
        """
        came = b"" if frames.ended else socket.socket.recv(self, frames.room)
        if not came:
            return b""
        data = frames.read(came)
        self._owed, frames.replies = self._owed + frames.replies, b""
        with contextlib.suppress(BlockingIOError):
            self._flush()
        if frames.ended:
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_RDWR)
        elif not data:
            raise BlockingIOError
        return data

    def _flush(self) -> None:
        """Send what is owed.

        :raise BlockingIOError: the client takes no more.
        """
        while self._owed:
            self._owed = self._owed[super().send(self._owed) :]
        if self.frames is not None:
            self.frames.pong = False

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        """Send plain bytes; gives how many of them are out.

        :raise BlockingIOError: none are.
        """
        if self.frames is None:
            return super().send(data, flags)
        done = 0
        try:
            while True:
                self._flush()
                done, self._framed = done + self._framed, 0
                if done >= len(data):
                    return done
                piece = self._piece(bytes(data[done : done + LONGEST_FRAME]))
                self._owed, self._framed = encode(piece), len(piece)
        except BlockingIOError:
            if not done:
                raise
            return done

    def _piece(self, data: bytes) -> bytes:
        """What the next frame has of this."""
        end = data.find(b"\n") + 1 if self.by_lines else 0
        return data[:end] if end else data


def telnet_of(settings: ChardevSettings) -> Telnet | None:
    """A device's end of telnet; None where it does not speak it."""
    return Telnet(is_3270=settings.tn3270) if settings.telnet or settings.tn3270 else None


async def speak(client: socket.socket, settings: ChardevSettings, telnet: Telnet | None) -> DialectSocket | None:
    """Begin to talk to a client, which is owned from now on; None where it is gone, or not let in.

    With one that was talked to before, for somebody else, it goes on.
    """
    if isinstance(client, DialectSocket):
        client.by_lines = settings.monitor is not None
        return client
    spoken = DialectSocket.adopt(client)
    try:
        if settings.websocket:
            spoken.frames = await _upgrade(spoken)
        if settings.websocket and spoken.frames is None:
            spoken.close()
            return None
        spoken.by_lines = settings.monitor is not None
        spoken.telnet = telnet
        if telnet is not None:
            await _send(spoken, telnet.greeting)
    except OSError:
        spoken.close()
        return None
    except BaseException:
        spoken.close()
        raise
    return spoken


async def _upgrade(client: DialectSocket) -> Frames | None:
    """Answer a client's request; None where that is refused, or does not come.

    :raise OSError: the client is gone.
    """
    request = Request()
    reply: bytes | None = None
    while reply is None:
        await trio.lowlevel.wait_readable(client)
        try:
            data = socket.socket.recv(client, request.room)
        except BlockingIOError:
            continue
        if not data:
            return None
        reply = request.read(data, time.time())
    await _send(client, reply)
    return Frames(request.rest) if request.accepted else None


async def _send(client: DialectSocket, data: bytes) -> None:
    while data:
        try:
            data = data[client.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(client)
