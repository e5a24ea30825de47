"""Sockets with names that are in no file system, at each door; the real programs that are here are asked, too."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.common.addresses import describe_unix, is_too_long, socket_name, socket_path, unix_address
from qmpd.testing import VMFactory
from tests.block.support import Monitor
from tests.emulator.support import PROGRAM
from tests.emulator.test_dialects import Machine
from tests.emulator.test_dialects import running as machine_running
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

OURS = [pytest.param(PROGRAM, release, id=f"qmpd-{release}") for release in ("5.2", "7.2")]
# 5.2 itself prints whatever is behind a name in its memory.
REAL = [
    pytest.param(program, release, id=f"QEMU-{release}") for release, program in programs().items() if release != "5.2"
]
EACH = pytest.mark.parametrize(("program", "release"), OURS + REAL)
ONE = pytest.mark.parametrize(("program", "release"), OURS[1:] + [each for each in REAL if each.id == "QEMU-7.2"])
_NUMBERS = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that nobody else has."""
    return f"qmpd-test-{os.getpid()}-{next(_NUMBERS)}"


def flag(release: str) -> str:
    return "" if release == "5.2" else "=on"


def connected(place: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    try:
        client.connect(place)
    except OSError:
        client.close()
        raise
    return client


def named(machine: Machine, *labels: str) -> list[str]:
    known = {each["label"]: each["filename"] for each in machine.ask("query-chardev")}
    return [known[label] for label in labels]


def becomes(machine: Machine, label: str, called: str) -> None:
    wait_until(lambda: named(machine, label) == [called])


def backend(name: str, *, tight: bool = True, server: bool = True) -> dict[str, Any]:
    address = {"type": "unix", "data": {"path": name, "abstract": True, "tight": tight}}
    return {"type": "socket", "data": {"addr": address, "server": server, **({"wait": False} if server else {})}}


@EACH
def test_a_device_listens_and_connects(program: list[str], release: str, name: str) -> None:
    on = flag(release)
    tight, loose = f"\0{name}", f"\0{name}b".ljust(108, "\0")
    options = [
        "-chardev", f"socket,id=a,path={name},abstract=on,server=on,wait=off",
        "-chardev", f"socket,id=b,path={name}b,abstract=on,tight=off,server=on,wait=off",
        "-serial", f"unix:{name}c,abstract=on,server=on,wait=off",
    ]  # fmt: skip
    with machine_running(program, release, *options) as machine:
        waiting = f"disconnected:unix:{name},abstract{on},tight{on},server{on}"
        assert named(machine, "a", "b", "serial0") == [
            waiting,
            f"disconnected:unix:{name}b,abstract{on},server{on}",
            f"disconnected:unix:{name}c,abstract{on},tight{on},server{on}",
        ]
        for label, place in ("a", tight), ("b", loose):
            with connected(place):
                becomes(machine, label, f"unix:,server{on}")
        becomes(machine, "a", waiting)
        with pytest.raises(ConnectionRefusedError):
            connected(f"\0{name}b")
        # A device that connects.
        assert machine.ask("chardev-add", id="d", backend=backend(name, server=False)) == {}
        assert named(machine, "d") == ["unix:"]
        becomes(machine, "a", f"unix:,server{on}")
        refused = machine.ask("chardev-add", id="e", backend=backend(name, server=False, tight=False))
        assert refused["desc"].endswith(f"Failed to connect to '{name}': Connection refused")
        refused = machine.ask("chardev-add", id="e", backend=backend(name))
        assert refused["desc"].endswith(f"Failed to bind socket to {name}: Address already in use")
        assert machine.ask("chardev-remove", id="b") == {}
        with pytest.raises(ConnectionRefusedError):
            connected(loose)


@ONE
def test_the_longest_name(program: list[str], release: str, name: str) -> None:
    on = flag(release)
    longest = name.ljust(107, "x")
    with machine_running(program, release) as machine:
        for tight in (True, False):
            assert machine.ask("chardev-add", id="c", backend=backend(longest, tight=tight)) == {}
            # It leaves no room for NULs, so nobody can tell.
            assert named(machine, "c") == [f"disconnected:unix:{longest},abstract{on},server{on}"]
            connected(f"\0{longest}").close()
            machine.ask("chardev-remove", id="c")
            refused = machine.ask("chardev-add", id="c", backend=backend(longest + "x", tight=tight))
            assert refused["desc"].endswith(f"UNIX socket path '{longest}x' is too long")


@ONE
def test_a_socket_without_a_name(program: list[str], release: str) -> None:
    """One that listens gets one."""
    with machine_running(program, release) as machine:
        backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": ""}}, "wait": False}}
        assert machine.ask("chardev-add", id="c", backend=backend) == {}
        (name,) = named(machine, "c")
        path = name.removeprefix("disconnected:unix:").removesuffix(",server=on")
        folder = re.escape(os.environ.get("TMPDIR", "/tmp"))
        assert re.fullmatch(rf"{folder}/qemu-socket-\w{{6}}", path)
        connected(path).close()
        assert machine.ask("chardev-remove", id="c") == {}
        assert not os.path.exists(path)
        backend["data"] = {"addr": {"type": "unix", "data": {"path": ""}}, "server": False}
        refused = machine.ask("chardev-add", id="c", backend=backend)["desc"]
        assert refused.endswith("Failed to connect to '': Connection refused")


@ONE
def test_a_monitor_listens(program: list[str], release: str, name: str) -> None:
    with machine_running(program, release, "-qmp", f"unix:{name},abstract=on,server=on,wait=off") as machine:
        with connected(f"\0{name}") as client, client.makefile("rw") as monitor:
            assert "QMP" in json.loads(monitor.readline())
            assert f"unix:,server{flag(release)}" in [each["filename"] for each in machine.ask("query-chardev")]


@ONE
def test_disks_are_exported_and_reached(program: list[str], release: str, name: str) -> None:
    server = {"path": name, "abstract": True}
    with machine_running(program, release) as machine, machine_running(program, release) as other:
        assert machine.ask("nbd-server-start", addr={"type": "unix", "data": server}) == {}
        machine.ask("blockdev-add", **{"driver": "null-co", "node-name": "n", "size": 1 << 20})
        assert machine.ask("block-export-add", **{"type": "nbd", "id": "e", "node-name": "n", "name": "e"}) == {}
        options = {"driver": "nbd", "export": "e", "node-name": "r", "read-only": True}
        assert other.ask("blockdev-add", **options, server={"type": "unix", **server}) == {}
        (found,) = other.ask("query-named-block-nodes")
        assert found["file"] == f"nbd+unix:///e?socket={name}"
        options["node-name"] = "s"
        refused = other.ask("blockdev-add", **options, server={"type": "unix", **server, "tight": False})
        assert refused["desc"] == f"Failed to connect to '{name}': Connection refused"
        assert machine.ask("nbd-server-stop") == {}
        with pytest.raises(ConnectionRefusedError):
            connected(f"\0{name}")


def test_nothing_is_made_in_the_file_system(
    qmpd: VMFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    vm = qmpd(guest="")
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor("chardev-add", id="c", backend=backend(name)) == {"return": {}}
        connected(f"\0{name}").close()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_moves(qmpd: VMFactory, name: str) -> None:
    address = {"transport": "socket", "type": "unix", "path": name, "abstract": True}
    channels = [{"channel-type": "main", "addr": address}]
    there = qmpd(command_line=["-machine", "pc", "-m", "16", "-nodefaults", "-incoming", "defer"])
    here = qmpd(command_line=["-machine", "pc", "-m", "16", "-nodefaults"])
    with closing(Monitor(there.qmp_path)) as target, closing(Monitor(here.qmp_path)) as source:
        assert target("migrate-incoming", channels=channels) == {"return": {}}
        waiting = target("query-migrate")["return"]["socket-address"]
        assert waiting == [{"type": "unix", "path": name, "abstract": True, "tight": True}]
        assert source("migrate", channels=channels) == {"return": {}}
        wait_until(lambda: target("query-status")["return"]["status"] == "running")


def test_serve_listens_there(name: str) -> None:
    """qmpd's own command line, whose monitor has many clients."""
    command = [sys.executable, "-m", "qmpd", "serve", "-qmp", f"unix:{name},abstract=on,server=on,wait=off"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(f"listens on {name},abstract=on,tight=on\n")
        assert process.stdout.readline() == f"next: socat - ABSTRACT-CONNECT:{name}\n"
        for client in [connected(f"\0{name}") for _ in range(2)]:
            assert client.recv(1 << 16).startswith(b'{"QMP"')
            client.close()
    finally:
        process.terminate()
        process.communicate()


def test_a_place_and_its_address_are_one() -> None:
    for path, tight in itertools.product(["x", "", "ä" * 20, "x" * 106], [True, False]):
        place = socket_path({"path": path, "abstract": True, "tight": tight})
        assert unix_address(place) == {"path": path, "abstract": True, "tight": tight}
        assert socket_name(place) == path
        assert not is_too_long(place)
    assert socket_path({"path": "/x", "tight": False}) == "/x"
    assert describe_unix("/x", "=on") == "unix:/x"
