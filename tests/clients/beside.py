"""Programs that are started, stopped and spoken to alike: real QEMU, where it is installed, and qmpd's drop-in."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from qmpd.capture import guests
from tests.emulator.support import PROGRAM, environment
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RELEASES = ("5.2", "7.2", "10.0", "11.1")
NONE = ("-machine", "none", "-display", "none", "-nodefaults")
PATIENCE = 20.0
# A moment in which a program that goes on says all that it has to say; the tests know how it ends.
QUIET = 0.5
# A byte to the first serial port.
TELL = guests.write_byte(0x3F8, ord("B"))

Request = str | tuple[str, dict[str, object]]


class Client:
    """A client of a monitor that has negotiated."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._buffer = b""
        # 5.2 can greet late, and lose what comes before.
        while self.line() != "greeting":
            pass
        self.send("qmp_capabilities")
        while self.line() != "ok":
            pass

    def send(self, *requests: Request) -> None:
        """Send requests in one write."""
        spelled = [
            {"execute": each} if isinstance(each, str) else {"execute": each[0], "arguments": each[1]}
            for each in requests
        ]
        self._socket.sendall(b"".join(json.dumps(request).encode() for request in spelled))

    def message(self, patience: float = PATIENCE) -> dict[str, Any] | None:
        """The next message; None at the end, or where nothing comes."""
        self._socket.settimeout(patience)
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(1 << 16)
            except (TimeoutError, ConnectionResetError):
                return None
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def line(self, patience: float = PATIENCE) -> str | None:
        """The next message in short: an event's name and reason, `ok` or `error`; None where none comes."""
        message = self.message(patience)
        if message is None:
            return None
        if "event" in message:
            reason = message.get("data", {}).get("reason")
            return message["event"] if reason is None else f"{message['event']} {reason}"
        return "ok" if "return" in message else "greeting" if "QMP" in message else "error"

    def raw(self, data: bytes) -> bytes:
        """Send bytes; the next line."""
        self._socket.sendall(data)
        self._socket.settimeout(PATIENCE)
        while b"\n" not in self._buffer:
            more = self._socket.recv(1 << 16)
            assert more
            self._buffer += more
        line, end, self._buffer = self._buffer.partition(b"\n")
        return line + end

    def until(self, name: str) -> None:
        """Wait for a message that is this in short."""
        while (line := self.line()) != name:
            assert line is not None, f"no {name}"

    def close(self) -> None:
        self._socket.close()


class Side:
    """A running program and a client of its monitor."""

    def __init__(self, process: subprocess.Popen[bytes], address: str | bytes) -> None:
        self.process = process
        self.pid = process.pid
        self.address = address
        self.client = Client(address)
        self.send, self.line, self.until = self.client.send, self.client.line, self.client.until

    def stop(self) -> None:
        """Stop the process."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: _stopped(self.pid))

    def go_on(self, patience: float = QUIET) -> list[str]:
        """Let it go on; what the client hears from then on."""
        os.kill(self.pid, signal.SIGCONT)
        heard = []
        while (line := self.line(patience)) is not None:
            heard.append(line)
        return heard

    def report(self) -> str:
        """What a program that ends says on standard error of the signal; 5.2 may abort later, and says so as well."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        told = [line for line in os.fsdecode(errors).splitlines() if ": terminating" in line]
        assert len(told) == 1, errors
        return told[0].partition(": ")[2]


def _stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@contextmanager
def running(
    release: str, *, real: bool, options: Sequence[str], action: bytes | None = None, own: str = ""
) -> Iterator[Side]:
    """A program of either kind.

    The real one's boot sector does `action` and then tells of it on the serial port; `own` are qmpd's own options.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")  # the system finds a name
        listener.listen()
        inherit, more = [listener.fileno()], list(options)
        if action is not None and real:
            numbers, disk = stack.enter_context(guests.disk(action + TELL))
            inherit += numbers
            more += [*disk, "-serial", "stdio"]
        program = programs()[release] if real else PROGRAM
        monitor = ["-chardev", f"socket,id=m,fd={listener.fileno()},server=on,wait=off", "-mon", "m,mode=control"]
        process = stack.enter_context(
            subprocess.Popen(
                [*program, *more, *monitor], env=environment(release, own), pass_fds=inherit,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        side = Side(process, listener.getsockname())
        stack.callback(side.client.close)
        yield side


def kinds(release: str) -> list[bool]:
    """The kinds of programs that there are: real ones, and qmpd."""
    return [True, False] if release in programs() else [False]
