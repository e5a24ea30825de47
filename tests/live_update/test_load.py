"""The process is replaced while its clients keep it busy; `tests.live_update.load` is the same, longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.live_update.load import load
from tests.live_update.process import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_clients_that_never_pause(tmp_path: Path, report: Callable[[str], None]) -> None:
    async with running(tmp_path, "-v") as server:
        result = await load(server, clients=30, updates=5, depth=4)
        report(str(result))
        assert result.answers > 30 * 5
        assert len(result.standstills) == 5
        # What else the computer has to do shows in most of them, but not in all.
        assert result.standstills[0] < 1
