"""Starting qmpd's programs many times over: by a process that has read all of their modules and forks for each.

`python -m tests.refusals.zygote` takes requests on its standard input, a Unix socket: a line of JSON, `{"argv",
"environment"}`, with three open files, the new process's standard ones.  It answers each with the process's number.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from threading import Lock
from typing import IO, Self

_MODULES = (
    "trio", "orjson", "qmpd.emulator.program", "qmpd.emulator.phases.start", "qmpd.emulator.reading.options",
    "qmpd.server.serve", "qmpd.server.virtual_machine", "qmpd.human.monitor", "qmpd.system.build",
    "qmpd.server.threads",
)  # fmt: skip
_RELEASES = ("5.2", "7.2", "10.0", "11.1")


def serve() -> None:
    """Fork for each request, until nobody asks any more."""
    from qmpd.monitor.commands import handlers
    from qmpd.qapi import load_release

    for module in _MODULES:
        import_module(module)
    for name in _RELEASES:
        release = load_release(name)
        handlers(release)
        _ = (release.hardware, release.command_line, release.introspection, release.object_types, release.answers)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    asking = socket.socket(fileno=0)
    while True:
        data, descriptors, _, _ = socket.recv_fds(asking, 1 << 20, 3)
        if not data:
            return
        number = os.fork()
        if number == 0:
            asking.detach()
            _become(json.loads(data), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        asking.send(str(number).encode())


def _become(request: dict[str, object], descriptors: list[int]) -> None:
    status = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
            os.close(descriptor)
        argv, environment = request["argv"], request["environment"]
        assert isinstance(argv, list)
        assert isinstance(environment, dict)
        os.environ.update(environment)
        sys.argv = argv
        from qmpd.emulator.program import main

        status = main(argv[1:])
        sys.stdout.flush()
    finally:
        os._exit(status)


class Forked:
    """A program that a zygote has started."""

    def __init__(self, number: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._number = number
        self.stdin = stdin
        self.stdout = stdout

    def end(self) -> None:
        """End it, however it is."""
        with suppress(ProcessLookupError):
            os.kill(self._number, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()


class Zygote:
    """A process that starts others; a context manager that ends it."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.refusals.zygote"], stdin=theirs.fileno())
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._asking.close()
        self._process.wait(10)

    def start(self, argv: list[str], environment: dict[str, str]) -> Forked:
        """Start `qmpd-system-x86_64` with these words, the first of which is its own name."""
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        descriptors = [theirs_in, theirs_out, os.open(os.devnull, os.O_WRONLY)]
        request = json.dumps({"argv": argv, "environment": environment}).encode()
        with self._lock:
            socket.send_fds(self._asking, [request], descriptors)
            number = int(self._asking.recv(32))
        for descriptor in descriptors:
            os.close(descriptor)
        return Forked(number, os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb"))


if __name__ == "__main__":
    serve()
