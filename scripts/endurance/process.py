"""A machine in a process of its own, as users start it: its command line, its sockets, and what is left at its end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from endurance.client import PATIENCE, Lost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from endurance.client import Address

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'qmpd-system-x86_64'; from qmpd.emulator.program import main; sys.exit(main())",
]
SERVE = [sys.executable, "-m", "qmpd", "serve"]
GROWTH = 24 << 20
"""Bytes by which the memory of a process may differ between the second and the last quarter of its life."""

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def orphans_adopted() -> Iterator[None]:
    """A child's child whose own parent has ended becomes this process's, which so sees the last of it.

    For as long as the block lasts: who is not waited for would else never be gone for others who wait for its end.
    """
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def free_port() -> int:
    """A TCP port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


_EXITING = 4
"""The flag of a process that is being taken apart (Linux's PF_EXITING)."""


class Process:
    """One process, and, where it is updated live, those that follow it: `pid` is the one that serves."""

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        self.folder = folder
        self.pid_file = folder / "pid"
        self.errors = folder / "stderr"
        self.memory: list[int] = []
        # What it may grow by.
        self.growth = GROWTH
        # One that was killed has left it.
        self.pid_file.unlink(missing_ok=True)
        with self.errors.open("wb") as errors:
            self._first = subprocess.Popen(
                [*command, "-pidfile", str(self.pid_file)],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.pid = self._first.pid
        self.status: int | None = None

    async def listens(self, address: Address) -> None:
        """Wait until somebody listens there.

        :raise Lost: nobody does.
        """
        deadline = time.monotonic() + PATIENCE
        while not self.try_to_connect(address, deadline):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.02)

    def try_to_connect(self, address: Address, deadline: float) -> bool:
        """Whether somebody listens there by now.

        :raise Lost: the process has ended, or it is past the deadline on the monotonic clock.
        """
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
            if client.connect_ex(address) == 0:
                return True
        if self.ended() or time.monotonic() > deadline:
            raise Lost(f"nobody listens at {address}: {self.errors.read_text()}")
        return False

    def look(self) -> None:
        """Note who serves, and how much memory that takes."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if pid != self.pid:
                self.pid = pid
                self.memory.clear()
            self.memory.append(self.resident())

    def resident(self) -> int:
        """Bytes of it that are in memory."""
        fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def grows(self) -> bool:
        """Whether it takes more and more memory; never where there are too few figures to tell."""
        quarter = len(self.memory) // 4
        if quarter < 5:
            return False
        return min(self.memory[-quarter:]) > max(self.memory[quarter : 2 * quarter]) + self.growth

    def files(self) -> dict[str, tuple[int, int]]:
        """Its open files by number, each as device and inode."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{self.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    found[entry.name] = (status.st_dev, status.st_ino)
        return found

    def pseudo_terminals(self) -> int:
        """How many of its open files are pseudo-terminals that it has made."""
        found = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += entry.readlink().name == "ptmx"
        return found

    def sockets(self) -> int:
        """How many of its open files are sockets that do not listen."""
        return len(self._sockets() - self._all_listeners())

    def listeners(self) -> int:
        """How many of its open files are sockets that listen; a client's command may have made such a one."""
        return len(self._sockets() & self._all_listeners())

    def _sockets(self) -> set[str]:
        """The numbers of its sockets."""
        found: set[str] = set()
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{self.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    kind, _, number = os.readlink(entry).partition(":")
                    if kind == "socket":
                        found.add(number.strip("[]"))
        return found

    def _all_listeners(self) -> set[str]:
        """The numbers of all sockets that listen (proc(5): `net/unix` has a flag for it, `net/tcp` a state)."""
        found: set[str] = set()
        with contextlib.suppress(OSError):
            for name, at, mark, number in (("unix", 3, "00010000", 6), ("tcp", 3, "0A", 9), ("tcp6", 3, "0A", 9)):
                for line in Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]:
                    words = line.split()
                    if len(words) > number and words[at] == mark:
                        found.add(words[number])
        return found

    def children(self) -> list[int]:
        """The processes that it has started and that are still there."""
        with contextlib.suppress(OSError):
            tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
            return [int(each) for task in tasks for each in (task / "children").read_text().split()]
        return []

    def ended(self) -> bool:
        """Whether the one that serves has ended; `status` is its exit status then."""
        if self.status is not None:
            return True
        if self.pid == self._first.pid:
            self.status = self._first.poll()
        else:
            self._first.poll()
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return not Path(f"/proc/{self.pid}").exists()
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def is_gone(self, pid: int) -> bool:
        """Whether nothing is left of a process that has served before."""
        if pid == self._first.pid:
            return self._first.poll() is not None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return not Path(f"/proc/{pid}").exists()

    def is_leaving(self, pid: int) -> bool:
        """Whether a process that has served before is gone, or being taken apart: it hears no signal any more."""
        if self.is_gone(pid):
            return True
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return True
        return bool(int(fields[6]) & _EXITING)

    def signal(self, number: int) -> None:
        """Send a signal to the one that serves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Leave nothing of it."""
        self.look()
        for pid in {self.pid, self._first.pid, *self.children()}:
            with contextlib.suppress(ProcessLookupError):
                if pid != self._first.pid or self._first.poll() is None:
                    os.kill(pid, signal.SIGKILL)
        self._first.wait()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def complaints(self) -> list[str]:
        """What it has said of itself that is no ordinary thing to say."""
        text = self.errors.read_text(errors="replace")
        return [text] if "Traceback" in text or "Warning:" in text else []


def transcript_is_whole(path: Path) -> str | None:
    """What is wrong with a transcript's file: its entries are numbered, and none is missing or torn."""
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            return f"line {number} is torn: {line!r}"
        if entry["number"] != number:
            return f"line {number} has entry {entry['number']}"
    return None
