"""Replies that do not fit into the socket: what follows them follows, whatever the client does or does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.support import served

if TYPE_CHECKING:
    from pathlib import Path

LARGE = b'{"execute":"query-qmp-schema","id":%d}'
COUNT, FEW = 20, 4


@pytest.mark.parametrize("release", ["7.2", "10.0"])
async def test_a_client_that_closes_its_end_first_and_reads_then(tmp_path: Path, release: str) -> None:
    async with served(tmp_path, release=release) as server:
        client, other = await server.connect(), await server.connect()
        client.patience = 30
        await client.send(b"".join(LARGE % number for number in range(COUNT)))
        await client.stream.send_eof()
        # Until the server has seen that, and goes on.
        await other.execute("query-name")
        for number in range(COUNT):
            line = await client.line()
            assert line is not None, f"the server has closed after {number} replies"
            assert line.endswith(b', "id": %d}' % number)
        assert await client.line() is None


async def test_an_event_comes_behind_what_is_still_under_way(tmp_path: Path) -> None:
    """Nobody asks for anything any more when the slow client has read what it was owed.

    That is more than a socket takes, and less than makes its requests wait.
    """
    async with served(tmp_path) as server:
        slow, other = await server.connect(), await server.connect()
        slow.patience = 30
        await slow.send(b"".join(LARGE % number for number in range(FEW)))
        await other.execute("query-name")
        await other.execute("stop")
        for number in range(FEW):
            line = await slow.line()
            assert line is not None
            assert line.endswith(b', "id": %d}' % number)
        slow.patience = 5
        assert (await slow.message())["event"] == "STOP"
