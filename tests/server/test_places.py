"""Where sockets that listen are made, what is in the way there, and how many clients can wait: as with real QEMU."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.server.listener import BACKLOG, Listener, ListenError
from tests.clients.programs import QMPD
from tests.emulator.support import PROGRAM, environment
from tests.real_qemu import programs
from tests.server.support import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0
COMMON = ["-machine", "none", "-display", "none", "-nodefaults"]
COMMANDS = {"serve": [*QMPD, "serve", "-machine", "none"], "drop-in": [*PROGRAM, *COMMON]}
if programs().get("7.2", []) and len(programs()["7.2"]) == 1:
    COMMANDS["real"] = [*programs()["7.2"], *COMMON]
LONG = "x" * 120

each_server = pytest.mark.parametrize("server", COMMANDS)


@contextmanager
def started(server: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMANDS[server], *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def connect(path: str) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
            return client
        except OSError:
            client.close()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def lie_in_the_way(kind: str, path: Path) -> None:
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.with_name("target").write_text("kept")
        path.symlink_to("target")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "stale":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))


@each_server
@pytest.mark.parametrize("kind", ["file", "link", "fifo", "stale"])
def test_a_file_in_the_way_is_deleted(server: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    lie_in_the_way(kind, path)
    with started(server, "-qmp", f"unix:{path},server=on,wait=off") as process:
        with connect(str(path)) as client:
            assert client.recv(1 << 16).startswith(b'{"QMP": ')
            assert stat.S_ISSOCK(os.lstat(path).st_mode)
        process.terminate()
        process.wait(PATIENCE)
    assert server == "real" or not path.exists()
    if kind == "link":
        assert path.with_name("target").read_text() == "kept"


REFUSALS = {
    "folder": ("folder", "Failed to unlink socket {}: Is a directory"),
    "below a file": ("file/socket", "Failed to unlink socket {}: Not a directory"),
    "below nothing": ("none/socket", "Failed to bind socket to {}: No such file or directory"),
    "too long": (LONG, "UNIX socket path '{}' is too long"),
}


@each_server
@pytest.mark.parametrize(("name", "text"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_place_for_a_socket(server: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    with started(server, "-qmp", f"unix:{path},server=on,wait=off") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.splitlines()[0].endswith(f": {text.format(path)}")


@each_server
def test_a_live_server_is_in_the_way(server: str, tmp_path: Path) -> None:
    """Real QEMU takes its place; `qmpd serve` does not."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with started(server, "-qmp", f"unix:{path},server=on,wait=off") as process:
            if server == "serve":
                _, errors = process.communicate(timeout=PATIENCE)
                assert errors.endswith(f"Failed to bind socket to {path}: Address already in use\n")
                return
            deadline = time.monotonic() + PATIENCE
            while True:
                with connect(str(path)) as client:
                    client.settimeout(0.2)
                    try:
                        assert client.recv(1 << 16).startswith(b'{"QMP": ')
                        return
                    except TimeoutError:
                        assert time.monotonic() < deadline


async def test_chardev_add_meets_the_same(tmp_path: Path) -> None:
    async with served(tmp_path, release="7.2") as machine:
        client = await machine.connect()
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("")
        for name, text in REFUSALS.values():
            path = tmp_path / name
            address = {"type": "unix", "data": {"path": str(path)}}
            backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
            reply = await client.execute("chardev-add", id="new", backend=backend)
            assert reply["error"]["desc"] == f"Failed to add chardev 'new': {text.format(path)}"  # type: ignore[index]
        address["data"] = {"path": str(tmp_path / "file")}
        assert "return" in await client.execute("chardev-add", id="new", backend=backend)
        assert stat.S_ISSOCK((tmp_path / "file").lstat().st_mode)


# How many can wait


def attempts(path: str, count: int) -> tuple[list[str], list[socket.socket]]:
    """Connect as often, without waiting: what each attempt comes to, and the sockets."""
    results, clients = [], []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        results.append(errno.errorcode.get(client.connect_ex(path), "connected"))
        clients.append(client)
    return results, clients


EXCLUSIVE = {"serve": ",exclusive=on", "drop-in": "", "real": ""}
FULL = ["connected", "connected", "EAGAIN", "EAGAIN"]


def greeted(client: socket.socket) -> bool:
    client.settimeout(PATIENCE)
    return client.recv(1 << 16).startswith(b'{"QMP": ')


def waiting_beside_one(path: str) -> list[str]:
    """What four attempts come to while a client is served; those that wait are served in their turn."""
    first = connect(path)
    assert greeted(first)
    results, waiting = attempts(path, 4)
    first.close()
    served = []
    for result, client in zip(results, waiting, strict=True):
        if result != "connected" or greeted(client):
            served.append(result)
        client.close()
    time.sleep(0.05)  # the last one is forgotten
    return served


def waiting_while_stopped(path: str, process: subprocess.Popen[str]) -> list[str]:
    os.kill(process.pid, signal.SIGSTOP)
    results, waiting = attempts(path, 4)
    os.kill(process.pid, signal.SIGCONT)
    for client in waiting:
        client.close()
    return results


@each_server
def test_two_wait_for_a_server_of_one_client_at_a_time(server: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    looks: tuple[Callable[[subprocess.Popen[str]], list[str]], ...] = (
        lambda _: waiting_beside_one(path),
        lambda process: waiting_while_stopped(path, process),
    )
    for look in looks:
        # Real QEMU accepts one more now and then, to close it at once; after that it may let nobody in any more.
        seen: list[list[str]] = []
        while FULL not in seen and len(seen) < (40 if server == "real" else 1):
            with started(server, "-qmp", f"unix:{path},server=on,wait=off{EXCLUSIVE[server]}") as process:
                with connect(path) as client:
                    assert greeted(client)
                time.sleep(0.05)  # it is forgotten
                seen.append(look(process))
                if seen[-1] == FULL:
                    with connect(path) as client:
                        assert greeted(client)
        assert FULL in seen


def test_two_wait_for_a_character_device(tmp_path: Path) -> None:
    """As the monitor's, and as those that `chardev-add` makes."""
    paths = {name: str(tmp_path / name) for name in ("qmp", "given", "added")}
    options = ["-qmp", f"unix:{paths['qmp']},server=on,wait=off"]
    options += ["-chardev", f"socket,id=given,path={paths['given']},server=on,wait=off"]
    with started("drop-in", *options), connect(paths["qmp"]) as monitor, monitor.makefile("rb") as lines:
        lines.readline()
        backend = {
            "type": "socket",
            "data": {"addr": {"type": "unix", "data": {"path": paths["added"]}}, "server": True, "wait": False},
        }
        for request in (
            {"execute": "qmp_capabilities"},
            {"execute": "chardev-add", "arguments": {"id": "added", "backend": backend}},
        ):
            monitor.sendall(json.dumps(request).encode())
            assert "return" in json.loads(lines.readline())
        for name in ("given", "added"):
            held = connect(paths[name])
            time.sleep(0.1)
            results, waiting = attempts(paths[name], 4)
            assert results == FULL, name
            for client in (held, *waiting):
                client.close()


async def test_many_wait_for_a_server_of_many_clients(tmp_path: Path) -> None:
    async with served(tmp_path) as machine:
        results, clients = attempts(machine.path, 50)
        assert set(results) == {"connected"}
        await trio.lowlevel.checkpoint()
        for client in clients:
            client.close()
        await machine.healthy()


def test_the_paths_limit_counts_bytes(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="is too long"):
        Listener(f"/tmp/{'é' * 60}", backlog=BACKLOG)
    assert not list(tmp_path.iterdir())
