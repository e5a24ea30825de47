"""Packets, run states and events beside what real QEMU made of the same scenarios."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import trio

from tests.debugger.player import Served
from tests.debugger.scenarios import SCENARIOS, load
from tests.golden import RELEASES


async def differences(release: str, row: dict[str, Any]) -> list[str]:
    """How a scenario goes otherwise than it did for the real program."""
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="qmpd-") as folder:
        served = Served(release, row["options"], folder, debugger=SCENARIOS[row["scenario"]].debugger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            await served.begin()
            for number, step in enumerate(row["steps"]):
                came = await served.step(step["do"])
                if came != (step["packets"], step["lines"]):
                    found.append(
                        f"{row['scenario']}: step {number}: {step['do'][:70]!r}\n"
                        f"  got  {came[0][:300]!r} {came[1]}\n  want {step['packets'][:300]!r} {step['lines']}"
                    )
            status = await served.end()
    if status != row.get("status"):
        found.append(f"{row['scenario']}: exit status {status}, while {row.get('status')} was recorded")
    return found


@pytest.mark.parametrize("release", RELEASES)
async def test_scenarios_go_as_recorded(release: str) -> None:
    found = []
    for row in load(release):
        found += await differences(release, row)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("release", RELEASES)
def test_all_scenarios_are_recorded(release: str) -> None:
    rows = {row["scenario"]: row for row in load(release)}
    assert {name: list(scenario.steps) for name, scenario in SCENARIOS.items()} == {
        name: [step["do"] for step in row["steps"]] for name, row in rows.items()
    }
