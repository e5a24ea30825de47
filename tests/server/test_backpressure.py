"""What is owed to clients that read slowly, later or never: they miss nothing, and cost the others nothing."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from benchmark import crowd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmpd.machine import Event
from qmpd.monitor.session import Session
from qmpd.server import connection as connection_module
from qmpd.server.settings import MonitorSettings
from tests.clients.programs import read_lines, serving
from tests.server.support import release_with, served

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.programs import Server

NEGOTIATE = b'{"execute":"qmp_capabilities"}'
SCHEMA = b'{"execute":"query-qmp-schema","id":%d}\n'


def negotiated(server: Server) -> socket.socket:
    client = server.greeted()
    client.sendall(NEGOTIATE)
    read_lines(client, 1)
    return client


def ids(client: socket.socket, count: int, pause: Callable[[int], None] = lambda _: None) -> list[object]:
    """The ids of the next replies."""
    found = []
    with client.makefile("rb", 1 << 20) as lines:
        for number in range(count):
            pause(number)
            line = lines.readline()
            assert line.endswith(b"}\r\n"), f"the connection ended after {number} replies"
            found.append(json.loads(line[line.rindex(b', "id": ') + 8 : -3]))
    return found


def resident(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("options", [(), ("-control", "unix:{}/control")], ids=["alone", "with a puppeteer"])
def test_a_client_that_reads_gets_all_it_has_asked_for(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Some 80 MB of replies, asked for at once; without a transcript memory holds few of them."""
    options = tuple(each.format(tmp_path) for each in options)
    with serving(tmp_path / "qmp", "-machine", "none", "--release", "11.1", *options) as server:
        client = negotiated(server)
        before = resident(server)
        most = before

        def look(_: int) -> None:
            nonlocal most
            most = max(most, resident(server))

        client.sendall(b"".join(SCHEMA % number for number in range(300)))
        assert ids(client, 300, look) == list(range(300))
        assert options or most - before < 20 << 20
        client.close()


def test_a_client_that_reads_late_and_slowly_gets_all(tmp_path: Path) -> None:
    with serving(tmp_path / "qmp", "-machine", "none", "--release", "7.2") as server:
        client = negotiated(server)
        client.sendall(b"".join(SCHEMA % number for number in range(120)))
        time.sleep(1.5)  # by now it counts as one that does not read
        assert ids(client, 120, lambda number: time.sleep(0.02 if number % 10 == 0 else 0)) == list(range(120))
        client.close()


def test_requests_of_a_client_that_does_not_read_are_executed_in_the_end(tmp_path: Path) -> None:
    """As QEMU does, which does not look at whether anybody reads."""
    with serving(tmp_path / "qmp", "-machine", "none", "--release", "7.2") as server:
        client = negotiated(server)
        client.sendall(b"".join(SCHEMA % number for number in range(20)) + b'{"execute":"quit"}')
        assert server.ended()[0] == 0
        client.close()


CROWD = Path(crowd.__file__)
ROUND_TRIPS = 100


