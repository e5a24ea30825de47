"""Children that mean no good: whatever they say, the parent neither stands still for it nor grows, and serves on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.live_update.process import before, child, ended, gone, other, running
from tests.live_update.test_failures import parent

if TYPE_CHECKING:
    from tests.live_update.process import Caller, Process

SAY = "import struct; say = lambda data: os.write(channel._socket.fileno(), data)"


def answer(size: int, descriptors: int = 0, payload: bytes = b"") -> str:
    """What a child does that sends such a frame, and then nothing."""
    head = f"b'QMPU' + struct.pack('!QI', {size}, {descriptors})"
    return f"{SAY}; say({head} + {payload!r}); time.sleep(100)"


def whole(payload: bytes) -> str:
    return answer(len(payload), payload=payload)


SLOWLY = f"{SAY}; [(say(byte), time.sleep(0.1)) for byte in [b'QMPU', *[bytes(1)] * 99]]"
TOO_LATE = "it had 0.7 seconds"

# What a child says in the place of an answer, and what the parent says of that.
NO_ANSWERS = {
    answer(1 << 62): "what is to come is too large",
    answer(8 << 30, payload=bytes(1 << 15)): "what is to come is too large",
    answer(100, 1 << 31): "what is to come is too large",
    # Once Python's own format was spoken here, in which these are a list of two thousand million elements.
    whole(b"[\xff\xff\xff\x7f"): "what came cannot be read",
    whole(b"[" * 50_000): "what came cannot be read",
    whole(b"[" + b"[]," * 20_000 + b"1]"): "what came is no message",
    whole(b"{}"): "what came is no message",
    whole(b'{"kind": {"\\u0000t": 5}}'): "what came cannot be read",
    whole(b'{"kind": "other", "reason": ["x"]}'): "it does not say why",
    whole(b'{"kind": "refused", "reason": "' + b"x" * 60_000 + b'"}'): "x" * 1000,
    answer(10): TOO_LATE,
    SLOWLY: TOO_LATE,
    f"{SAY}; say(bytes(range(200))); time.sleep(100)": "what came is not from a qmpd",
    "time.sleep(100)": TOO_LATE,
}


def memory(server: Process) -> int:
    """The most that the process has had in use, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def refused(client: Caller, server: Process, program: str) -> str:
    """Have the child take over, which it does not; what the parent says of it."""
    process = await client.prepare(program=program)
    reply = await client.call("live-update-commit", timeout=700)
    # Nobody has cancelled anything, and nothing is left of the child.
    await gone(process)
    assert server.pid == server.process.pid
    return str(reply["error"]["desc"]).removeprefix("The child could not take over: ")


@pytest.mark.parametrize("half", [0, 1])
async def test_what_is_no_answer(tmp_path: Path, half: int) -> None:
    async with parent(tmp_path) as (server, client, pulse):
        used = 0
        for number, (what, reason) in enumerate(NO_ANSWERS.items()):
            if number % 2 == half:
                program = child(tmp_path, before("serving" if number % 4 < 2 else "standing", what))
                pulse.longest = 0.0
                assert (await refused(client, server, program)).startswith(reason), what
                assert pulse.longest < 1.2
                used = used or memory(server)
        assert memory(server) < used + 20_000
        os.unlink(tmp_path / "child")


async def test_what_is_no_answer_of_one_that_gets_ready(tmp_path: Path) -> None:
    async with parent(tmp_path) as (server, client, pulse):
        used = memory(server)
        for what in (answer(1 << 62), answer(8 << 30), whole(b"[\xff\xff\xff\x7f"), SLOWLY):
            pulse.longest = 0.0
            body = what.replace("channel._socket.fileno()", "descriptor")
            await client.returned("live-update-prepare", program=other(tmp_path, body), timeout=700)
            status = await client.stage_other_than("father-prepare")
            assert status["stage"] == "failed"
            assert pulse.longest < 2
        assert memory(server) < used + 20_000
        os.unlink(tmp_path / "child")


