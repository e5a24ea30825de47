"""Machines that move, against the recordings of both sides; `python -m tests.operations migration` plays them all.

Of the scenarios an eighth is played of each release, another one each; parameters and capabilities are tested beside.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.operations import RELEASES
from tests.operations.player import needs_images, play

if TYPE_CHECKING:
    from tests.conftest import Report

PART = 8
_ELSEWHERE = ("parameter ", "capability ", "capabilities:")


@pytest.mark.parametrize(("number", "release"), list(enumerate(RELEASES)))
async def test_recordings(number: int, release: str, report: Report) -> None:
    count = 0
    has_images = all(map(shutil.which, ("qemu-img", "qemu-io")))

    def wanted(scenario: dict[str, Any]) -> bool:
        nonlocal count
        if scenario["scenario"].startswith(_ELSEWHERE):
            return False
        count += 1
        return count % PART == number and (has_images or not needs_images(scenario))

    result = await play(release, "migration", (), wanted)
    report(f"recordings of {release}, migrations: {result}")
    assert result.differences == {}
    assert result.scenarios > 10
