"""Many clients, bad clients, and clients that leave: none costs another anything."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.monitor import session as session_module
from qmpd.server.listener import Listener, ListenError
from tests.server.support import served

if TYPE_CHECKING:
    from pathlib import Path


async def test_all_clients_are_served_and_see_events(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        clients = [await server.connect() for _ in range(5)]
        silent = await server.connect(negotiate=False)
        assert b"QMP" in (await silent.line() or b"")
        await clients[0].send(b'{"execute":"stop"}')
        for client in clients:
            assert (await client.message())["event"] == "STOP"
        assert await clients[0].line() == b'{"return": {}}'
        assert (await silent.ask(b'{"execute":"qmp_capabilities","id":1}')) == b'{"return": {}, "id": 1}'
        await clients[1].send(b'{"execute":"cont"}')
        assert (await silent.message())["event"] == "RESUME"


async def test_exclusive_serves_one_client_at_a_time(tmp_path: Path) -> None:
    async with served(tmp_path, exclusive=True) as server:
        first = await server.connect()
        second = await server.connect(negotiate=False)
        await second.send(b'{"execute":"qmp_capabilities"}{"execute":"query-name","id":2}')
        with trio.move_on_after(0.2) as waited:
            await second.stream.receive_some()
        assert waited.cancelled_caught
        await first.stream.aclose()
        assert b"QMP" in (await second.line() or b"")
        assert await second.line() == b'{"return": {}}'
        assert await second.line() == b'{"return": {}, "id": 2}'


async def test_half_closed_client_gets_its_replies(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        client = await server.connect()
        await client.send(b"".join(b'{"execute":"query-name","id":%d}' % number for number in range(1000)))
        await client.stream.send_eof()
        for number in range(1000):
            assert await client.line() == b'{"return": {}, "id": %d}' % number
        assert await client.line() is None


async def test_garbage_costs_the_others_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        good = await server.connect()
        bad = await server.connect()
        await bad.send(os.urandom(50_000))
        cut = server.connect_raw()
        cut.send(b'{"execute": "que')
        cut.close()
        assert await good.execute("query-name") == {"return": {}, "id": "execute"}
        await server.healthy()


@pytest.mark.parametrize("junk", [b"]" * 24_000, b"\x01" * 24_000, b"]\n" * 12_000])
async def test_garbage_is_taken_in_by_and_by(tmp_path: Path, junk: bytes) -> None:
    """Whoever asks meanwhile has an answer before half of it is taken in; then it is refused as a whole."""
    async with served(tmp_path) as server:
        good, bad = await server.connect(), await server.connect()
        (connection,) = [each for each in server.vm.acceptor.connections if each.number == 2]
        end = b'\n]]]]{"execute": "query-name", "id": "end"}'
        await bad.send(junk + end)
        with trio.fail_after(5):
            while not connection.unread:
                await trio.lowlevel.checkpoint()
        assert await good.execute("query-name") == {"return": {}, "id": "execute"}
        assert len(connection.unread) > len(junk) / 2
        bad.patience = 60.0
        last = b""
        while b'"id": "end"' not in (line := await bad.line() or b""):
            assert b"JSON parse error" in line or b"QMP input" in line
            last = line
        assert last


async def test_endless_message_is_bounded(tmp_path: Path) -> None:
    """A message without an end is cut off with an error at QEMU's limit, and the session goes on."""
    async with served(tmp_path) as server:
        good = await server.connect()
        bad = await server.connect()
        chunk = b'"' + b"x" * (1 << 20) + b'",'
        await bad.send(b'{"execute":"query-name","id":[')
        for _ in range(65):
            await bad.send(chunk)
        reply = await bad.message()
        assert "exceeded" in str(reply["error"]) or "size" in str(reply["error"])
        assert await good.execute("query-name") == {"return": {}, "id": "execute"}


async def test_file_modes_and_stale_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    async with served(tmp_path) as server:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(ListenError, match="Address already in use"):
            Listener(path)
        await server.healthy()
    assert not os.path.exists(path)


async def test_quit_flushes_what_is_owed(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        clients = [await server.connect() for _ in range(3)]
        await clients[0].send(b'{"execute":"query-qmp-schema"}{"execute":"quit","id":"bye"}{"execute":"query-name"}')
        assert len(await clients[0].line() or b"") > 100_000
        for client in clients:
            message = await client.message()
            assert (message["event"], message["data"]) == ("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
        assert await clients[0].line() == b'{"return": {}, "id": "bye"}'
        for client in clients:
            assert await client.line() is None
        with trio.fail_after(5):
            await server.ended.wait()
        assert server.status == 0
        assert not os.path.exists(server.path)


async def test_wait_holds_the_start(tmp_path: Path) -> None:
    async with served(tmp_path, wait=True) as server:
        await trio.sleep(0.05)
        assert server.vm.system.machine.state == "prelaunch"
        client = await server.connect()
        reply = await client.execute("query-status")
        assert reply["return"] == {"status": "running", "singlestep": False, "running": True}


async def test_queue_limit_pauses_reading_out_of_band(tmp_path: Path) -> None:
    """With out-of-band execution negotiated, `exec-oob` overtakes at most eight requests; the rest is read later."""
    async with served(tmp_path) as server:
        client = await server.connect(negotiate=False)
        await client.line()
        await client.ask(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
        commands = [b'{"execute":"query-name","id":%d}' % number for number in range(12)]
        await client.send(b"".join(commands) + b'{"exec-oob":"migrate-pause","id":"oob"}')
        order = [(await client.message())["id"] for _ in range(13)]
        assert [each for each in order if each != "oob"] == list(range(12))
        assert 12 - session_module.QUEUE_LIMIT <= order.index("oob") < 12


@pytest.mark.parametrize(
    ("negotiation", "order"),
    [(b"", [0, "oob", 1]), (b',"arguments":{"enable":["oob"]}', ["oob", 0, 1])],
    ids=["refused in its turn", "overtakes"],
)
async def test_out_of_band_among_what_came_at_once(tmp_path: Path, negotiation: bytes, order: list[object]) -> None:
    """What comes along with the negotiation is looked at after it (QEMU reads one request at a time until then)."""
    async with served(tmp_path) as server:
        client = await server.connect(negotiate=False)
        await client.line()
        await client.send(
            b'{"execute":"qmp_capabilities","id":"first"%s}{"execute":"query-name","id":0}'
            b'{"exec-oob":"migrate-pause","id":"oob"}{"execute":"query-name","id":1}' % negotiation
        )
        assert [(await client.message())["id"] for _ in range(4)] == ["first", *order]


async def test_yank_disconnects(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        client, other = await server.connect(), await server.connect()
        await client.send(b'{"execute":"yank","arguments":{"instances":[{"type":"chardev","id":"compat_monitor0"}]}}')
        for each in (client, other):
            with trio.fail_after(5):
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await each.stream.receive_some() == b""
        await server.healthy()
