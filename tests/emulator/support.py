"""Starting the drop-in program, and talking to what it opens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'qmpd-system-x86_64'; from qmpd.emulator.program import main; sys.exit(main())",
]
QUIET = ["-nodefaults", "-display", "none", "-S"]


def environment(release: str = "7.2", options: str = "") -> dict[str, str]:
    return {**os.environ, "QMPD_RELEASE": release, "QMPD_OPTIONS": options}


def run(*options: str, text: str = "", release: str = "7.2", **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, `text` being its standard input."""
    return subprocess.run(
        [*PROGRAM, *options],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(release),
        **more,
    )


@contextmanager
def running(*options: str, release: str = "7.2", **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The program in the background; it is ended afterwards, where it has not."""
    process = subprocess.Popen([*PROGRAM, *options], env=environment(release), **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def connect(path: Path) -> socket.socket:
    """A client of a Unix socket, as soon as it is there."""
    deadline = time.monotonic() + 15
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        try:
            client.connect(str(path))
            return client
        except OSError:
            client.close()
            assert time.monotonic() < deadline, f"nobody listens at {path}"
            time.sleep(0.02)


def receive_exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        assert more, f"the connection ended after {data!r}"
        data += more
    return data
