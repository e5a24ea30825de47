"""The log: lines for people, coloured on a terminal, or a JSON object each."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.testing.client import Client

if TYPE_CHECKING:
    from pathlib import Path


def served(tmp_path: Path, *options: str, stderr: int = subprocess.PIPE) -> str:
    """What a server writes to standard error while a client comes and goes."""
    path = str(tmp_path / "vm.sock")
    command = [sys.executable, "-m", "qmpd", "serve", "--socket", path, "-v", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        with Client(path) as client:
            client.execute("query-status")
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        return server.communicate(timeout=20)[1].decode() if stderr == subprocess.PIPE else ""


def test_text(tmp_path: Path) -> None:
    lines = served(tmp_path).splitlines()
    assert "qmpd: client 1 connected to compat_monitor0" in lines
    assert re.match(r"qmpd: terminating on signal 15 from pid \d+ \(.*\)$", lines[-1])


def test_json(tmp_path: Path) -> None:
    entries = [json.loads(line) for line in served(tmp_path, "--log-format", "json").splitlines()]
    assert all(entry.keys() == {"time", "level", "program", "text"} for entry in entries)
    assert {"level": "info", "text": "client 1 connected to compat_monitor0"}.items() <= entries[0].items()
    assert entries[-1]["level"] == "error"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entries[0]["time"])


@pytest.mark.parametrize("plain", [False, True])
def test_colours(plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        parent, child = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal: {error}")
    monkeypatch.setenv("NO_COLOR", "1" if plain else "")
    served(tmp_path, stderr=child)
    os.close(child)
    shown = os.read(parent, 65536).decode()
    os.close(parent)
    assert ("\x1b[" in shown) is not plain
    assert "client 1 connected" in shown
