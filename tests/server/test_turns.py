"""Clients take turns: one with a great deal to ask does not keep the others waiting until it is through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.control.support import played

if TYPE_CHECKING:
    from pathlib import Path


async def test_one_request_from_each(tmp_path: Path) -> None:
    """Both have asked before the main loop comes to either; what it does is told by events, which both hear."""
    async with played(tmp_path) as machine:
        control = await machine.control()
        busy, other = await machine.connect(), await machine.connect()
        await control("fault-hang-main-loop")
        await busy.send(b"".join(b'{"execute":"query-name","id":%d}' % number for number in range(200)))
        await control("query-faults")
        await other.send(b'{"execute":"stop","id":"other"}')
        await control("query-faults")
        await control("fault-clear")
        assert (await other.message())["event"] == "STOP"
        heard: list[dict[str, object]] = []
        while len(heard) < 201:
            heard.append(await busy.message())
        place = next(position for position, message in enumerate(heard) if message.get("event") == "STOP")
        assert place <= 2


async def test_one_request_from_each_without_a_puppeteer(tmp_path: Path) -> None:
    from qmpd.monitor.session import Session
    from tests.server.support import served

    async with served(tmp_path) as server:
        busy, other = await server.connect(), await server.connect()
        dispatcher = server.vm.dispatcher
        first, second = dispatcher.sessions
        assert isinstance(first, Session)
        # Both have asked before the main loop has its turn.
        first.receive(b"".join(b'{"execute":"query-name","id":%d}\n' % number for number in range(200)))
        second.receive(b'{"execute":"stop","id":"other"}\n')
        server.vm.loop.wake()
        heard = [await busy.message() for _ in range(201)]
        assert next(position for position, message in enumerate(heard) if message.get("event") == "STOP") <= 2
        assert (await other.message())["event"] == "STOP"
