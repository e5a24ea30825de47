"""Sets of files (`add-fd`) that nobody uses any more, and names of files (`getfd`), on qmpd and on real QEMU."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.beside import NONE, RELEASES, kinds, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.beside import Side

CLOSES = ("5.2", "7.2")
"""The releases that close what nobody uses."""
CASES = [(release, real) for release in RELEASES for real in kinds(release)]
each_program = pytest.mark.parametrize(("release", "real"), CASES, ids=str)


class Client:
    """A client that sends files along."""

    def __init__(self, address: str | bytes) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(20)
        self.connection.connect(address)
        self.lines = self.connection.makefile("rb")
        self.message()
        self.ask("qmp_capabilities")

    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines.readline())
        return found

    def ask(self, name: str, *files: int, **arguments: object) -> Any:
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.connection.sendmsg([json.dumps({"execute": name, "arguments": named}).encode()], rights)
        while "event" in (reply := self.message()):
            pass
        return reply["return"] if "return" in reply else reply["error"]["desc"]

    def sets(self) -> dict[int, int]:
        """How many files each set has."""
        return {each["fdset-id"]: len(each["fds"]) for each in self.ask("query-fdsets")}

    def close(self) -> None:
        self.lines.close()
        self.connection.close()


def succeed(side: Side, client: Client) -> Client:
    """A client after this one; a program that serves one at a time has seen that leave by then."""
    client.close()
    return Client(side.address)


@pytest.fixture
def file() -> Iterator[int]:
    number = os.memfd_create("file")
    yield number
    os.close(number)


@contextlib.contextmanager
def client_of(side: Side) -> Iterator[list[Client]]:
    """A list of one client, to be replaced by its successors."""
    side.client.close()
    clients = [Client(side.address)]
    yield clients
    clients[0].close()


@each_program
def test_sets_go_with_the_last_client_of_a_machine_that_runs(release: str, real: bool, file: int) -> None:
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        clients[0].ask("add-fd", file)
        clients[0].ask("add-fd", file, fdset_id=4)
        # A stopped machine keeps them, and that it runs again is not when they go.
        clients[0].ask("stop")
        clients[0] = succeed(side, clients[0])
        assert clients[0].sets() == {0: 1, 4: 1}
        clients[0].ask("cont")
        assert clients[0].sets() == {0: 1, 4: 1}
        clients[0] = succeed(side, clients[0])
        assert clients[0].sets() == ({} if release in CLOSES else {0: 1, 4: 1})


@each_program
def test_what_was_removed_from_a_stopped_machine_goes_when_it_runs(release: str, real: bool, file: int) -> None:
    with running(release, real=real, options=[*NONE, "-S"]) as side, client_of(side) as clients:
        number = clients[0].ask("add-fd", file)["fd"]
        clients[0].ask("add-fd", file, fdset_id=0)
        assert clients[0].ask("remove-fd", fdset_id=0, fd=number) == {}
        left = 2 if release in CLOSES else 1
        clients[0].ask("cont")
        assert clients[0].sets() == {0: left}
        clients[0] = succeed(side, clients[0])
        assert clients[0].sets() == ({} if release in CLOSES else {0: 1})


@each_program
def test_a_set_that_is_used_stays(release: str, real: bool, file: int) -> None:
    writing = os.open("/dev/null", os.O_WRONLY)
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        for number, each in ((0, writing), (0, file), (1, file)):
            clients[0].ask("add-fd", each, fdset_id=number)
        backend = {"type": "file", "data": {"out": "/dev/fdset/0", "append": True}}
        assert clients[0].ask("chardev-add", id="f", backend=backend) == {}
        clients[0] = succeed(side, clients[0])
        assert clients[0].sets() == ({0: 2} if release in CLOSES else {0: 2, 1: 1})
        assert clients[0].ask("remove-fd", fdset_id=0) == {}
        assert clients[0].sets()[0] == 0, "it has no file, but a user"
        clients[0].ask("chardev-remove", id="f")
        assert 0 not in clients[0].sets()
    os.close(writing)


@each_program
def test_names_outlive_their_client_and_are_given_anew(release: str, real: bool, file: int) -> None:
    ours, theirs = socket.socketpair()
    with running(release, real=real, options=NONE) as side, client_of(side) as clients:
        clients[0].ask("getfd", theirs.fileno(), fdname="a")
        theirs.close()
        clients[0] = succeed(side, clients[0])
        # The socket is closed where another file gets its name, and not before.
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        assert clients[0].ask("getfd", file, fdname="a") == {}
        ours.setblocking(True)
        ours.settimeout(20)
        assert ours.recv(1) == b""
        assert clients[0].ask("closefd", fdname="a") == {}
        assert clients[0].ask("closefd", fdname="a") == "File descriptor named 'a' not found"
    ours.close()
