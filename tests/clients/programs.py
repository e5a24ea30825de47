"""qmpd as a process of its own, and the programs that talk to it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QMPD = [sys.executable, "-m", "qmpd"]
SOCAT = shutil.which("socat")
# Installed beside the interpreter, with qemu.qmp.
QMP_SHELL = str(Path(sys.executable).parent / "qmp-shell")
PATIENCE = 20.0
"""Seconds until a program that does not do what it should is given up."""

_TIMESTAMP = re.compile(rb'"timestamp": \{"seconds": \d+, "microseconds": \d+\}')


def without_times(data: bytes) -> bytes:
    """The bytes with every timestamp as T."""
    return _TIMESTAMP.sub(b'"timestamp": T', data)


class Server:
    """A running `qmpd serve`: its process, and its first socket's path."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self.path = path

    def connect(self, path: Path | None = None) -> socket.socket:
        """A connection, made as soon as the server listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE)
            try:
                client.connect(str(path or self.path))
                return client
            except OSError:
                client.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def greeted(self, path: Path | None = None) -> socket.socket:
        """A connection that has read its greeting."""
        client = self.connect(path)
        assert read_lines(client, 1)[0].startswith(b'{"QMP": ')
        return client

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; the exit status, standard output and standard error."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end; the exit status, standard output and standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


@contextmanager
def serving(
    path: Path, *options: str, listen: bool = True, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """A `qmpd serve` with these options that listens at `path`; ended with the context if it still runs."""
    command = [*QMPD, "serve", *options]
    if listen:
        command += ["-qmp", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment if environment else None,
    ) as process:
        server = Server(process, path)
        try:
            server.connect().close()
            yield server
        finally:
            if process.poll() is None:
                process.kill()


def read_lines(client: socket.socket, count: int) -> list[bytes]:
    """The next `count` lines with their ends, one byte at a time so that no more is taken."""
    lines: list[bytes] = []
    for _ in range(count):
        line = b""
        while not line.endswith(b"\r\n"):
            byte = client.recv(1)
            if not byte:
                raise EOFError(f"the connection ended within {line!r}, after {lines!r}")
            line += byte
        lines.append(line)
    return lines


def read_all(client: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    data = b""
    while part := client.recv(1 << 16):
        data += part
    return data
