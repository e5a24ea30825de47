"""Devices that leave machines whose guests have run: the same comes as from real QEMU."""

from __future__ import annotations

import pytest

from tests.golden import RELEASES
from tests.unplug import recorded
from tests.unplug.player import differences, played
from tests.unplug.scenarios import SCENARIOS


@pytest.mark.parametrize("release", RELEASES)
async def test_devices_leave_as_they_do_from_the_real_program(release: str) -> None:
    known = recorded(release)
    assert known
    wrong = {}
    for scenario in SCENARIOS:
        if scenario.name in known:
            found = differences(scenario, await played(release, scenario), known[scenario.name])
            if found:
                wrong[scenario.name] = found
    assert not wrong, "\n".join(f"{name}\n  " + "\n  ".join(lines) for name, lines in wrong.items())
