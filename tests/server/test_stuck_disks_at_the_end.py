"""A machine whose disk does not answer ends all the same, and holds up no other machine of its process meanwhile."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import trio

from tests.block.stalled import StalledServer
from tests.server.test_fleet import running

if TYPE_CHECKING:
    from pathlib import Path

# The other machine has to answer in this time, in seconds; tests run beside others.
SOON = 1.5
PATIENCE = 10


def message(command: str, **arguments: Any) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode()


async def test_its_end(tmp_path: Path) -> None:
    with closing(StalledServer(tmp_path / "nbd", bytes(1 << 20))) as server:
        async with running(tmp_path / "fleet", 2, with_control=False) as fleet:
            stuck, other = await fleet.machine(0), await fleet.machine(1)
            disk = {"driver": "nbd", "server": {"type": "unix", "path": str(server.path)}}
            for node in ({**disk, "node-name": "d"}, {"driver": "null-co", "node-name": "z", "size": 1 << 20}):
                assert await stuck.ask(message("blockdev-add", **node)) == b'{"return": {}}'
            server.stall()
            job = message("blockdev-mirror", device="z", target="d", sync="full", **{"job-id": "j"})
            await stuck.stream.send_all(job)
            assert await trio.to_thread.run_sync(server.waits.wait, PATIENCE)
            slowest, ended = 0.0, trio.Event()

            async def end() -> None:
                await stuck.stream.send_all(message("quit"))
                while await stuck.line() is not None:
                    continue
                ended.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(end)
                with trio.fail_after(PATIENCE):
                    while not ended.is_set():
                        begun = trio.current_time()
                        assert b"return" in (await other.ask(message("query-status")) or b"")
                        slowest = max(slowest, trio.current_time() - begun)
            assert slowest < SOON
