"""One channel of a migration: a socket, a command's pipe or a file (`qmpd.migration.channel.Channel`).

It has a task that reads and one that writes; what they have to tell is told in the main loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.migration.channel import Receiver
    from qmpd.system.system import System

    class MigratingMachine(Protocol):
        """Whoever serves the machine."""

        nursery: trio.Nursery

        @property
        def system(self) -> System:
            """The machine."""

_CHUNK = 1 << 18
_PATIENCE = 2.0
"""Seconds that the other side, or a command, is given to end once all has been said."""
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class File:
    """A plain file as a stream: threads read and write it, however slow the disk is, unless it `takes_no_time`."""

    def __init__(self, number: int, *, takes_no_time: bool) -> None:
        self._number = number
        self._takes_no_time = takes_no_time

    async def receive_some(self, most: int) -> bytes:
        """The next bytes; none at its end."""
        if self._takes_no_time:
            await trio.lowlevel.checkpoint()
            return os.read(self._number, most)
        return await trio.to_thread.run_sync(os.read, self._number, most)

    async def send_all(self, data: bytes) -> None:
        """Write these bytes."""
        while data:
            data = data[await trio.to_thread.run_sync(os.write, self._number, data) :]

    def fileno(self) -> int:
        """Its number."""
        return self._number

    async def aclose(self) -> None:
        """Close it."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


