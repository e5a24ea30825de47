"""The documentation shows what a guest's reboot looks like: the same events as in the tests."""

from __future__ import annotations

import json
import re

import pytest

from tests.docs.pages import DOCS
from tests.live_update.test_line import REBOOTS

PAGE = (DOCS / "explanation" / "live-update.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", REBOOTS)
def test_the_page_shows_the_events_of_a_reboot(option: str) -> None:
    shown = re.search(rf"<!-- reboot: {option} -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None, f"the page does not show a reboot under {option}"
    *events, reply = map(json.loads, shown[1].splitlines())
    _, expected, state = REBOOTS[option]
    assert [event["event"] for event in events] == expected
    assert not any("data" in event for event in events)
    assert reply["return"]["status"] == state
