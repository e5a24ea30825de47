"""README.md shows what a guest's reboot looks like: the same events as in the tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.live_update.test_line import REBOOTS

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", REBOOTS)
def test_the_readme_shows_the_events_of_a_reboot(option: str) -> None:
    shown = re.search(rf"<!-- reboot: {option} -->\n```\n(.*?)```", README, re.DOTALL)
    assert shown is not None, f"README.md does not show a reboot under {option}"
    *events, reply = map(json.loads, shown[1].splitlines())
    _, expected, state = REBOOTS[option]
    assert [event["event"] for event in events] == expected
    assert not any("data" in event for event in events)
    assert reply["return"]["status"] == state
