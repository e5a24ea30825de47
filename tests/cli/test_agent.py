"""`qmpd agent`: an agent by itself, as its clients find it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

QMPD = [sys.executable, "-m", "qmpd"]


def connect(path: Path) -> socket.socket:
    for _ in range(500):
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            time.sleep(0.02)
            continue
        client.settimeout(10)
        return client
    raise AssertionError("nobody listens")


def ask(client: socket.socket, command: str, **arguments: object) -> Any:
    client.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1 << 16)
    return json.loads(data)


def test_one_client_after_another_until_it_powers_off(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("there")
    path = tmp_path / "qga.sock"
    options = ["--socket", str(path), "--release", "10.0", "--root", str(tmp_path), "--block-rpcs", "guest-exec"]
    with subprocess.Popen([*QMPD, "agent", *options], stderr=subprocess.PIPE, text=True) as process:
        with connect(path) as first:
            assert ask(first, "guest-file-open", path="/hello", mode="r+") == {"return": 1000}
            refused = ask(first, "guest-exec", path="/bin/true")["error"]["desc"]
            assert refused == "Command guest-exec has been disabled: the command is not allowed"
        with connect(path) as second:
            assert ask(second, "guest-file-write", handle=1000, **{"buf-b64": "SEVZ"})["return"]["count"] == 3
            assert ask(second, "guest-file-seek", handle=1000, offset=0, whence="set")["return"]["position"] == 0
            assert ask(second, "guest-file-read", handle=1000)["return"]["buf-b64"] == "SEVZcmU="
            second.sendall(b'{"execute": "guest-shutdown"}')
            assert second.recv(1) == b""
        assert process.wait(10) == 0
    assert (tmp_path / "hello").read_text() == "there"
    assert not path.exists()


def test_an_unknown_command_is_told(tmp_path: Path) -> None:
    line = [*QMPD, "agent", "--socket", str(tmp_path / "s"), "--block-rpcs", "guest-pong"]
    run = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stderr) == (
        1, "qmpd agent: --block-rpcs: the agent of 10.0 has no command 'guest-pong'\n",
    )  # fmt: skip
