"""Character devices that are files: standard input and output, pseudo-terminals, files by their path."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import termios
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.file_sets import set_number
from qmpd.common.output import tell
from qmpd.server.chardevs.device import Device
from qmpd.server.listener import ListenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.server.chardevs.device import Keep

PTY_POLL = 0.2
"""Seconds between two looks at whether somebody has opened a pseudo-terminal; nothing tells of it."""


class StandardStreams(Device):
    """Standard input and output; a terminal hands over each key at once and shows none by itself."""

    always_there = True
    _saved: list[object] | None = None

    def open(self) -> None:
        """See `Device`."""
        self.enter("stdio")
        with contextlib.suppress(termios.error, OSError):
            attributes = termios.tcgetattr(0)
            self._saved = list(attributes)
            attributes[0] = attributes[0] & ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            attributes[1] |= termios.OPOST
            attributes[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
            if not self.settings.signal:
                attributes[3] &= ~termios.ISIG
            termios.tcsetattr(0, termios.TCSANOW, attributes)

    async def run(self) -> None:
        """See `Device`."""
        await self.talk(0, 1, ends=self.settings.monitor is not None)

    def close(self) -> None:
        """See `Device`."""
        if self._saved is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._saved = None


class FileDevice(Device):
    """A file that takes what is written, and another one where `input_path` is given."""

    always_there = True
    _writes = -1
    _reads: int | None = None
    # The sets whose files these are, where they are such.
    _sets: tuple[int, ...] = ()

    def open(self) -> None:
        """See `Device`."""
        self.enter("file")
        settings = self.settings
        way = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if settings.append else os.O_TRUNC)
        self._writes = self._open(settings.path, way)
        if settings.input_path:
            self._reads = self._open(settings.input_path, os.O_RDONLY | os.O_CLOEXEC)

    def _open(self, path: str, way: int) -> int:
        """Open a file, or the one of a set that `/dev/fdset/NUMBER` stands for.

        :raise ListenError: it cannot be opened.
        """
        files = self.vm.system.descriptors
        try:
            found = set_number(path)
            if files is not None and found is not None:
                number = files.open(found, way)
                self._sets += (found,)
                return number
            return _open(path, way)
        except ValueError:
            raise ListenError(f"Could not open '{path}': {os.strerror(errno.EINVAL)}") from None
        except OSError as error:
            raise ListenError(f"Could not open '{path}': {error.strerror}") from None

    async def run(self) -> None:
        """See `Device`."""
        await self.talk(self._reads, self._writes, ends=self.settings.monitor is not None)

    def close(self) -> None:
        """See `Device`."""
        for number in (self._writes, self._reads):
            if number is not None and number >= 0:
                os.close(number)
        self._writes, self._reads = -1, None
        sets, self._sets = self._sets, ()
        system = self.vm.system
        for each in sets:
            assert system.descriptors is not None
            system.descriptors.let_go(each, system.removed_files_close)

    def take(self, keep: Keep) -> Any:
        """See `Device`."""
        return [keep(self._writes), None if self._reads is None else keep(self._reads)]

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        writes, reads = state
        self._writes, self._reads = descriptors[writes], None if reads is None else descriptors[reads]
        files = self.vm.system.descriptors
        found = [set_number(path) for path in (self.settings.path, self.settings.input_path)]
        if files is not None:
            self._sets = tuple(each for each in found if each is not None)
            for each in self._sets:
                files.use(each)


class PseudoTerminal(Device):
    """A pseudo-terminal; whoever opens its other end is greeted."""

    _master = -1

    def open(self) -> None:
        """See `Device`."""
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise ListenError(f"Failed to create PTY: {error.strerror}") from None
        attributes = termios.tcgetattr(slave)
        attributes[0] = attributes[1] = 0
        attributes[2] = attributes[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        attributes[3] = 0
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        name = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.enter(f"pty:{name}")
        if self.vm.accepts:  # a machine of a fleet has no output of its own
            tell(f"char device redirected to {name} (label {self.settings.label})\n")

    async def run(self) -> None:
        """See `Device`."""
        looking = select.poll()
        looking.register(self._master, select.POLLHUP)
        while True:
            while looking.poll(0):  # noqa: ASYNC110 - nothing tells when somebody opens it
                await trio.sleep(PTY_POLL)
            await self.talk(self._master, self._master)

    def close(self) -> None:
        """See `Device`."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def take(self, keep: Keep) -> Any:
        """See `Device`."""
        return keep(self._master)

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """See `Device`."""
        self._master = descriptors[state]


def _open(path: str, way: int) -> int:
    """:raise OSError: the file cannot be opened."""
    if stat.S_ISFIFO(_mode(path)):
        # Opened for one way it would be waited for until somebody opens the other.
        way = way & ~os.O_ACCMODE | os.O_RDWR
    return os.open(path, way, 0o666)


def _mode(path: str) -> int:
    """The mode of a file; 0 where there is none."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0
