"""One connection: bytes from the socket to the session, and what is owed to the client back.

The reading side is a task.  Writing needs none as long as the socket takes what is written; when it does
not, a task waits until it does.
"""

from __future__ import annotations

import contextlib
import socket
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from qmpd.monitor.defects import UNEXPECTED, said
from qmpd.server import log

if TYPE_CHECKING:
    from qmpd.monitor.session import Session
    from qmpd.server.owner import Owner

CHUNK = 1 << 16
"""Bytes that are read at once."""

SLICE, LARGEST_SLICE = 1 << 10, 1 << 12
"""Bytes that are taken in at once: what is no JSON costs some 10 microseconds a byte, and the others wait for it.

As long as it goes quickly slices become larger.
"""

QUICK = 0.0005
"""Seconds in which a slice is taken in that goes quickly."""

TURN = 0.005
"""Seconds that taking in may last until the others have their turn."""


class Connection:
    """A client's socket and its session.  The socket must be non-blocking; the connection owns it."""

    __slots__ = (
        "_blocked",
        "_progress",
        "_vm",
        "closed",
        "deaf",
        "number",
        "pending",
        "session",
        "socket",
        "unread",
    )

    def __init__(self, vm: Owner, client: socket.socket, session: Session, number: int) -> None:
        self._vm = vm
        self.socket = client
        self.session = session
        self.number = number
        self.pending: bytes | memoryview = b""
        # What was read and not taken in.
        self.unread = b""
        self.closed = False
        # Nothing more is read: the session has failed at what was, and does not know where the next message begins.
        self.deaf = False
        self._blocked = False
        self._progress: trio.Event | None = None
        session.owner = self

    async def run(self) -> None:
        """Read until the client closes; then answer what it had sent, and close."""
        vm, session, client = self._vm, self.session, self.socket
        number, work = client.fileno(), vm.work
        try:
            self.flush()
            if self.unread:
                await self._take_in()
                work()
            if session.paused:
                await self.settled()
            while not self.closed and not self.deaf:
                try:
                    await trio.lowlevel.wait_readable(number)
                    data = client.recv(CHUNK)
                except BlockingIOError:
                    continue
                except (OSError, trio.ClosedResourceError):
                    return  # the client is gone; nobody is left to be told
                if not data:
                    break
                if log.level >= 2:
                    log.message(f"client {self.number} > {data!r}")
                if len(data) <= SLICE:
                    self._receive(data)
                elif not self._receive_plain(data):
                    self.unread = data
                    await self._take_in()
                if session.unsent:
                    self.flush()
                work()
                if session.paused:
                    await self.settled()
            if not self.closed:
                await self._finish()
        finally:
            self.close()
            if not vm.handed_over:
                log.info(f"client {self.number} disconnected")

    async def _take_in(self) -> None:
        """Take in what was read, in slices; where they take long, the others have their turn in between."""
        session, size = self.session, SLICE
        now = perf_counter()
        turn = now + TURN
        while self.unread and not self.closed:
            began = now
            self._receive(self._slice(size))
            now = perf_counter()
            size = min(size * 2, LARGEST_SLICE) if now < began + QUICK else SLICE
            if now < turn:
                continue
            if session.unsent:
                self.flush()
            self._vm.work()
            await trio.lowlevel.checkpoint()
            if session.paused:
                await self.settled()
            now = perf_counter()
            turn = now + TURN

    def _slice(self, size: int) -> bytes:
        """The next slice of what was read; it ends between two messages where that is easily seen."""
        data = self.unread
        end = data.rfind(b"\n", 0, size) + 1 or data.rfind(b"}{", 0, size) + 1 or size
        self.unread = data[end:]
        return data[:end]

    def read_now(self) -> None:
        """Take in what the client has sent by now; the reading task comes to the rest, and to the end."""
        session = self.session
        while not self.closed and not self.deaf and not session.paused:
            data, self.unread = self.unread, b""
            if not data:
                try:
                    data = self.socket.recv(CHUNK)
                except OSError:
                    return
                if not data:
                    return
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            self.session.receive(data)
        except UNEXPECTED as error:
            self._fail(error)

    def _receive_plain(self, data: bytes) -> bool:
        try:
            return self.session.receive_plain(data)
        except UNEXPECTED as error:
            self._fail(error)
            return True

    def _fail(self, error: BaseException) -> None:
        """Reading what this client has sent went wrong inside: it is told so, and costs nobody else anything."""
        log.defect(
            f"client {self.number} is disconnected: qmpd failed at reading what it sent, a defect of qmpd", error
        )
        self.deaf = True
        self.unread = b""
        try:
            self.session.fail(said(error, "reading this"))
        except UNEXPECTED:
            self.abort()

    @property
    def at_end(self) -> bool:
        """Whether the client has closed its end and nothing is left to read."""
        if self.unread:
            return False
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return False

    async def settled(self) -> None:
        """Wait until the session takes more input."""
        while self.session.paused and not self.closed:
            await self.progress()

    async def _finish(self) -> None:
        while not self.closed and not (self.session.drained and not self.pending):
            await self.progress()

    async def progress(self) -> None:
        """Wait until the session has executed something, or bytes have gone out."""
        if self._progress is None:
            self._progress = trio.Event()
        await self._progress.wait()

    def _progressed(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None

    def flush(self) -> None:
        """Hand what is owed to the socket; what it does not take follows as soon as it does."""
        session = self.session
        session.unsent = False
        if self.closed:
            session.take_outgoing()
            return
        if session.broken is not None:
            if not session.severed:
                log.error(f"client {self.number} is disconnected: {session.broken}")
            self.abort()
            return
        if self._blocked:
            return
        data = session.take_outgoing()
        if log.level >= 2:
            log.message(f"client {self.number} < {data!r}")
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < len(data):
            self.pending = data[sent:]
            self._blocked = True
            self._vm.nursery.start_soon(self._write_pending)
        self._progressed()

    async def _write_pending(self) -> None:
        try:
            while not self.closed:
                self.pending = memoryview(self.pending)
                while self.pending:
                    await trio.lowlevel.wait_writable(self.socket)
                    try:
                        self.pending = self.pending[self.socket.send(self.pending) :]
                    except BlockingIOError:
                        continue
                if not self.session.outgoing:
                    break
                self.pending = self.session.take_outgoing()
        except (OSError, trio.ClosedResourceError):
            self.abort()
        finally:
            self.pending = b""
            self._blocked = False
            self._progressed()

    @property
    def owes(self) -> bool:
        """Whether bytes are on their way to this client."""
        return not self.closed and (bool(self.pending) or bool(self.session.outgoing))

    def abort(self) -> None:
        """End the connection: the reading task wakes up and closes the socket."""
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._progressed()

    def release(self) -> None:
        """Give up the socket, which another process has now: nothing more is read from it or written to it."""
        self.closed = True
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()

    def close(self) -> None:
        """Close the socket and forget the session."""
        self.closed = True
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        self.session.dispatcher.close_session(self.session)
        self._progressed()
