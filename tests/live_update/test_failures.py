"""Live updates that come to nothing: the parent answers throughout, and nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.server.hand_over import frames
from tests.live_update.process import Caller, Process, before, child, children, ended, gone, other, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PARENT = {"stage": "none"}
# A hand-over that hangs stops the parent for as long as it may take, which is said in the test.
LONGEST_SILENCE = 1.5


class Pulse:
    """A client that asks without pause; `longest` is the longest that it has waited for an answer, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.answers = 0

    async def beat(self, client: Caller) -> None:
        number = 0
        while True:
            number += 1
            began = time.perf_counter()
            reply = await client.reply(b'{"execute": "query-name", "id": %d}' % number)
            assert reply == b'{"return": {}, "id": %d}' % number
            self.longest = max(self.longest, time.perf_counter() - began)
            self.answers += 1
            await trio.sleep(0.002)


@asynccontextmanager
async def parent(folder: Path) -> AsyncIterator[tuple[Process, Caller, Pulse]]:
    """A running parent, its client, and another one that has to be answered throughout; it must be well at the end."""
    async with running(folder) as server:
        client, other = await server.connect(), await server.connect()
        pulse = Pulse()
        serving = server.pid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pulse.beat, other)
            yield server, client, pulse
            answers = pulse.answers
            await until(lambda: pulse.answers > answers + 5)
            nursery.cancel_scope.cancel()
        assert server.pid == serving == server.process.pid
        assert children(serving) == []
        assert pulse.longest < LONGEST_SILENCE
        assert {file.name for file in folder.iterdir()} == {"stderr", "qmp.sock", "qmpd.pid"}
        # It still can, after all.
        taken_over = await client.update()
        assert server.pid == taken_over
        assert await ended(server) == 0


async def failed(client: Caller, **arguments: object) -> str:
    """Prepare, and give the reason why that failed."""
    client.events.clear()
    assert await client.returned("live-update-prepare", **arguments) == {}
    status = await client.stage_other_than("father-prepare", "father-child-ready")
    assert status["stage"] == "failed", status
    return str(status["reason"])


async def test_a_parent_survives_all_its_children(tmp_path: Path) -> None:
    """One parent, whose children fail one after the other, and which is replaced in the end after all."""
    async with parent(tmp_path) as (server, client, _pulse):
        await children_that_do_not_become_ready(tmp_path, client)
        await children_that_cannot_take_over(tmp_path, server, client)
        await a_child_that_dies_while_it_is_ready(client)
        await a_full_disk_for_the_pid_file(server, client)
        await a_cancel_leaves_nothing(tmp_path, server, client)


async def children_that_do_not_become_ready(folder: Path, client: Caller) -> None:
    path = folder / "child"

    async def fails(**arguments: object) -> str:
        reason = await failed(client, **arguments)
        assert client.events == []
        assert (await client.call("live-update-commit"))["error"]["desc"] == (
            "There is no child that is ready to take over"
        )
        return reason

    assert await fails(program=str(folder / "none")) == f"{folder}/none cannot be started: No such file or directory"
    assert await fails(program=str(folder)) == f"{folder} cannot be started: Permission denied"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o700)
    assert await fails(program=str(path)) == "the child ended with status 3 before it was ready"
    path.write_text("#!/bin/sh\nkill -9 $$\n")
    assert await fails(program=str(path)) == "the child was killed by signal 9 before it was ready"
    path.write_text("#!/bin/sh\nexec sleep 100\n")
    assert await fails(program=str(path), timeout=200) == "the child was not ready after 0.2 seconds"
    other(folder, "os.write(descriptor, b'what may this be?'); time.sleep(100)")
    assert await fails(program=str(path)) == "what came is not from a qmpd"
    other(folder, "os.close(descriptor); time.sleep(100)")
    assert await fails(program=str(path)) == "the child turned away before it was ready"
    child(folder, before("complete", "os.kill(os.getpid(), signal.SIGKILL)"))
    assert await fails(program=str(path)) == "the child was killed by signal 9 before it was ready"
    child(folder, "frames.FORMAT = 7")
    assert await fails(program=str(path)) == f"the child refused: it knows format 7, not {frames.FORMAT}"
    child(folder, "take_over.VMSettings = None")
    assert (await fails(program=str(path))).startswith("the child refused: it fails with AttributeError")
    assert await client.returned("live-update-cancel") == {}
    assert await client.returned("live-update-query") == PARENT