@pytest.mark.parametrize("kind", ["half", "odd"])
def test_a_polite_client_among_twenty_that_are_not(tmp_path: Path, kind: str) -> None:
    """Ten read nothing, ten read and ask for more and more; or all send what takes long to read.

    The server's own time counts, not what else runs on the computer: all that it does until a reply has come.
    """
    with serving(tmp_path / "qmp", "-machine", "none") as server:
        polite = negotiated(server)
        before = resident(server)
        command = [sys.executable, str(CROWD), str(server.path), kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as others:
            assert others.stdout is not None
            others.stdout.readline()
            time.sleep(0.2)
            times = sorted(work_of_a_round_trip(server, polite) for _ in range(ROUND_TRIPS))
            held = resident(server) - before
            others.kill()
        polite.close()
    assert times[ROUND_TRIPS * 99 // 100 - 1] < 0.05
    assert held < 350 << 20


def work_of_a_round_trip(server: Server, client: socket.socket) -> float:
    """Seconds of the processor's time that the server's main thread uses until it has replied."""
    began = worked(server)
    client.sendall(b'{"execute":"query-status"}')
    read_lines(client, 1)
    passed = worked(server) - began
    time.sleep(0.005)
    return passed


def worked(server: Server) -> float:
    with open(f"/proc/{server.process.pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


async def test_commands_that_take_long_and_say_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of them wait; whoever comes meanwhile does not wait for all."""

    def slow(*_: object) -> object:
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        return {}

    async with served(tmp_path, release=release_with(tmp_path, "7.2", monkeypatch, "query-uuid", slow)) as server:
        polite = await server.connect()
        for _ in range(3):
            # Nobody is served meanwhile: this does not wait.
            server.connect_raw().send(NEGOTIATE + b'{"execute":"query-uuid"}' * 200)
        times = []
        for _ in range(6):
            before = time.thread_time()
            assert await polite.execute("query-name") == {"return": {}, "id": "execute"}
            times.append(time.thread_time() - before)
        assert sum(times) > 0.05
        assert max(times) < 0.25


# In this process, with small limits


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits a thousandth as large."""
    monkeypatch.setattr(connection_module, "ROOM", 1 << 14)
    monkeypatch.setattr(connection_module, "LIMIT", 1 << 20)
    monkeypatch.setattr(connection_module, "LIMIT_OF_ALL", 2 << 20)
    monkeypatch.setattr(connection_module, "GRACE", 0.4)
    monkeypatch.setattr(Session.take_outgoing, "__defaults__", (1 << 16,))


@pytest.mark.usefixtures("small")
async def test_a_client_that_never_reads_is_disconnected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path) as server:
        good, lazy = await server.connect(), await server.connect()
        (connection,) = [each for each in server.vm.acceptor.connections if each.number == 2]
        most = 0

        async def ask() -> None:
            nonlocal most
            while True:
                await lazy.send(b'{"execute":"query-qmp-schema"}' * 3)
                most = max(most, connection.session.outgoing_size)

        with pytest.raises(trio.BrokenResourceError):
            await ask()
        assert most < 2 << 20
        await trio.testing.wait_all_tasks_blocked()
        assert connection.session.outgoing_size == 0
        assert await good.execute("query-name") == {"return": {}, "id": "execute"}
        assert "does not read" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
async def test_events_for_a_client_that_never_reads_are_bounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but events is owed to it."""
    async with served(tmp_path) as server:
        good, lazy = await server.connect(), await server.connect()
        lines = 0

        async def read() -> None:
            nonlocal lines
            while await good.line() is not None:
                lines += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            count = 0
            with trio.fail_after(20):
                while any(each.number == 2 for each in server.vm.acceptor.connections):
                    for _ in range(100):
                        server.vm.dispatcher.broadcast(Event("STOP", None, count))
                        count += 1
                    server.vm.loop.flush()
                    await trio.sleep(0.001)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert lines == count
            nursery.cancel_scope.cancel()
        assert "client 2 is disconnected: it does not read" in capsys.readouterr().err
        await lazy.stream.aclose()


@pytest.mark.usefixtures("small")
async def test_a_flood_of_events_reaches_who_reads(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        client = await server.connect()
        count = 100_000  # some seven times as much as a client that does not read may be owed
        for number in range(count):
            server.vm.dispatcher.broadcast(Event("STOP", None, number))
        server.vm.loop.flush()
        with trio.fail_after(20):
            for _ in range(count):
                assert await client.line() is not None


@pytest.mark.usefixtures("small")
async def test_those_that_do_not_read_share_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reply more for each may be made before that is seen."""
    monkeypatch.setattr(connection_module, "LIMIT", 4 << 20)
    monkeypatch.setattr(connection_module, "LIMIT_OF_ALL", 4 << 20)
    async with served(tmp_path) as server:
        lazy = [await server.connect() for _ in range(8)]
        good = await server.connect()
        for client in lazy:
            # Less than what one of them would be disconnected for.
            await client.send(b"".join(SCHEMA % number for number in range(12)))
        await trio.sleep(1)
        owed = [each.owed for each in server.vm.acceptor.connections]
        assert 1 << 20 < sum(owed) < 11 << 20
        assert await good.execute("query-name") == {"return": {}, "id": "execute"}
        # Once one of them reads, or leaves, there is room again; nothing is missing in the end.
        await lazy[0].stream.aclose()
        for client in lazy[1:]:
            for number in range(12):
                assert (await client.line() or b"").endswith(b'"id": %d}' % number)


@pytest.mark.usefixtures("small")
async def test_out_of_band_requests_of_a_client_that_does_not_read(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        lazy = await server.connect(negotiate=False)
        await lazy.line()
        await lazy.ask(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
        identity = b"x" * 1000
        (connection,) = server.vm.acceptor.connections

        async def send() -> None:
            for number in range(2000):
                await lazy.send(b'{"exec-oob":"migrate-pause","id":["%b",%d]}' % (identity, number))

        lazy.patience = 30
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for number in range(2000):
                assert connection.session.outgoing_size < 1 << 20
                reply = await lazy.message()
                assert reply["id"] == [identity.decode(), number]


@pytest.mark.usefixtures("small")
async def test_lines_of_a_person_who_does_not_read(tmp_path: Path) -> None:
    """The human monitor executes lines as they are read; others have their turn, and memory is bounded."""
    path = str(tmp_path / "hmp")
    async with served(tmp_path, more=[MonitorSettings(path=path, mode="readline", chardev="hmp")]) as server:
        good = await server.connect()
        person = await trio.open_unix_socket(path)
        server.clients.append(person)
        lines = b"help\n" * 20_000

        async def type_ahead() -> None:
            await person.send_all(lines)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(type_ahead)
            for _ in range(20):
                began = trio.current_time()
                assert await good.execute("query-name") == {"return": {}, "id": "execute"}
                assert trio.current_time() - began < 1
                owed = [each.session.outgoing_size for each in server.vm.acceptor.connections]
                assert max(owed) < 2 << 20
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("small")
async def test_nothing_is_kept_of_those_that_leave(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for _ in range(2):
            lazy = await server.connect()
            await lazy.send(SCHEMA % 1 * 10)
            await trio.sleep(0.5)
            await lazy.stream.aclose()
        await server.healthy()
        await trio.sleep(0.5)
        assert not connection_module._not_reading
        assert not server.vm.acceptor.connections
        del lazy
        gc.collect()
        # Another test's may be there as long as somebody keeps its error.
        kept = [each for each in gc.get_objects() if isinstance(each, connection_module.Connection)]
        assert not [each for each in kept if each._vm is server.vm]


COMMANDS = [b"query-qmp-schema", b"query-commands", b"query-status", b"query-name", b"stop", b"cont", b"no-such"]
_burst = st.tuples(
    st.integers(0, 3), st.lists(st.sampled_from(COMMANDS), max_size=12), st.sampled_from([0, 1, 500, 1 << 16, 1 << 20])
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bursts=st.lists(_burst, max_size=15))
async def test_whoever_reads_when_and_how_much_every_reply_comes_in_order(
    tmp_path_factory: pytest.TempPathFactory, bursts: list[tuple[int, list[bytes], int]]
) -> None:
    """Four clients send bursts, and read some of what they are owed in between, or nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection_module, "ROOM", 1 << 14)
        patch.setattr(connection_module, "GRACE", 0.02)
        async with served(tmp_path_factory.mktemp("bursts")) as server:
            clients = [await server.connect() for _ in range(4)]
            asked = [0] * 4
            for number, names, size in bursts:
                client = clients[number]
                data = b""
                for name in names:
                    data += b'{"execute":"%b","id":%d}' % (name, asked[number])
                    asked[number] += 1
                await client.send(data)
                if size:
                    with trio.move_on_after(0.002):
                        client.buffer += await client.stream.receive_some(size)
            for number, client in enumerate(clients):
                for expected in range(asked[number]):
                    while b'"event"' in (line := await client.line() or b"")[:90]:
                        pass
                    assert b'"id": %d' % expected in line


def test_a_thread_that_reads_beside_one_that_writes(tmp_path: Path) -> None:
    """Sixty thousand small commands in one go: what comes back keeps pace."""
    count = 60_000
    with serving(tmp_path / "qmp", "-machine", "none", "--release", "7.2") as server:
        client = negotiated(server)
        data = b"".join(b'{"execute":"query-name","id":%d}\n' % number for number in range(count))
        writer = threading.Thread(target=client.sendall, args=(data,))
        writer.start()
        assert ids(client, count) == list(range(count))
        writer.join()
        client.close()
