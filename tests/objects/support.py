"""A machine whose monitor is spoken to without a socket, and a real QEMU that is asked the same."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from qmpd.chardev.device import Chardev
from qmpd.common.refusals import Refusal
from qmpd.emulator.complaints import Complaints
from qmpd.emulator.phases.start import Start
from qmpd.emulator.reading.options import EmulatorOptions
from qmpd.human.command import lines_of
from qmpd.machine import VirtualClock
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.option_language.errors import OptionError
from qmpd.option_language.options import Given, Option, scan_all
from qmpd.qapi import load_release
from qmpd.server.computer import ThisComputer
from qmpd.system.system import System
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Sequence

Request = tuple[str, dict[str, Any]]

PC = ("-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults", "-S")
SOCKET = "/run/qmp.sock"
PATIENCE = 20.0
# What QEMU leaves to a thread of its own has happened by then, in seconds.
_SETTLED = 2.0
# Seconds until a release that starts is talked to: 5.2 can lose a byte and greet late before.
_SETTLING = {"5.2": 0.2}

_STAMP = re.compile(rb'"timestamp": \{"seconds": \d+, "microseconds": \d+\}')
_THREAD = re.compile(rb'"thread-id": \d+')
# Two digits by chance follow the count in the name of a node that was given none.
_NODE = re.compile(rb"#block(\d+)\d\d")


def comparable(line: bytes) -> bytes:
    """A line without what is of one moment or process only."""
    line = _STAMP.sub(b'"timestamp": {}', line)
    return _NODE.sub(rb"#block\1", _THREAD.sub(b'"thread-id": 0', line))


def spelled(request: Request) -> bytes:
    """A command as it is sent."""
    return json.dumps({"execute": request[0], "arguments": request[1]}).encode()


class InProcess:
    """A machine that was given this command line (of `qmpd-system-x86_64`), with one client that has negotiated."""

    def __init__(self, release: str, options: Sequence[str] = PC) -> None:
        """:raise OptionError: the command line is refused."""
        known = load_release(release)
        words = [*options, "-qmp", f"unix:{SOCKET},server=on,wait=off"]
        options_known = known.command_line.options.items()
        table = {name: Option(name, "A" if takes else None, "", None) for name, takes in options_known}
        parsed = EmulatorOptions(known, Complaints("qemu-system-x86_64"))
        try:
            for each in scan_all(words, table):
                assert isinstance(each, Given)
                parsed.take(each)
            start = Start(parsed)
            start.before()
            settings = start.finish()
        except OptionError:
            raise
        except Refusal as error:
            raise OptionError(known.refusals.message(error)) from None
        chardevs = [Chardev(each.label, each.backend, False, False, each.listened) for each in settings.chardevs]
        chardevs.append(Chardev("compat_monitor0", f"unix:{SOCKET}"))
        self.clock = VirtualClock()
        self.system = System(
            known,
            settings.machine,
            self.clock,
            lambda: None,
            chardevs,
            inventory=start.inventory,
            computer=ThisComputer(),
        )
        self.system.human = lines_of(self.system)
        self.dispatcher = Dispatcher(self.system)
        self.system.machine.start()
        self.session = self.dispatcher.open_session()
        self.session.outgoing.clear()
        self.say(b'{"execute": "qmp_capabilities"}')

    def say(self, data: bytes) -> list[bytes]:
        """Send bytes; gives the lines that come back."""
        self.session.receive(data)
        self.dispatcher.run_requests()
        while self.system.machine.pending:
            self.system.turn()
        self.system.machine.run_timers()
        said = b"".join(self.session.outgoing).split(b"\r\n")[:-1]
        self.session.outgoing.clear()
        return said

    def said(self, command: str, arguments: dict[str, Any] | None = None, /, **more: Any) -> list[bytes]:
        """Execute a command; gives its reply and the events that came with it."""
        given = arguments or {name.replace("_", "-"): value for name, value in more.items()}
        return self.say(json.dumps({"execute": command, "arguments": given}).encode())


class Ended(Exception):  # noqa: N818 - the name says what happened
    """QEMU has ended."""


class Real:
    """A real QEMU that was given this command line; a context manager that ends it.

    Where it runs in a root of its own, paths in what is sent and said are as it sees them.
    """

    def __init__(self, release: str, options: Sequence[str]) -> None:
        """:raise Ended: it refuses to start; the text is what it said."""
        program = programs()[release]
        self.root = program[1] if program[0] == "chroot" else ""
        self._buffer = b""
        self._folder = tempfile.TemporaryDirectory(prefix="qmpd-", dir=f"{self.root}/tmp")
        path = f"{self._folder.name}/qmp.sock"
        self.path = path.removeprefix(self.root)
        self._process = subprocess.Popen(
            [*program, *options, "-qmp", f"unix:{self.path},server=on,wait=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            self._connect(path)
            time.sleep(_SETTLING.get(release, 0))
            self._line()
            self.say(b'{"execute": "qmp_capabilities"}')
        except Ended:
            self.close()
            raise

    def _connect(self, path: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._socket.connect_ex(path):
            if self._process.poll() is not None:
                raise Ended(self._said())
            if time.monotonic() > deadline:
                raise TimeoutError("QEMU does not listen")
            time.sleep(0.002)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _said(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().decode()

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Ended(self._said())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip().replace(self.path.encode(), SOCKET.encode())

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            raise Ended("") from None

    def say(self, data: bytes, lines: int = 1) -> list[bytes]:
        """Send a command; gives what comes back, with what follows from it until there are so many `lines`.

        What QEMU leaves to a thread of its own takes its time.
        """
        self._send(data)
        said = self._until_reply()
        deadline = time.monotonic() + _SETTLED
        while len(said) < lines and time.monotonic() < deadline:
            time.sleep(0.01)
            self._send(b'{"execute": "query-name"}')
            said += self._until_reply()[:-1]
        return said

    def _until_reply(self) -> list[bytes]:
        said: list[bytes] = []
        while True:
            said.append(self._line())
            if said[-1].startswith((b'{"return"', b'{"error"')):
                return said


def human(machine: InProcess | Real, line: str, **more: int) -> str:
    """What the human monitor says to a line."""
    arguments = {"command-line": line, **{key.replace("_", "-"): value for key, value in more.items()}}
    (reply,) = machine.say(spelled(("human-monitor-command", arguments)))
    text: str = json.loads(reply)["return"]
    return text


__all__ = ["PC", "SOCKET", "Ended", "InProcess", "OptionError", "Real", "Request", "comparable", "human", "spelled"]