class Moving:
    """One channel; `stream` is what it goes over, and `process` the command that is behind it."""

    def __init__(
        self, vm: MigratingMachine, stream: Any, called: str, *, answers: bool, reads: bool,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:  # fmt: skip
        self._vm = vm
        self._stream = stream
        self._called = called
        self._answers = answers
        self._reads = reads
        self._process = process
        self._receiver: Receiver | None = None
        self._started = False
        self._scope = trio.CancelScope()
        self._queue: list[bytes] = []
        self._unsent = self._gone_out = 0
        self._more = trio.Event()
        self._then: Callable[[], None] | None = None
        self._closed = self._ending = self._sending = False
        self._heard_all = trio.Event()

    @property
    def called(self) -> str:
        """See `Channel`."""
        return self._called

    @property
    def answers(self) -> bool:
        """See `Channel`."""
        return self._answers

    @property
    def unsent(self) -> int:
        """See `Channel`."""
        return self._unsent

    @property
    def was_read(self) -> bool:
        """See `Channel`."""
        if self._process is None and not self._gone_out:
            return not self._unsent
        number = self._stream.socket.fileno() if isinstance(self._stream, trio.SocketStream) else self._file_number
        if number < 0:
            return True
        if self._process is None:
            # What is still in the socket when the other side has shut it down is nobody's.
            return not _asked(number, termios.TIOCOUTQ)
        return _asked(number, termios.FIONREAD) < self._gone_out

    @property
    def _file_number(self) -> int:
        """The number of the open file, -1 without one."""
        return int(self._stream.fileno()) if hasattr(self._stream, "fileno") else -1

    def start(self, receiver: Receiver) -> None:
        """See `Channel`."""
        self._receiver = receiver
        self._started = True
        self._vm.nursery.start_soon(self._run)

    def send(self, data: bytes) -> None:
        """See `Channel`."""
        if not self._closed:
            self._queue.append(data)
            self._unsent += len(data)
            if self._started and not self._sending:
                self._send_now()
            self._more.set()

    def _send_now(self) -> None:
        """Let out what goes at once; where time stands still that is all, unless nobody reads it."""
        if isinstance(self._stream, trio.SSLStream):
            return
        number = self._stream.fileno() if not isinstance(self._stream, trio.SocketStream) else None
        if number is None:
            number = self._stream.socket.fileno()
        elif isinstance(self._stream, File) and not self._is_timeless:
            return
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(OSError):  # what is wrong is found by the task
            while self._queue:
                try:
                    count = os.write(number, self._queue[0])
                except BlockingIOError:
                    left = deadline - time.monotonic()
                    if self._answers or not self._is_timeless or left <= 0:
                        return
                    select.select([], [number], [], left)
                    continue
                self._unsent -= count
                self._gone_out += count
                self._queue[0] = self._queue[0][count:]
                if not self._queue[0]:
                    self._queue.pop(0)

    @property
    def _is_timeless(self) -> bool:
        """Whether the machine's clock is a test's: then commands and files take no time."""
        return self._vm.system.clock.real_seconds(1) is None

    def finish(self, then: Callable[[], None]) -> None:
        """See `Channel`."""
        if self._process is not None and not self._queue and not self._sending and self._is_timeless:
            self._ending = True
            self._stream.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        self._then = then
        self._more.set()

    def close(self) -> None:
        """See `Channel`."""
        self._closed = True
        self._receiver = None
        self._scope.cancel()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        if not self._started:
            self._vm.nursery.start_soon(trio.aclose_forcefully, self._stream)
            self._leave_command()

    def _leave_command(self) -> None:
        """Let the command end by itself; the machine may have ended by then."""
        if self._process is not None:
            trio.lowlevel.spawn_system_task(_reap, self._process)

    def abandon(self) -> None:
        """Nobody has begun with it, and nobody will: its command ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _tell(self, action: Callable[[Receiver], None]) -> None:
        """Have the receiver told in the main loop, if there still is one then."""

        def tell() -> None:
            if self._receiver is not None:
                action(self._receiver)

        self._vm.system.machine.later(tell)

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    await self._write()
                    nursery.cancel_scope.cancel()
        finally:
            self._closed = True
            with trio.CancelScope(shield=True), contextlib.suppress(*_LOST):
                await trio.aclose_forcefully(self._stream)
            self._leave_command()

    async def _watch(self) -> None:
        """Read what comes; where nothing can come, see whether anybody is there."""
        try:
            if self._reads:
                while data := bytes(await self._stream.receive_some(_CHUNK)):
                    self._tell(lambda receiver, data=data: receiver.received(data))  # type: ignore[misc]
            elif isinstance(self._stream, File) or self._ending:
                return
            else:
                # Of a pipe that is written it tells that nobody reads it.
                await trio.lowlevel.wait_readable(self._stream.fileno())
        except _LOST:
            if self._ending:
                return
        finally:
            self._heard_all.set()
        self._tell(lambda receiver: receiver.lost(None))

    async def _write(self) -> None:
        try:
            while True:
                while self._queue:
                    data = self._queue.pop(0)
                    self._sending = True
                    await self._stream.send_all(data)
                    self._sending = False
                    self._unsent -= len(data)
                    self._gone_out += len(data)
                if self._then is not None:
                    await self._end()
                    return
                self._more = trio.Event()
                self._tell(lambda receiver: receiver.sent())
                await self._more.wait()
        except _LOST as error:
            reason = _reason(error)
            self._tell(lambda receiver: receiver.lost(reason))
            await trio.sleep_forever()

    async def _end(self) -> None:
        """All has been said: let the other side have it, and end."""
        then = self._then
        assert then is not None
        self._ending = True
        with trio.move_on_after(_PATIENCE):
            if self._process is not None or isinstance(self._stream, File):
                await self._stream.aclose()
                if self._process is not None and self._process.poll() is None:
                    await trio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
            else:
                self._vm.system.machine.later(then)
                then = None
                with contextlib.suppress(AttributeError, *_LOST):
                    await getattr(self._stream, "transport_stream", self._stream).send_eof()
                    # Closing with something unread would take from the other side what it has not read.
                    await self._heard_all.wait()
        if then is not None:
            self._vm.system.machine.later(then)


def _asked(number: int, what: int) -> int:
    """How many bytes there are, as the kernel tells of an open file; 0 where it cannot tell."""
    try:
        return int.from_bytes(fcntl.ioctl(number, what, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _reason(error: BaseException) -> OSError | None:
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause if isinstance(cause, OSError) else None


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command's end, and end it where that takes too long."""
    with trio.move_on_after(_PATIENCE):
        await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        return
    process.kill()
    await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
