"""The drop-in program as a process: background, pid file, standard input and output, inherited sockets."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

from tests.devices import needs_pseudo_terminals
from tests.emulator.support import QUIET, connect, receive_exactly, run, running
from tests.golden import DIRECTORY

if TYPE_CHECKING:
    from pathlib import Path

NEGOTIATE = '{"execute": "qmp_capabilities"}'
QUIT = '{"execute": "quit"}'


def test_it_speaks_on_standard_input_and_output() -> None:
    ended = run(*QUIET, "-qmp", "stdio", "-name", "one", text=f'{NEGOTIATE}{{"execute": "query-name"}}{QUIT}')
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert "QMP" in lines[0]
    assert lines[2] == {"return": {"name": "one"}}
    assert lines[-1] == {"return": {}}
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_background_begins_when_it_listens(tmp_path: Path) -> None:
    path, pid_file = tmp_path / "qmp", tmp_path / "pid"
    ended = run(
        *QUIET, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off", "-pidfile", str(pid_file), "-daemonize"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    number = int(pid_file.read_text())
    assert os.readlink(f"/proc/{number}/cwd") == "/"
    assert os.readlink(f"/proc/{number}/fd/2") == os.devnull
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))  # at once: it listens by now
        client.sendall((NEGOTIATE + QUIT).encode())
        while client.recv(4096):
            pass
    deadline = time.monotonic() + 10
    while pid_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_background_fails_with_its_child(tmp_path: Path) -> None:
    ended = run(*QUIET, "-qmp", "unix:/nonexistent/qmp,server=on,wait=off", "-daemonize")
    assert ended.returncode == 1
    assert ended.stderr == (
        "qmpd-system-x86_64: -qmp unix:/nonexistent/qmp,server=on,wait=off: "
        "Failed to bind socket to /nonexistent/qmp: No such file or directory\n"
    )


def test_a_socket_is_inherited(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "monitor"))
        listening.listen()
        number = listening.fileno()
        chardev = f"socket,id=charmonitor,fd={number},server=on,wait=off"
        options = [*QUIET, "-chardev", chardev, "-mon", "chardev=charmonitor,id=monitor,mode=control"]
        with (
            running(*options, pass_fds=[number]),
            connect(tmp_path / "monitor") as client,
            client.makefile("rb") as lines,
        ):
            assert b"QMP" in lines.readline()
            client.sendall(f'{NEGOTIATE}{{"execute": "query-chardev"}}'.encode())
            lines.readline()
            (chardevs,) = json.loads(lines.readline())["return"]
            assert chardevs["label"] == "charmonitor"
            assert chardevs["filename"] == f"unix:{tmp_path}/monitor,server=on"


def test_the_human_monitor_draws_as_the_real_one(tmp_path: Path) -> None:
    import gzip

    with gzip.open(DIRECTORY / "7.2" / "terminal.jsonl.gz", "rt", encoding="utf-8") as file:
        steps = [json.loads(line) for line in file]
    path = tmp_path / "monitor"
    options = [*QUIET, "-machine", "none", "-name", "golden", "-monitor", f"unix:{path},server=on,wait=off"]
    with running(*options), connect(path) as client:
        for step in steps:
            client.sendall(step["send"].encode("latin-1"))
            expected = step["recv"].encode("latin-1")
            assert receive_exactly(client, len(expected)) == expected, step["send"]
        assert client.recv(1) == b""


@needs_pseudo_terminals
def test_a_pseudo_terminal_is_served() -> None:
    import subprocess

    with running(*QUIET, "-chardev", "pty,id=p", "-mon", "p,mode=control", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = process.stdout.readline().decode()
        name = told.split()[4]
        assert told == f"char device redirected to {name} (label p)\n"
        number = os.open(name, os.O_RDWR | os.O_NOCTTY)
        try:
            greeting = b""
            while not greeting.endswith(b"\n"):
                greeting += os.read(number, 4096)
        finally:
            os.close(number)
        assert "QMP" in json.loads(greeting)