async def test_one_that_comes_to_itself_too_late_serves_nobody(tmp_path: Path) -> None:
    """It says nothing until it is given up, and would go on then."""
    marker = tmp_path / "marker"
    async with running(tmp_path) as server:
        client = await server.connect()
        late = before("standing", f"time.sleep(0.6); open({str(marker)!r}, 'w').close()")
        process = await client.prepare(program=child(tmp_path, late))
        reply = await client.call("live-update-commit", timeout=300)
        assert reply["error"]["desc"] == "The child could not take over: it had 0.3 seconds"
        await trio.sleep(0.5)
        assert not marker.exists()
        assert not Path(f"/proc/{process}").exists()


async def test_one_that_is_given_up_after_it_has_everything_touches_no_client(tmp_path: Path) -> None:
    """It is ready to serve, but is never told that the machine is its own."""
    async with running(tmp_path) as server:
        client = await server.connect()
        # The parent stands still until its time has passed; then the answer is there.
        late = before("serving", "os.kill(parent, signal.SIGSTOP)")
        process = await client.prepare(program=child(tmp_path, late))
        await client.send(b'{"execute": "live-update-commit", "arguments": {"timeout": 500}, "id": "commit"}')
        await client.send(b'{"execute": "query-name", "id": 1}')
        await stopped(server.process.pid)
        await trio.sleep(0.6)
        server.process.send_signal(signal.SIGCONT)
        assert b"it had 0.5 seconds" in (await client.reply() or b"")
        assert await client.reply() == b'{"return": {}, "id": 1}'
        await gone(process)
        assert server.pid == server.process.pid


async def test_a_signal_is_not_lost_with_a_child_that_fails(tmp_path: Path) -> None:
    """It has come before the hand-over, whose child was told of it and is gone."""
    failing = before("standing", "time.sleep(0.4)") + before("serving", "os.kill(os.getpid(), signal.SIGKILL)")
    async with running(tmp_path) as server:
        client = await server.connect()
        await client.prepare(program=child(tmp_path, failing))
        client.events.clear()
        await client.send(b'{"execute": "live-update-commit", "arguments": {"timeout": 20000}, "id": "commit"}')
        await trio.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert b"it is gone" in (await client.reply() or b"")
        assert await client.at_end_after("SHUTDOWN")
        assert await ended(server) == 0
        # The child may have said so, too, before it went.
        assert "terminating on signal 15" in server.errors.read_text()


async def test_a_signal_that_comes_after_the_hand_over_reaches_the_child(tmp_path: Path) -> None:
    """The parent stands still when it has nothing left to do but to end."""
    late = before("serving", "os.kill(parent, signal.SIGSTOP)")
    async with running(tmp_path, "-no-shutdown") as server:
        client = await server.connect()
        process = await client.prepare(program=child(tmp_path, late))
        client.events.clear()
        await client.send(b'{"execute": "live-update-commit", "arguments": {"timeout": 20000}, "id": "commit"}')
        await stopped(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert await client.reply() == b'{"return": {}, "id": "commit"}'
        assert await client.at_end_after("SHUTDOWN")
        assert await ended(server) == 0
        await gone(process)
        assert server.errors.read_text().count("terminating on signal 15") == 1


async def stopped(process: int) -> None:
    with trio.fail_after(10):
        while " T " not in Path(f"/proc/{process}/stat").read_text():  # noqa: ASYNC110
            await trio.sleep(0.005)


@pytest.mark.parametrize(("command", "longest"), [("live-update-prepare", 3_600_000), ("live-update-commit", 60_000)])
async def test_how_long_a_child_may_take(tmp_path: Path, command: str, longest: int) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        if command.endswith("commit"):
            await client.prepare(program=child(tmp_path, before("standing", "time.sleep(100)")))
        for timeout in (0, longest + 1, (1 << 32) - 1):
            reply = await client.call(command, timeout=timeout)
            assert reply["error"]["desc"] == (
                f"Parameter 'timeout' expects a number of milliseconds from 1 to {longest}"
            )
        # The one that is ready still is.
        if command.endswith("commit"):
            reply = await client.call(command, timeout=1)
            assert reply["error"]["desc"] == "The child could not take over: it had 0.001 seconds"
