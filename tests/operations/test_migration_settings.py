"""The parameters and capabilities of migrations: bounds, what goes with what, and what is told of them afterwards.

A third of the recorded scenarios is played, another one for each release; `python -m tests.operations migration` plays
all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.operations import RELEASES
from tests.operations.player import play

if TYPE_CHECKING:
    from tests.conftest import Report


@pytest.mark.parametrize(("number", "release"), list(enumerate(RELEASES)))
async def test_recordings(number: int, release: str, report: Report) -> None:
    count = 0

    def wanted(scenario: dict[str, Any]) -> bool:
        nonlocal count
        if not scenario["scenario"].startswith(("parameter", "capabilit")):
            return False
        count += 1
        return count % 3 == number % 3

    result = await play(release, "migration", (), wanted)
    report(f"recordings of {release}, settings of migrations: {result}")
    assert result.differences == {}
    assert result.scenarios > 10