async def children_that_cannot_take_over(folder: Path, server: Process, client: Caller) -> None:
    path = folder / "child"

    async def fails(patience: int = 20_000) -> str:
        process = await client.prepare(program=str(path))
        assert process in children(server.pid)
        client.events.clear()
        reply = await client.call("live-update-commit", timeout=patience)
        assert client.events == []
        description = str(reply["error"]["desc"])
        status = await client.returned("live-update-query")
        assert status["stage"] == "failed"
        assert status["reason"] == description[0].lower() + description[1:]
        # The pid file is the parent's, if the child had taken it.
        assert server.pid == server.process.pid
        # Nothing is left of the child, though nobody has cancelled anything.
        await gone(process)
        return description.removeprefix("The child could not take over: ")

    child(folder, before("standing", "os.kill(os.getpid(), signal.SIGKILL)"))
    assert await fails() == "it is gone"
    child(folder, before("serving", "os.kill(os.getpid(), signal.SIGKILL)"))
    assert await fails() == "it is gone"
    child(folder, before("standing", "time.sleep(100)"))
    assert await fails(patience=300) == "it had 0.3 seconds"
    child(folder, before("serving", "time.sleep(100)"))
    assert await fails(patience=300) == "it had 0.3 seconds"
    child(folder, "take_over.snapshot.put = lambda vm, state, descriptors, locked=True: 1 / 0 if descriptors else None")
    assert "ZeroDivisionError" in await fails()


async def a_child_that_dies_while_it_is_ready(client: Caller) -> None:
    ready = await client.prepare()
    os.kill(ready, signal.SIGKILL)
    status = await client.stage_other_than("father-child-ready")
    assert status == {"stage": "failed", "reason": "the child was killed by signal 9 while it was ready"}


async def a_full_disk_for_the_pid_file(server: Process, client: Caller) -> None:
    # What a process with this limit writes to a file fails as on a full disk; its children inherit it.
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    await client.prepare()
    reply = await client.call("live-update-commit")
    assert reply["error"]["desc"] == f"The child could not take over: {server.pid_file}: File too large"
    assert server.pid == server.process.pid
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)


async def a_cancel_leaves_nothing(folder: Path, server: Process, client: Caller) -> None:
    for program in (other(folder, "time.sleep(100)"), child(folder, name="real")):
        # The one before may still be on its way out.
        await until(lambda: not children(server.pid))
        await client.returned("live-update-prepare", program=program)
        if program.endswith("real"):
            await client.event("INIT_COMPLETE")
        await until(lambda: children(server.pid))
        (started,) = children(server.pid)
        client.events.clear()
        assert await client.returned("live-update-cancel") == {}
        assert await client.stage_other_than("cancelled") == PARENT
        assert not Path(f"/proc/{started}").exists()
        assert client.events == []
        assert (await client.call("live-update-cancel"))["error"]["desc"] == "No live update is under way"
        os.unlink(program)


async def test_a_disk_without_a_free_block(tmp_path: Path) -> None:
    """Where a small file system can be mounted: the pid file needs no new block, so the update succeeds."""
    path = str(tmp_path / "qmp.sock")
    with small_disk(tmp_path / "disk") as folder:
        async with running(folder, "--socket", path) as server:
            client = await server.connect(path=path)
            with pytest.raises(OSError, match="No space left"), (folder / "filler").open("wb") as filler:
                filler.write(bytes(1 << 20))
            taken_over = await client.update()
            assert server.pid == taken_over
            await client.returned("quit")
            await gone(taken_over)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of four blocks."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_parent_that_ends_takes_its_child_along(tmp_path: Path, how: signal.Signals) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        if how is signal.SIGKILL:
            # This one has to notice by itself.
            started = await client.prepare()
        else:
            await client.returned("live-update-prepare", program=other(tmp_path, "time.sleep(100)"))
            await until(lambda: children(server.pid))
            (started,) = children(server.pid)
        server.process.send_signal(how)
        assert await client.at_end()
        await gone(started)
        assert await ended(server) == (-9 if how is signal.SIGKILL else 0)
        assert server.pid_file.exists() is (how is signal.SIGKILL)


async def test_a_machine_that_ends_takes_the_child_along(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        await client.returned("live-update-prepare", program=other(tmp_path, "time.sleep(100)"))
        await until(lambda: children(server.pid))
        (starting,) = children(server.pid)
        assert await client.returned("quit") == {}
        assert await client.at_end()
        await gone(starting)
        assert await ended(server) == 0
        assert {file.name for file in tmp_path.iterdir()} == {"stderr", "child"}


def test_a_child_without_a_parent(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        orphan = subprocess.Popen([child(tmp_path), "take-over", str(number)], pass_fds=[number])
    ours.close()
    assert orphan.wait(30) == 1
