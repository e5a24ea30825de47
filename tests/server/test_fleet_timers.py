"""The timers of machines that nobody talks to: each is due in its time, whichever came first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.server.test_fleet import running

if TYPE_CHECKING:
    from pathlib import Path

GUEST = ["-machine", "pc", "-guest"]


@pytest.mark.parametrize("order", [(60, 0.1, 0.3), (0.3, 60, 0.1)])
async def test_a_timer_that_is_due_before_others(tmp_path: Path, order: tuple[float, ...]) -> None:
    """Guests that power off some time after their start, in a fleet that has nothing else to do."""
    async with running(tmp_path, 0) as fleet:
        for seconds in order:
            # Nothing else wakes the fleet meanwhile.
            await trio.sleep(0.05)
            guest = f"firmware=none,boot-time={seconds}s,on-boot=shutdown"
            fleet.fleet.create_machine(f"after-{seconds}", None, [*GUEST, guest])
        await trio.sleep(0.05)
        with trio.fail_after(8):
            while fleet.fleet.statistics().machines > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert [machine.name for machine in fleet.fleet.machines()] == ["after-60"]
