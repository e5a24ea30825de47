"""Every recorded scenario is answered with the bytes that real QEMU sent.

What is compared is told in `tests/player.py`; the numbers of each release and group are printed at the end of
the test run.
"""

from __future__ import annotations

import pytest

from tests.conftest import Report
from tests.golden import GROUPS, RELEASES
from tests.player import play

LEFT_OUT: dict[tuple[str, str], dict[str, str]] = {}
"""Scenarios that are not played, by release and group: their names, and why."""

PARTLY_MODELLED = ("arguments", "queries", "lifecycle")
"""Groups that ask for commands of all QAPI modules, some of which are still to come."""


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("release", RELEASES)
async def test_recordings(release: str, group: str, report: Report) -> None:
    result = await play(release, group, LEFT_OUT.get((release, group), {}))
    report(f"recordings of {release}, {group}: {result}")
    assert not result.differences, "\n".join(result.differences)
    if group not in PARTLY_MODELLED:
        assert result.steps_right == result.steps
    assert result.steps > 0
