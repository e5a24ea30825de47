"""A VM in a process of its own, played through its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmpd.control.errors import ControlError
from qmpd.control.performance import Declaration
from qmpd.control.values import MISSING, to_wire, wire_name
from qmpd.machine import RunState
from qmpd.testing.decoding import decode, result_type
from qmpd.testing.settings import Folder, StartError, release_of
from qmpd.testing.vm import VM
from qmpd.testing.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.server.settings import VMSettings

START = 20.0
"""Seconds that the process is given to listen."""

ANSWER = 60.0
"""Seconds that a control command is given."""

GRACE = 5.0
"""Seconds that the process is given to end, before it is killed."""


class ControlConnection:
    """A negotiated connection to a control socket that follows the transcript.

    What is read in one thread is in its order: where a command's reply is there, all that came before it is in the
    watch.
    """

    def __init__(self, path: str, watch: Watch) -> None:
        """Connect.

        :raise OSError: nobody listens, or it closes.
        """
        self._watch = watch
        self._lock = threading.Lock()
        self._answered = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._identity = 0
        self.ended = False
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
            self._lines = self._socket.makefile("rb")
            if not self._lines.readline():
                raise ConnectionResetError
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._read, name="qmpd-control", daemon=True)
        self._thread.start()
        self.execute("qmp_capabilities", {})
        self.execute("transcript-follow", {"from-start": True})

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._lines:
                message = json.loads(line)
                if "event" in message:
                    self._watch.add(message["data"])
                else:
                    with self._answered:
                        self._answers[message["id"]] = message
                        self._answered.notify_all()
        with self._answered:
            self.ended = True
            self._answered.notify_all()
        self._watch.close()

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """Execute a control command; what it returns.

        :raise ControlError: it failed, or the VM has ended.
        """
        with self._lock:
            self._identity += 1
            identity = self._identity
            request = {"execute": name, "arguments": arguments, "id": identity}
            with contextlib.suppress(OSError):  # the reader finds out
                self._socket.sendall(json.dumps(request).encode() + b"\n")
        with self._answered:
            if not self._answered.wait_for(lambda: identity in self._answers or self.ended, ANSWER):
                raise ControlError(f"the VM does not answer {name}")
            answer = self._answers.pop(identity, None)
        if answer is None:
            raise ControlError("the VM has ended")
        if "error" in answer:
            raise ControlError(answer["error"]["desc"])
        return answer["return"]

    def wait_until_ended(self, timeout: float) -> None:
        """Wait until the VM has closed the connection, but no longer than `timeout` seconds."""
        with self._answered:
            self._answered.wait_for(lambda: self.ended, timeout)

    def close(self) -> None:
        """End the connection, and the thread that reads it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._lines.close()
        self._socket.close()


class ProcessVM(VM):
    """A VM in a process of its own: `qmpd serve` with a control socket.  `process` is that process."""

    def __init__(self, settings: VMSettings, folder: Folder, arguments: list[str]) -> None:
        """Start it; `arguments` are those that `settings` were made of, but for the sockets and the clock.

        :raise StartError: it ends instead of listening.
        """
        super().__init__(release_of(settings), [monitor.path for monitor in settings.monitors], Watch())
        self._initial = _initial_state(settings)
        self._folder = folder
        self._handed_over = False
        control = folder.file("control.sock")
        line = [*arguments, "-clock", settings.clock, "-control", f"unix:{control.replace(',', ',,')}"]
        if not any(argument.lstrip("-") in ("qmp", "qmp-pretty", "socket") for argument in arguments):
            for monitor in settings.monitors:
                flags = f"wait={'on' if monitor.wait else 'off'},exclusive={'on' if monitor.exclusive else 'off'}"
                line += ["-qmp", f"unix:{monitor.path.replace(',', ',,')},server=on,{flags}"]
        with open(folder.file("log"), "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qmpd", "serve", *line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": _search_path()},
            )
        self._finalizer = weakref.finalize(self, _end, self.process, folder)
        try:
            self._wait_until_listening()
            self._control = ControlConnection(control, self._watch)
        except BaseException:
            log_text = self.log.strip()
            self._finalizer()
            if log_text:
                raise StartError(log_text) from None
            raise

    def _wait_until_listening(self) -> None:
        """The process tells where it listens, and says nothing more after that."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START)
        if not readable or not self.process.stdout.readline():
            raise StartError("qmpd serve has ended" if readable else f"qmpd serve does not listen within {START:g} s")

    @property
    def log(self) -> str:
        """What the process has written to its standard error."""
        try:
            return Path(self._folder.file("log")).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _perform(
        self, attribute: str, declaration: Declaration, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        __tracebackhide__ = True
        named = dict(zip(declaration.function.__code__.co_varnames[1:], arguments, strict=False))
        given = {**named, **options}
        wire = {
            wire_name(name): to_wire(value)
            for name, value in given.items()
            if value is not None and value is not MISSING
        }
        if not self._handed_over and self.process.poll() is not None and not self._control.ended:
            # The connection has been handed over, too, but not who follows the transcript.
            self._handed_over = True
            self._control.execute("transcript-follow", {"from-start": True})
        value = self._control.execute(declaration.name, wire)
        return decode(value, result_type(declaration))

    def _initial_state(self) -> str:
        return self._initial

    @property
    def exit_status(self) -> int | None:
        """The VM's exit status, negative where a signal ended it; None as long as it runs.

        After a live update `process` has ended, and the VM runs on in another one.
        """
        return self._status() if self._control.ended else None

    def _status(self) -> int | None:
        for entry in reversed(self._watch.history):
            if entry.kind == "ended":
                return int(entry.members["status"])
        return self.process.poll()

    def _catch_up(self) -> None:
        # The process may be on its way out.
        with contextlib.suppress(ControlError):
            super()._catch_up()

    def _final_status(self) -> int:
        self._control.wait_until_ended(GRACE)
        self.process.wait(GRACE)
        status = self._status()
        assert status is not None
        return status

    def close(self) -> None:
        """End the process, whatever it is doing, and take its sockets away; nothing happens where that was done."""
        if self._finalizer.alive:
            self._catch_up()
            if self.process.poll() is None:
                self.process.terminate()
            elif not self._control.ended:
                # It is another process by now, whose id is not known.
                with contextlib.suppress(ControlError):
                    self.faults.kill(signal.SIGTERM)
                self._control.wait_until_ended(GRACE)
            _reap(self.process)
            self._control.close()
            self._finalizer()


def _initial_state(settings: VMSettings) -> str:
    if settings.machine.incoming is not None:
        return str(RunState.INMIGRATE)
    if settings.machine.preconfig:
        return release_of(settings).behaviour.preconfig_run_state
    return str(RunState.PRELAUNCH)


def _search_path() -> str:
    """Where the process finds this very package, however the tests have found it."""
    import qmpd

    home = str(Path(qmpd.__file__).parent.parent)
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def _reap(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + GRACE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _end(process: subprocess.Popen[bytes], folder: Folder) -> None:
    if process.poll() is None:
        process.kill()
    _reap(process)
    folder.remove()
