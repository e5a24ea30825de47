"""A plain, blocking QMP client for capture: one connection, replies kept in QEMU's own spelling."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Seconds without an answer after which the other side counts as lost. Some questions instantiate devices.
PATIENCE = 30.0
_CHARDEV = "compat_monitor0"
_RETURN = b'{"return": '
# So many questions are on their way at a time: more would only fill QEMU's queue, which holds eight.
_BATCH = 8


class CaptureError(Exception):
    """What was to be captured cannot be; the text says why."""


class Gone(CaptureError):  # noqa: N818 - the name says what happened
    """The other side has ended or stopped to answer."""


class Refused(CaptureError):  # noqa: N818 - the name says what happened
    """The program ended instead of running; `said` are the lines of its standard error."""

    def __init__(self, message: str, said: list[str]) -> None:
        super().__init__(message)
        self.said = said


class Outcome(NamedTuple):
    """What a command ended with: `value` is the return value's bytes, or else the error's class and text."""

    value: bytes | None
    error_class: str = ""
    description: str = ""

    @property
    def result(self) -> Any:
        """The return value, parsed.

        :raise CaptureError: there was an error instead.
        """
        if self.value is None:
            raise CaptureError(f"{self.error_class}: {self.description}")
        return orjson.loads(self.value)

    @property
    def reply(self) -> bytes:
        """The reply as QEMU would spell it, without an id."""
        if self.value is not None:
            return _RETURN + self.value + b"}"
        error = {"error": {"class": self.error_class, "desc": self.description}}
        return json.dumps(error).replace("\x7f", "\\u007F").encode()


class Client:
    """A negotiated session on a connected socket."""

    def __init__(self, connection: socket.socket, patience: float = PATIENCE) -> None:
        """Wait for the greeting and negotiate.

        :raise Gone: no greeting came within `patience` seconds, or the connection was closed.
        :raise CaptureError: what came is not QMP's greeting.
        """
        self._connection = connection
        self._received = bytearray()
        self.events: list[dict[str, Any]] = []
        connection.settimeout(patience)
        try:
            self.greeting: dict[str, Any] = orjson.loads(self.line())["QMP"]
        except (ValueError, KeyError, TypeError) as error:
            raise CaptureError("what answers is no QMP monitor") from error
        self.ask("qmp_capabilities")

    def close(self) -> None:
        """Leave; the other side keeps running."""
        self._connection.close()

    def line(self) -> bytes:
        """The next line, without its end.

        :raise Gone: none came.
        """
        received = self._received
        start = 0
        while (end := received.find(b"\n", start)) < 0:
            start = len(received)
            try:
                more = self._connection.recv(1 << 18)
            except TimeoutError as error:
                raise Gone("no answer") from error
            except OSError as error:
                raise Gone(error.strerror or "the connection failed") from error
            if not more:
                raise Gone("the connection was closed")
            received += more
        line = bytes(received[:end]).rstrip(b"\r")
        del received[: end + 1]
        return line

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :raise Gone: nobody is there.
        """
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise Gone(error.strerror or "the connection failed") from error

    def outcome(self) -> Outcome:
        """The next reply; events before it are kept in `events`."""
        while True:
            line = self.line()
            # No id is ever sent, so the return value is what stands between the first and the last brace.
            if line.startswith(_RETURN):
                return Outcome(line[len(_RETURN) : -1])
            message = orjson.loads(line)
            if "error" in message:
                return Outcome(None, message["error"]["class"], message["error"]["desc"])
            self.events.append(message)

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Outcome:
        """Execute one command.

        :raise Gone: no answer came.
        """
        self.send(_request(command, arguments))
        return self.outcome()

    def hand_over(self, command: str, arguments: dict[str, Any], descriptor: int) -> Outcome:
        """Execute one command with an open file that comes along.

        :raise Gone: nobody is there, or no answer came.
        """
        try:
            socket.send_fds(self._connection, [_request(command, arguments)], [descriptor])
        except OSError as error:
            raise Gone(error.strerror or "the connection failed") from error
        return self.outcome()

    def ask_all(self, questions: Sequence[tuple[str, dict[str, Any] | None]]) -> list[Outcome]:
        """Execute several, without waiting for each one's reply before sending the next."""
        outcomes: list[Outcome] = []
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            self.send(b"".join(_request(*question) for question in batch))
            outcomes.extend(self.outcome() for _ in batch)
        return outcomes


def _request(command: str, arguments: dict[str, Any] | None) -> bytes:
    message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
    return orjson.dumps(message)


class Program:
    """A running QEMU that was started for capture; a context manager that ends it."""

    def __init__(
        self, command: str, options: Iterable[str], inherit: Iterable[int] = (), patience: float = PATIENCE
    ) -> None:
        """Start it with a monitor on an inherited socket, so that a program in another root needs no path.

        `command` is a shell-like command line, the program and perhaps what starts it.

        :raise CaptureError: it cannot be started.
        :raise Refused: it ended at once, or is no QEMU; the text has what it said.
        """
        ours, theirs = socket.socketpair()
        # A file, since nobody reads while it runs and a full pipe would stop it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the program has ended
        # The chardev has the name that -qmp would give it, since it is among the objects that are captured.
        chardev = f"socket,id={_CHARDEV},fd={theirs.fileno()}"
        monitor = ["-chardev", chardev, "-mon", f"chardev={_CHARDEV},mode=control"]
        try:
            self._process = subprocess.Popen(
                [*shlex.split(command), *monitor, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=[theirs.fileno(), *inherit],
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, ValueError) as error:
            ours.close()
            self._said.close()
            raise CaptureError(f"cannot start '{command}': {error}") from error
        finally:
            theirs.close()
        try:
            self.client = Client(ours, patience)
        except CaptureError as error:
            ours.close()
            said = self._end()
            reason = said[-1] if said else error
            raise Refused(f"'{command}' is no QEMU that answers: {reason}", said) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self) -> list[str]:
        """End it, and give what it said on standard error; nothing the second time."""
        if self._said.closed:
            return []
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").splitlines()
        self._said.close()
        return said

    def close(self) -> list[str]:
        """End it, wait for its end, and give the lines that it wrote to its standard error."""
        self.client.close()
        return self._end()
