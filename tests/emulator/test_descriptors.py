"""Open files that come with commands."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.support import QUIET, connect, running

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    """A negotiated client that can send files along."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = connection.makefile("rb")
        self.lines.readline()
        assert self.ask("qmp_capabilities") == {}

    def ask(self, command: str, files: tuple[int, ...] = (), /, **arguments: object) -> Any:
        message = json.dumps({"execute": command, "arguments": arguments}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.connection.sendmsg([message], rights)
        reply = json.loads(self.lines.readline())
        return reply["return"] if "return" in reply else reply["error"]["desc"]


# What real QEMU does with a removed file while the machine does not run.
KEPT = {"5.2": True, "7.2": True, "10.0": False}


@pytest.mark.parametrize("release", ["7.2", "10.0"])
def test_files(release: str, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    reading, writing = os.pipe()
    options = [*QUIET, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with running(*options, release=release), connect(path) as connection:
        client = Client(connection)
        assert client.ask("getfd", fdname="a") == "No file descriptor supplied via SCM_RIGHTS"
        assert client.ask("getfd", (reading,), fdname="a") == {}
        assert client.ask("closefd", fdname="a") == {}
        assert client.ask("closefd", fdname="a") == "File descriptor named 'a' not found"
        assert (
            client.ask("getfd", (reading,), fdname="1") == "Parameter 'fdname' expects a name not starting with a digit"
        )
        client.ask("query-status", (reading,))
        assert client.ask("getfd", fdname="b") == {}, "it has come with the command before"
        assert client.ask("getfd", (reading, writing), fdname="c") == {}
        assert client.ask("getfd", fdname="d") == "No file descriptor supplied via SCM_RIGHTS", "only the first is kept"
        first = client.ask("add-fd", (reading,))
        second = client.ask("add-fd", (writing,), **{"fdset-id": 3, "opaque": "x"})
        assert (first["fdset-id"], second["fdset-id"]) == (0, 3)
        sets = client.ask("query-fdsets")
        assert sets == [
            {"fdset-id": 3, "fds": [{"fd": second["fd"], "opaque": "x"}]},
            {"fdset-id": 0, "fds": [{"fd": first["fd"]}]},
        ]
        assert client.ask("remove-fd", (), **{"fdset-id": 9}) == "File descriptor named 'fdset-id:9' not found"
        assert (
            client.ask("remove-fd", (), **{"fdset-id": 3, "fd": 999})
            == "File descriptor named 'fdset-id:3, fd:999' not found"
        )
        assert client.ask("remove-fd", (), **{"fdset-id": 3}) == {}
        assert client.ask("query-fdsets") == (sets if KEPT[release] else sets[1:])
        client.lines.close()
    os.close(reading)
    os.close(writing)


def test_a_character_device_on_a_socket_that_was_handed_over(tmp_path: Path) -> None:
    """What libvirt does for a channel that it attaches."""

    def named(name: str) -> dict[str, object]:
        address = {"type": "fd", "data": {"str": name}}
        return {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}

    path, channel = tmp_path / "qmp", tmp_path / "channel"
    options = [*QUIET, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with running(*options) as _, connect(path) as connection, socket.socket(socket.AF_UNIX) as listening:
        client = Client(connection)
        listening.bind(str(channel))
        listening.listen()
        reading, writing = os.pipe()
        client.ask("getfd", (reading,), fdname="pipe")
        client.ask("getfd", (listening.fileno(),), fdname="channel")
        refused = "Failed to add chardev 'c': File descriptor"
        assert client.ask("chardev-add", id="c", backend=named("pipe")) == f"{refused} 'pipe' is not a socket"
        assert client.ask("chardev-add", id="c", backend=named("channel")) == {}
        assert client.ask("chardev-add", id="d", backend=named("channel")).endswith("'channel' has not been found")
        ours, theirs = socket.socketpair()
        client.ask("getfd", (theirs.fileno(),), fdname="peer")
        backend = named("peer")
        backend["data"] = {"addr": backend["data"]["addr"], "server": False}  # type: ignore[index]
        assert client.ask("chardev-add", id="e", backend=backend) == {}
        assert client.ask("chardev-remove", id="e") == {}
        theirs.close()
        ours.settimeout(10)
        assert ours.recv(1) == b"", "no copy of it is left open"
        ours.close()
        names = {each["label"]: each["filename"] for each in client.ask("query-chardev")}
        assert names["c"] == f"disconnected:unix:{channel},server=on"
        client.lines.close()
        os.close(reading)
        os.close(writing)


def test_a_log_in_a_set(tmp_path: Path) -> None:
    """What libvirt does for a serial port that is a file."""
    path, log = tmp_path / "qmp", tmp_path / "log"
    number = os.open(log, os.O_WRONLY | os.O_CREAT)
    options = ["-add-fd", f"set=0,fd={number},opaque=log", "-chardev", "file,id=serial,path=/dev/fdset/0,append=on"]
    monitor = ["-machine", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with running(*QUIET, *options, *monitor, pass_fds=[number]), connect(path) as connection:
        client = Client(connection)
        (files,) = client.ask("query-fdsets")
        assert (files["fdset-id"], files["fds"][0]["opaque"]) == (0, "log")
        assert {each["filename"] for each in client.ask("query-chardev")} == {"file", f"unix:{path},server=on"}
        client.lines.close()
    os.close(number)


def test_a_set_that_is_removed_is_there_until_no_disk_is_in_it(tmp_path: Path) -> None:
    path, disk = tmp_path / "qmp", tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    options = [*QUIET, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with running(*options, release="10.0"), connect(path) as connection, disk.open("rb") as file:
        client = Client(connection)
        assert client.ask("add-fd", (file.fileno(),), **{"fdset-id": 1})["fdset-id"] == 1
        node = {"driver": "file", "node-name": "n", "filename": "/dev/fdset/1", "read-only": True}
        assert client.ask("blockdev-add", **node) == {}
        assert client.ask("remove-fd", (), **{"fdset-id": 1}) == {}
        assert client.ask("query-fdsets") == [{"fdset-id": 1, "fds": []}]
        assert client.ask("blockdev-del", (), **{"node-name": "n"}) == {}
        assert client.ask("query-fdsets") == []
        client.lines.close()
