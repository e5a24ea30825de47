"""The core answers as the recordings of all releases do, in the scenarios that concern it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.golden import RELEASES, load
from tests.machine.player import ANY, Played, play, recorded

ENDLESS = {"guest reboots (two resets)", "guest triple fault", "watchdog reset"}
"""The guests of these reboot for as long as they are let: real QEMU's clock decides how often."""

MORE_RESETS = {
    ("5.2", "set-action {'reboot': 'shutdown'}"): 2,
    ("5.2", "set-action {'reboot': 'shutdown', 'shutdown': 'pause'}"): 2,
    ("5.2", "set-action {'watchdog': 'pause'}"): 2,
    ("5.2", "set-action {'nope': 1}"): 2,
    ("5.2", "guest suspends"): 2,
    ("7.2", "pc -S: reset paused"): 3,
    ("7.2", "pc -S -no-shutdown: reset paused"): 2,
    ("7.2", "set-action {'panic': 'none'}"): 2,
    ("7.2", "set-action {'watchdog': 'pause'}"): 2,
    ("7.2", "guest suspends, wakeup stopped"): 2,
}
"""Where real QEMU varies from one recording to the next: here the firmware's vCPU got to ask for its reset more
than once before it was stopped, so that this many followed, a millisecond apart; other runs of the same release
show one.  `GuestSettings.firmware_resets` plays them; 10.0 and 11.1 always show one."""


def same(got: list[object], wanted: list[object]) -> bool:
    return len(got) == len(wanted) and all(a == b or ANY in (a, b) for a, b in zip(got, wanted, strict=True))


def scenarios(endless: bool) -> list[object]:
    return [
        pytest.param(release, group, scenario, id=f"{release} {scenario['scenario']}")
        for release in RELEASES
        for group in ("lifecycle", "guest")
        for scenario in load(release, group)
        if (scenario["scenario"] in ENDLESS) is endless
    ]


@pytest.mark.parametrize(("release", "group", "scenario"), scenarios(endless=False))
def test_scenario(release: str, group: str, scenario: dict[str, Any]) -> None:
    wanted = recorded(scenario)
    got = play(release, group, scenario, MORE_RESETS.get((release, scenario["scenario"]), 1))
    for step, lines, wanted_lines in zip(scenario["steps"], got.steps, wanted.steps, strict=True):
        assert same(lines, wanted_lines), f"{step['send']}\n{lines}\n{wanted_lines}"
    assert got.exit_status == wanted.exit_status


@pytest.mark.parametrize(("release", "group", "scenario"), scenarios(endless=True))
def test_endless_guest(release: str, group: str, scenario: dict[str, Any]) -> None:
    """Without counting the resets: the same events in the same order, up to the shorter run."""
    wanted, got = recorded(scenario), play(release, group, scenario)
    for events, wanted_events in zip(courses(got), courses(wanted), strict=True):
        shorter = min(len(events), len(wanted_events))
        assert shorter > 0
        assert events[:shorter] == wanted_events[:shorter]
    for lines, wanted_lines in zip(got.steps, wanted.steps, strict=True):
        assert same(
            [line for line in lines if not is_event(line)], [line for line in wanted_lines if not is_event(line)]
        )
    assert got.exit_status is None


def is_event(line: object) -> bool:
    return isinstance(line, dict) and "event" in line


def courses(played: Played) -> list[list[object]]:
    """The first step's events (there the guest starts), and all: each with repeated ones taken as one."""
    everything: list[object] = []
    first: list[object] = []
    for number, step in enumerate(played.steps):
        for line in step:
            if is_event(line):
                if not everything or everything[-1] != line:
                    everything.append(line)
                if number == 1 and (not first or first[-1] != line):
                    first.append(line)
    return [first, everything]
