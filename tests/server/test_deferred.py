"""Commands that take time: the client that asked waits, and nobody else does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import trio

from tests.live_update.process import running
from tests.server.support import served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

RULES = b'[inject-error]\nevent = "no-such"\n'
REFUSAL = "invalid parameter value: no-such"
"""What is said of these rules, so that it shows that they were read."""

STATUS = b'{"execute": "query-status", "id": 7}'


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = str(tmp_path / "rules.conf")
    os.mkfifo(path)
    return path


def waits_for(path: str) -> bytes:
    """A command that waits until somebody has written to this pipe, and then is refused."""
    options = {"driver": "blkdebug", "node-name": "d", "config": path, "image": {"driver": "null-co"}}
    return json.dumps({"execute": "blockdev-add", "arguments": options, "id": "waits"}).encode()


def write(path: str, rules: bytes = RULES) -> None:
    """Write to the pipe, and close it."""
    with open(path, "wb", buffering=0) as file:
        file.write(rules)


async def refused(client: Client) -> bool:
    reply = await client.message()
    return reply == {"error": {"class": "GenericError", "desc": REFUSAL}, "id": "waits"}


async def quiet(client: Client) -> bool:
    """Whether nothing comes for a while."""
    patience, client.patience = client.patience, 0.1
    try:
        await client.line()
    except trio.TooSlowError:
        return True
    finally:
        client.patience = patience
    return False


async def test_the_others_and_the_machine_go_on(tmp_path: Path, pipe: str) -> None:
    async with served(tmp_path, machine_type="pc") as server:
        waiting, other = await server.connect(), await server.connect()
        await waiting.send(waits_for(pipe) + STATUS)
        for _ in range(3):
            assert (await other.execute("stop"))["return"] == {}
            assert (await other.execute("cont"))["return"] == {}
        assert (await other.execute("query-status"))["return"] != {}
        # Events come to the one that waits, its next reply does not.
        assert [(await waiting.message())["event"] for _ in range(6)] == ["STOP", "RESUME"] * 3
        assert await quiet(waiting)
        # The machine's time passes: what the guest is asked to do it does.
        guest = server.vm.system.guest
        assert guest is not None
        with trio.fail_after(5):
            while not guest.firmware_has_run:  # noqa: ASYNC110 - the guest tells nobody
                await trio.sleep(0.01)
        write(pipe)
        assert await refused(waiting)
        assert (await waiting.message())["id"] == 7


async def test_what_is_out_of_band_overtakes(tmp_path: Path, pipe: str) -> None:
    async with served(tmp_path) as server:
        client = await server.connect(negotiate=False)
        await client.line()
        enable = b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}'
        assert await client.ask(enable) == b'{"return": {}}'
        await client.send(waits_for(pipe) + STATUS * 3)
        await client.send(b'{"exec-oob": "yank", "arguments": {"instances": []}, "id": "oob"}')
        assert (await client.message())["id"] == "oob"
        assert await quiet(client)
        write(pipe)
        assert await refused(client)
        assert [(await client.message())["id"] for _ in range(3)] == [7, 7, 7]


async def test_many_wait_and_are_answered_as_they_can_be(tmp_path: Path) -> None:
    pipes = [str(tmp_path / f"rules{number}") for number in range(4)]
    async with served(tmp_path) as server:
        clients = []
        for path in pipes:
            os.mkfifo(path)
            client = await server.connect()
            await client.send(waits_for(path) + STATUS)
            assert await quiet(client)
            clients.append(client)
        for number in (2, 0, 3, 1):
            write(pipes[number])
            assert await refused(clients[number])
            assert (await clients[number].message())["id"] == 7
        await server.healthy()


async def test_a_writer_takes_its_time(tmp_path: Path, pipe: str) -> None:
    """It is waited for until it closes the pipe, as it is where QEMU reads."""
    async with served(tmp_path) as server:
        waiting, other = await server.connect(), await server.connect()
        await waiting.send(waits_for(pipe))
        await other.execute("query-status")
        with open(pipe, "wb", buffering=0) as file:  # noqa: ASYNC230 - there is a reader
            for part in (RULES[:20], RULES[20:]):
                file.write(part)
                assert await quiet(waiting)
                assert (await other.execute("query-status"))["return"] != {}
        assert await refused(waiting)


async def test_what_has_come_through_a_pipe_is_in_force(tmp_path: Path, pipe: str) -> None:
    """It can be read but once."""
    async with served(tmp_path) as server:
        client = await server.connect()
        await client.send(waits_for(pipe))
        assert await quiet(client)
        write(pipe, b'[inject-error]\nevent = "none"\n')
        assert await client.message() == {"return": {}, "id": "waits"}
        reply = await client.execute("blockdev-add", **{"driver": "qcow2", "node-name": "q", "file": "d"})
        assert "Input/output error" in str(reply["error"])


async def test_a_pipe_that_nobody_writes_to_keeps_nobody_elsewhere(tmp_path: Path, pipe: str) -> None:
    """The human monitor executes its commands at once."""
    async with served(tmp_path, machine_type="pc") as server:
        client = await server.connect()
        line = f"drive_add 0 if=none,id=d,driver=blkdebug,config={pipe},image.driver=null-co"
        with trio.fail_after(5):
            await client.execute("human-monitor-command", **{"command-line": line})
            assert (await client.execute("query-status"))["return"] != {}


async def test_who_leaves_is_not_waited_for(tmp_path: Path, pipe: str) -> None:
    async with served(tmp_path) as server:
        client, other = await server.connect(), await server.connect()
        await client.send(waits_for(pipe) + STATUS)
        await other.execute("query-status")
        await client.stream.aclose()
        await other.execute("query-status")
        write(pipe)
        await server.healthy()
        with trio.fail_after(5):
            while len(server.vm.dispatcher.sessions) > 1:  # noqa: ASYNC110 - nothing tells when a client is forgotten
                await trio.sleep(0.01)
        assert (await other.execute("quit"))["return"] == {}
        await server.ended.wait()


async def test_the_machine_can_end_meanwhile(tmp_path: Path, pipe: str) -> None:
    async with served(tmp_path) as server:
        client, other = await server.connect(), await server.connect()
        await client.send(waits_for(pipe) + STATUS)
        await other.execute("query-status")
        assert (await other.execute("quit"))["return"] == {}
        with trio.fail_after(5):
            await server.ended.wait()
        assert server.status == 0


async def test_a_process_that_takes_over_executes_it_again(tmp_path: Path, pipe: str) -> None:
    async with running(tmp_path, "-extension", "live-update", release="7.2") as process:
        waiting, other = await process.connect(), await process.connect()
        await waiting.send(waits_for(pipe) + STATUS)
        await other.returned("query-status")
        await other.update()
        assert (await waiting.message())["event"] == "INIT_COMPLETE"
        assert await quiet(waiting)
        # The first process has gone with its end of the pipe.
        write(pipe)
        assert await refused(waiting)
        assert (await waiting.message())["id"] == 7
        await other.returned("query-status")
