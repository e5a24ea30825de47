"""Files that come with commands (SCM_RIGHTS): each command takes the first of its own, and none stays open for nothing.

What is taken is QEMU's: the first file that came with the bytes of the command, or with those of one before it that
has not taken it; the others are closed, as are all when more come or the client leaves.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.support import QUIET, connect, running

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 1100
"""Commands of a client that does not send files, by all appearances."""

Identity = tuple[int, int]


class Sender:
    """A client, and the process that it talks to."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self.lines = connection.makefile("rb")
        self.lines.readline()
        self.send("qmp_capabilities")
        self.reply()

    def leave(self) -> None:
        self.lines.close()
        self.connection.close()

    def send(self, name: str, files: tuple[int, ...] = (), **arguments: object) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.connection.sendmsg([json.dumps({"execute": name, "arguments": arguments}).encode()], rights)

    def reply(self) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self.lines.readline())
        return reply

    def opened(self) -> set[Identity]:
        found = set()
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(identity(entry.stat()))
        return found

    def keeps(self, files: list[int], kept: set[int]) -> None:
        """Of these files the process comes to have open those of `kept`, and no others."""
        wanted = {identity(os.fstat(file)) for file in kept}
        ours = {identity(os.fstat(file)) for file in files}
        deadline = time.monotonic() + 10
        while self.opened() & ours != wanted:
            assert time.monotonic() < deadline, "files stay open, or are not taken"
            time.sleep(0.01)


def identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


@pytest.fixture
def files() -> Iterator[list[int]]:
    made = [os.memfd_create(f"file{number}") for number in range(12)]
    yield made
    for each in made:
        os.close(each)


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    path = tmp_path / "qmp"
    options = [*QUIET, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with running(*options, release="10.0") as process, connect(path) as connection:
        made = Sender(connection, process.pid)
        yield made
        made.lines.close()


def test_the_first_is_taken_and_the_others_are_closed(sender: Sender, files: list[int]) -> None:
    first, named, *_ = files
    sender.send("add-fd", tuple(files[:5:2]))
    number = sender.reply()["return"]["fd"]
    assert identity(Path(f"/proc/{sender.pid}/fd/{number}").stat()) == identity(os.fstat(first))
    sender.send("getfd", (named, *files[5:9]), fdname="a")
    assert sender.reply() == {"return": {}}
    sender.keeps(files, {first, named})
    sender.send("closefd", fdname="a")
    sender.send("remove-fd", (), **{"fdset-id": 0})
    assert [sender.reply(), sender.reply()] == [{"return": {}}] * 2
    sender.keeps(files, set())


def test_what_nobody_takes_is_closed_when_more_come_and_at_the_end(sender: Sender, files: list[int]) -> None:
    sender.send("query-name", (files[0], files[1]))
    sender.reply()
    sender.keeps(files, {files[0], files[1]})
    sender.send("query-name", (files[2], files[3]))
    sender.reply()
    sender.keeps(files, {files[2], files[3]})
    sender.connection.shutdown(socket.SHUT_RDWR)
    sender.keeps(files, set())


def test_a_refused_command_keeps_none(sender: Sender, files: list[int]) -> None:
    sender.send("getfd", (files[0], files[1]), fdname="1")
    sender.send("add-fd", (files[2], files[3]), **{"fdset-id": -1})
    assert all("error" in sender.reply() for _ in range(2))
    sender.keeps(files, set())


def sequences() -> list[list[tuple[str, int]]]:
    """Commands, and how many files come with each."""
    chance = random.Random(1)
    names = ("add-fd", "getfd", "query-name", "query-qmp-schema")
    found: list[list[tuple[str, int]]] = [
        [("query-qmp-schema", 0), ("add-fd", 1), ("add-fd", 1)],
        [("getfd", 1), ("query-name", 0), ("getfd", 1), ("getfd", 1)],
    ]
    return found + [
        [(chance.choice(names), chance.choice((0, 0, 1, 1, 2))) for _ in range(chance.randint(2, 7))] for _ in range(10)
    ]


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one piece"])
@pytest.mark.parametrize("before", [0, LONG], ids=["new clients", "clients that have sent no file for long"])
def test_commands_take_their_own_files(
    tmp_path: Path, sender: Sender, files: list[int], together: bool, before: int
) -> None:
    """All that is sent waits already when the server comes to the first of it; some have no file, or more than one."""
    for sequence in sequences()[: 3 if before else None]:
        sender.leave()
        sender = Sender(connect(tmp_path / "qmp"), sender.pid)
        for _ in range(before):
            sender.send("query-name")
            sender.reply()
        os.kill(sender.pid, signal.SIGSTOP)
        wanted, waiting = send(sender, files, sequence, together or before > 0)
        os.kill(sender.pid, signal.SIGCONT)
        look(sender, wanted)
        sender.keeps(files, set(waiting))
    sender.leave()


def send(
    sender: Sender, files: list[int], sequence: list[tuple[str, int]], together: bool
) -> tuple[list[tuple[str, int | None]], list[int]]:
    """Send commands; the names of each and the file that it takes, and the files that none does.

    Unless all of it is sent `together`, a command may be cut, and the rest of it come with what is behind it.
    """
    rest, waiting = list(files), list[int]()
    wanted: list[tuple[str, int | None]] = []
    for number, (name, count) in enumerate(sequence):
        sent = [rest.pop() for _ in range(min(count, len(rest)))]
        waiting = sent or waiting
        taken = None
        if name in ("add-fd", "getfd") and waiting:
            taken, waiting = waiting[0], []
        wanted.append((name, taken))
        arguments = {"add-fd": {"fdset-id": number}, "getfd": {"fdname": f"f{number}"}}.get(name, {})
        text = json.dumps({"execute": name, "arguments": arguments}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))] if sent else []
        cut = len(text) if together else number % len(text) + 1
        sender.connection.sendmsg([text[:cut]], rights)
        if text[cut:]:
            sender.connection.send(text[cut:])
    return wanted, waiting


def look(sender: Sender, wanted: list[tuple[str, int | None]]) -> None:
    """Each command has taken its file, which is then given back."""
    back: list[tuple[str, dict[str, object]]] = []
    for number, (name, taken) in enumerate(wanted):
        reply = sender.reply()
        if taken is None:
            assert ("return" in reply) == name.startswith("query"), reply
        elif name == "add-fd":
            found = Path(f"/proc/{sender.pid}/fd/{reply['return']['fd']}").stat()
            assert identity(found) == identity(os.fstat(taken))
            back.append(("remove-fd", {"fdset-id": number}))
        else:
            assert reply == {"return": {}}
            back.append(("closefd", {"fdname": f"f{number}"}))
    kept = {taken for _, taken in wanted if taken is not None}
    open_now = sender.opened()
    assert {identity(os.fstat(each)) for each in kept} <= open_now
    for name, arguments in back:
        sender.send(name, (), **arguments)
        assert sender.reply() == {"return": {}}
