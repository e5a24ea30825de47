"""What is left of clients that are gone: nothing, on a machine where nothing else happens, and after many of them."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from qmpd.monitor.session import Session
from qmpd.server.connection import Connection
from qmpd.server.settings import MonitorSettings
from tests.server.support import served
from tests.server.test_fleet import running as running_fleet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@pytest.fixture(autouse=True)
def quick_collection() -> Iterator[None]:
    """What is there already is not looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def remembered() -> int:
    """Sessions and connections that there are in this process."""
    gc.collect()
    return sum(isinstance(each, (Session, Connection)) for each in gc.get_objects())


async def greeted(path: Path) -> None:
    stream = await trio.open_unix_socket(path)
    async with stream:
        with trio.move_on_after(0.02 if path.name == "qtest" else 5):
            await stream.receive_some()


async def silent(path: Path) -> None:
    await (await trio.open_unix_socket(path)).aclose()


async def gone_at_once(path: Path) -> None:
    """Perhaps before it is accepted."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect_ex(str(path))


async def half_a_message(path: Path) -> None:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"execute": "query-st')


async def half_closed(path: Path) -> None:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\nhelp\n')
        await stream.send_eof()
        with trio.fail_after(5):
            while await stream.receive_some():
                pass


async def unread(path: Path) -> None:
    """Gone with hundreds of kilobytes unread, and requests that wait for that."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}\n' * 20)
        await trio.sleep(0.01)


ENDS = [greeted, silent, gone_at_once, half_a_message, half_closed, unread]


@pytest.mark.parametrize("kind", ["qmp", "exclusive", "hmp", "qtest"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_machine_forgets_its_clients(tmp_path: Path, end: Callable[[Path], Awaitable[None]], kind: str) -> None:
    modes = {"hmp": "readline", "qtest": "qtest"}
    settings = MonitorSettings(
        path=str(tmp_path / kind), exclusive=kind == "exclusive", mode=modes.get(kind, "control"), chardev="mon1"
    )
    async with served(tmp_path, more=[settings]) as server:
        before = remembered()
        for _ in range(10):
            await end(Path(settings.path))
        with trio.fail_after(10):
            while server.vm.acceptor.connections:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not server.vm.dispatcher.sessions
        assert remembered() == before


@pytest.mark.parametrize("name", ["qmp.sock", "control.sock"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_fleet_forgets_its_machines_clients(
    tmp_path: Path, end: Callable[[Path], Awaitable[None]], name: str
) -> None:
    async with running_fleet(tmp_path / "fleet", 1):
        # From its first client on the machine has a task, from its first puppeteer on a transcript.
        path = tmp_path / "fleet" / "vm-00000" / name
        for _ in range(3):
            await end(path)
        await trio.sleep(0.05)
        before = remembered()
        for _ in range(10):
            await end(path)
        await trio.sleep(0.05)
        assert remembered() == before


async def test_memory_after_thousands_of_clients(tmp_path: Path) -> None:
    """Nothing of any kind is kept for each of them."""
    async with served(tmp_path) as server:

        async def come_and_go(count: int) -> int:
            for _ in range(count):
                client = await server.connect()
                await client.stream.aclose()
            server.clients.clear()
            await trio.testing.wait_all_tasks_blocked(0.01)
            gc.collect()
            return len(gc.get_objects())

        await come_and_go(20)
        before = await come_and_go(1)
        assert await come_and_go(300) - before < 100


async def test_a_job_that_stays_forgets_who_began_it(tmp_path: Path) -> None:
    """A snapshot that could not be taken: its job waits to be dismissed, whoever asked for it."""
    settings = MonitorSettings(path=str(tmp_path / "qmp"), chardev="mon1")
    arguments = b'{"job-id": "j", "tag": "t", "vmstate": "n", "devices": ["n"]}'
    async with served(tmp_path, more=[settings]):
        before = remembered()
        async with await trio.open_unix_socket(settings.path) as stream:
            await stream.send_all(
                b'{"execute": "qmp_capabilities"}{"execute": "snapshot-save", "arguments": ' + arguments + b"}"
            )
            said = b""
            with trio.fail_after(5):
                while b"concluded" not in said:
                    said += await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            while remembered() > before:  # noqa: ASYNC110
                await trio.sleep(0.01)
