"""One connection: bytes from the socket to the session, and what is owed to the client back.

The reading side is a task.  Writing needs none as long as the socket takes what is written; when it does
not, a task waits until it does.
"""

from __future__ import annotations

import contextlib
import socket
from time import thread_time
from typing import TYPE_CHECKING

import trio

from qmpd.monitor.defects import UNEXPECTED, said
from qmpd.server import log
from qmpd.server.descriptors import DescriptorSocket, FilesAhead

if TYPE_CHECKING:
    from qmpd.monitor.session import Session
    from qmpd.server.owner import Owner

CHUNK = 1 << 16
"""Bytes that are read at once."""

SMALL, LITTLE = 1 << 7, 1 << 10
"""Bytes that are taken in without waiting for others: whatever they are, and where they are plain JSON."""

LARGEST_PLAIN = 1 << 14
"""Bytes that are taken in at once where they are plain JSON."""

QUICK = 0.0005
"""Seconds of the processor's time in which a slice (`Session.slices`) is taken in that goes quickly."""

TURN = 0.001
"""Seconds of the processor's time that taking in may last until the others have their turn."""

ROOM = 1 << 20
"""Bytes that are owed to a client that reads before its further requests wait until it has read some."""

LIMIT = 64 << 20
"""Bytes that are owed to a client that does not read before it is disconnected."""

LIMIT_OF_ALL = 2 * LIMIT
"""The same for all such clients of this process together: beyond it their further requests wait."""

GRACE = 1.0
"""Seconds after which a client that takes nothing counts as one that does not read."""

# Those that do not read, of all machines in this process.
_not_reading: set[Connection] = set()

_lock: trio.lowlevel.RunVar[trio.Lock] = trio.lowlevel.RunVar("taking in")


def _turns() -> trio.Lock:
    """What those hold one after another who have much to take in, of all machines in this process."""
    try:
        return _lock.get()
    except LookupError:
        _lock.set(made := trio.Lock())
        return made


