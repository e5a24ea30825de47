"""Clients that somebody else has let in (`add_client`), on qmpd and on real QEMU."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.beside import NONE, running
from tests.clients.test_file_sets import CASES, Client, client_of, each_program
from tests.emulator import support
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

FAILED, NO_SOCKET = "failed to add client", "parameter @fdname must name a socket"
CHECKED = ("10.0", "11.1")
"""The releases that look at once whether the file is a socket."""


def give(client: Client, protocol: str, number: int) -> Any:
    client.ask("getfd", number, fdname="a")
    answer = client.ask("add_client", protocol=protocol, fdname="a")
    assert client.ask("closefd", fdname="a") == "File descriptor named 'a' not found", "it is taken in any case"
    return answer


def filename(client: Client, label: str) -> str:
    found: str = next(each["filename"] for each in client.ask("query-chardev") if each["label"] == label)
    return found


def is_open(peer: socket.socket) -> bool:
    peer.settimeout(0.1)
    try:
        return peer.recv(1) != b""
    except TimeoutError:
        return True


@each_program
def test_a_character_device_gets_a_client(release: str, real: bool) -> None:
    suffix = ",server" if release == "5.2" else ",server=on"
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        client = clients[0]
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("")
        listener.listen()
        client.ask("getfd", listener.fileno(), fdname="l")
        address = {"type": "fd", "data": {"str": "l"}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        assert client.ask("chardev-add", id="k", backend=backend) == {}
        client.ask("chardev-add", id="ring", backend={"type": "ringbuf", "data": {}})
        alone = filename(client, "k")
        assert alone.startswith("disconnected:")
        (ours, theirs), (other, others) = socket.socketpair(), socket.socketpair()
        assert give(client, "k", theirs.fileno()) == {}
        assert filename(client, "k") == f"unix:{suffix}"
        for taken in ("k", "ring", "m"):
            assert give(client, taken, others.fileno()) == FAILED
        theirs.close()
        others.close()
        assert is_open(ours)
        assert not is_open(other)
        # Once it has left the device takes another one.
        ours.close()
        wait_until(lambda: filename(client, "k") == alone)
        ours, theirs = socket.socketpair()
        assert give(client, "k", theirs.fileno()) == {}
        ours.close()
        theirs.close()
        assert client.ask("chardev-remove", id="k") == {}
        listener.close()
        other.close()


@each_program
def test_a_client_that_has_left_by_then(release: str, real: bool) -> None:
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        client = clients[0]
        inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
        for telnet in (False, True):
            backend = {"type": "socket", "data": {"addr": inet, "server": True, "wait": False, "telnet": telnet}}
            assert client.ask("chardev-add", id="k", backend=backend) == {}
            alone = filename(client, "k")
            with socket.socket() as theirs:
                assert give(client, "k", theirs.fileno()) == {}
            wait_until(lambda alone=alone: filename(client, "k") == alone)  # type: ignore[misc]
            assert client.ask("chardev-remove", id="k") == {}


@each_program
def test_other_protocols(release: str, real: bool) -> None:
    invalid = "protocol '{}' is invalid"
    bus = invalid.format("@dbus-display") if release == "5.2" else "D-Bus display is not in use"
    wanted = {"spice": "SPICE is not in use", "@dbus-display": bus, "foo": invalid.format("foo"), "vnc": {}}
    file = os.memfd_create("file")
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        assert clients[0].ask("add_client", protocol="foo", fdname="b") == (
            "File descriptor named 'b' has not been found"
        )
        for protocol, answer in wanted.items():
            ours, theirs = socket.socketpair()
            assert give(clients[0], protocol, theirs.fileno()) == answer
            assert give(clients[0], protocol, file) == (NO_SOCKET if release in CHECKED else answer)
            ours.close()
            theirs.close()
        clients[0].ask("chardev-add", id="n", backend={"type": "null", "data": {}})
        assert give(clients[0], "n", file) == (NO_SOCKET if release in CHECKED else FAILED)
    os.close(file)


@pytest.mark.parametrize("release", sorted({release for release, _ in CASES}))
def test_a_monitor_gets_a_client_and_takes_no_other(tmp_path: Path, release: str) -> None:
    monitors = []
    for name in ("m", "k"):
        monitors += ["-chardev", f"socket,id={name},path={tmp_path}/{name},server=on,wait=off"]
        monitors += ["-mon", f"chardev={name},mode=control"]
    with support.running(*NONE, *monitors, release=release):
        support.connect(tmp_path / "m").close()
        client = Client(str(tmp_path / "m"))
        ours, theirs = socket.socketpair()
        assert give(client, "k", theirs.fileno()) == {}
        theirs.close()
        with ours, ours.makefile("rb") as lines:
            assert b'"QMP"' in lines.readline()
            ours.sendall(b'{"execute": "qmp_capabilities"}')
            assert lines.readline() == b'{"return": {}}\r\n'
            assert give(client, "k", ours.fileno()) == FAILED
            waiting = support.connect(tmp_path / "k")
            waiting.settimeout(0.1)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
        waiting.settimeout(20)
        assert b'"QMP"' in waiting.recv(1 << 12), "its turn has come"
        waiting.close()
        client.close()
