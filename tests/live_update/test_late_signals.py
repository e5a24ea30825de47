"""A process that has handed its machine over is still there for a while: what reaches it then reaches the new one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.live_update.process import PATIENCE, ROOT, Caller, until
from tests.server.support import Client

if TYPE_CHECKING:
    from pathlib import Path


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no more."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    try:
        while True:
            os.write(writes, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writes, True)
    return reads, writes


def takes_clients(path: Path) -> bool:
    """Whether the socket is there and somebody listens to it."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("delay", [0.0, 0.2])
async def test_while_standard_error_takes_nothing(tmp_path: Path, delay: float) -> None:
    path, pid_file = tmp_path / "qmp.sock", tmp_path / "pid"
    reads, writes = full_pipe()
    options = ["--release", "2.x-live-update", "--socket", str(path), "-pidfile", str(pid_file), "-v"]
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "qmpd", "serve", *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=writes
    )
    os.close(writes)
    try:
        await until(lambda: takes_clients(path))
        async with await trio.open_unix_socket(str(path)) as stream:
            client = Client(stream, PATIENCE)
            await client.negotiate()
            caller = Caller(client)
            await caller.prepare()
            assert await caller.returned("live-update-commit", timeout=20_000) == {}
            await trio.sleep(delay)
            assert process.poll() is None, "it has said all it had to say"
            process.send_signal(signal.SIGTERM)
            await caller.event("SHUTDOWN")
            await until(lambda: process.poll() is not None)
            assert process.returncode == 0
    finally:
        os.close(reads)
        process.kill()
        process.wait()
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