class Connection:
    """A client's socket and its session.  The socket must be non-blocking; the connection owns it."""

    __slots__ = (
        "_blocked",
        "_overdrawn",
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
        # Whether the socket takes no more.
        self._blocked = False
        # What ends the task that looks at whether too much gets less.
        self._overdrawn: trio.CancelScope | None = None
        self._progress: trio.Event | None = None
        session.owner = self
        if isinstance(client, DescriptorSocket):
            client.is_idle = lambda: session.drained

    async def run(self) -> None:
        """Read until the client closes; then answer what it had sent, and close."""
        vm, session, client = self._vm, self.session, self.socket
        number, work, at_once = client.fileno(), vm.work, min(session.slices[0], SMALL)
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
                    try:
                        data = client.recv(CHUNK)
                    except FilesAhead as ahead:
                        data = await self._after(ahead.before)
                except BlockingIOError:
                    continue
                except (OSError, trio.ClosedResourceError):
                    return  # the client is gone; nobody is left to be told
                if not data:
                    break
                if log.level >= 2:
                    log.message(f"client {self.number} > {data!r}")
                if len(data) <= at_once:
                    self._receive(data)
                elif len(data) > LITTLE or not self._receive_plain(data):
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
        """Take in what was read; where that takes long, the others have their turn in between.

        Of those who have much to take in one at a time does so: who has little waits for one of them, not for all.
        """
        if self.session.paused:
            await self.settled()  # it was another process that has read this
        odd = 0
        while self.unread and not self.closed:
            turns = _turns()
            try:
                turns.acquire_nowait()
            except trio.WouldBlock:
                await turns.acquire()
            try:
                odd = self._take_turn(odd)
                if not self.unread:
                    break
                if self.session.unsent:
                    self.flush()
                self._vm.work()
                await trio.lowlevel.checkpoint()
            finally:
                turns.release()
            if self.session.paused:
                await self.settled()

    def _take_turn(self, odd: int) -> int:
        """Take in some of what was read.

        `odd` is how much at its beginning is known to be no plain JSON, which is also what this gives.  That is taken
        in slices as small as it takes for others not to wait long.
        """
        if not odd:
            plain = self._slice(LARGEST_PLAIN)
            if self._receive_plain(plain):
                return 0
            self.unread = plain + self.unread
            odd = len(plain)
        session = self.session
        smallest, largest = session.slices
        size = smallest
        now = thread_time()
        turn = now + TURN
        while odd > 0 and self.unread and now < turn and not session.congested:
            began = now
            data = self._slice(min(size, odd))
            self._receive(data)
            odd -= len(data)
            now = thread_time()
            size = min(size * 2, largest) if now < began + QUICK else smallest
        return max(odd, 0)

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
                except FilesAhead as ahead:
                    if not ahead.before:
                        return
                    data = ahead.before + self.socket.recv(CHUNK)
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
    def unread_with_files(self) -> tuple[bytes, tuple[int, ...]]:
        """What has come and was not taken in, and the files that came and that nobody has taken."""
        data, files = self.socket.rest if isinstance(self.socket, DescriptorSocket) else (b"", ())
        return self.unread + data, files

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

    async def _after(self, before: bytes) -> bytes:
        """What comes once this, and all that was read earlier, is executed."""
        self.unread = before
        await self._take_in()
        self._vm.work()
        while not self.session.drained:
            if self.closed:
                raise trio.ClosedResourceError
            await self.progress()
        return self.socket.recv(CHUNK)

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

    # What is owed to the client

    def flush(self) -> None:
        """Hand what is owed to the socket; what it does not take follows as soon as it does."""
        session = self.session
        session.unsent = False
        if self.closed:
            session.drop_outgoing()
            return
        if session.broken is not None:
            if not session.severed:
                log.error(f"client {self.number} is disconnected: {session.broken}")
            self.abort()
            return
        if self._blocked:
            self._look_at_debt()
            self._progressed()
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
        if sent < len(data) or session.outgoing:
            self.pending = memoryview(data)[sent:]
            self._blocked = True
            self._look_at_debt()
            self._vm.nursery.start_soon(self._write_pending)
        self._progressed()

    def _look_at_debt(self) -> None:
        """Have requests wait whose replies would only lie here, or see to it that what lies here gets less."""
        session = self.session
        if session.outgoing_size > LIMIT:
            session.congested = True
            if self._overdrawn is None:
                self._overdrawn = trio.CancelScope()
                self._vm.nursery.start_soon(self._settle_or_leave)
        elif session.outgoing_size > self._room():
            session.congested = True

    def _room(self) -> int:
        """Bytes that may be owed before requests wait."""
        if self in _not_reading:
            return LIMIT if sum(each.owed for each in _not_reading) < LIMIT_OF_ALL else ROOM
        return LIMIT // 2 if self._vm.keeps_up else ROOM

    def _reads(self) -> None:
        """The client reads, or is gone: there is more room for those that do not."""
        if self in _not_reading:
            _not_reading.discard(self)
            for other in list(_not_reading):
                other._relieve()

    async def _settle_or_leave(self) -> None:
        """Disconnect a client to which too much is owed, unless that gets less."""
        assert self._overdrawn is not None
        with self._overdrawn:
            while (owed := self.owed) > LIMIT and not self.closed:
                await trio.sleep(GRACE)
                if self.owed >= owed:
                    log.error(f"client {self.number} is disconnected: it does not read what is sent to it")
                    self.abort()
        self._overdrawn = None

    def _relieve(self) -> None:
        """Go on with the requests that waited, where there is room for their replies."""
        if self.session.congested and self.session.outgoing_size <= self._room():
            self.session.relieve()
            self._progressed()
            self._vm.work()

    async def _write_pending(self) -> None:
        try:
            while not self.closed:
                while self.pending:
                    await self._until_writable()
                    try:
                        self.pending = self.pending[self.socket.send(self.pending) :]
                    except BlockingIOError:
                        continue
                    self._reads()
                if not self.session.outgoing:
                    break
                self.pending = memoryview(self.session.take_outgoing())
                self._relieve()
        except (OSError, trio.ClosedResourceError):
            self.abort()
        finally:
            self.pending = b""
            self._blocked = False
            self._progressed()
        if not self.closed:
            self._relieve()

    async def _until_writable(self) -> None:
        """Wait until the socket takes more.

        As long as the client reads its further requests are best executed when it has read. Where it does not they are
        executed all the same, as QEMU does, up to the limit.
        """
        with trio.move_on_after(float("inf") if self in _not_reading else GRACE) as waiting:
            await trio.lowlevel.wait_writable(self.socket)
        if waiting.cancelled_caught and not self.closed:
            _not_reading.add(self)
            self._relieve()

    @property
    def owed(self) -> int:
        """Bytes that are on their way to this client."""
        return self.session.outgoing_size + len(self.pending)

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
        self.session.drop_outgoing()
        self._reads()
        if self._overdrawn is not None:
            self._overdrawn.cancel()
        self._progressed()
