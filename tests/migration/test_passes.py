"""When a machine that goes looks for what its guest has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.migration.support import Sides


@pytest.mark.parametrize(
    ("release", "capability", "passes"),
    [
        ("11.1", "postcopy-ram", range(10, 13)),
        ("11.1", "return-path", range(1, 2)),
        ("10.0", "postcopy-ram", range(1, 2)),
    ],
)
def test_a_window_may_be_a_pass(sides: Sides, release: str, capability: str, passes: range) -> None:
    """With `postcopy-ram`, 11.1 looks for it each time before some more is copied: ten times in a second."""
    here, there, place = sides.pair(release, clock="virtual", guest="memory-used=16M")
    for each in (here, there):
        each.capabilities(capability)
    here("migrate-set-parameters", max_bandwidth=4096, downtime_limit=1)
    here("migrate", uri=place)
    here.until("active")
    here.vm.clock.advance(1)
    told = here.migration
    assert (told["status"], told["ram"]["dirty-sync-count"] in passes) == ("active", True), told
    assert told["ram"]["normal"] < 1000
    assert here.events.count("pass") == (told["ram"]["dirty-sync-count"] - 1 if release == "11.1" else 0)


@pytest.mark.parametrize(
    ("release", "slowed"),
    [
        # A pass takes more than five seconds.
        ("7.2", [0, 0, 0, 0, 0, 20, 20, 20]),
        # Ten passes a second: that the guest is too fast is seen once in a second, and twice before it is slowed down.
        ("11.1", [0, 20, 30, 40, 50, 60, 70, 80]),
    ],
)
def test_a_guest_is_slowed_down_once_it_was_too_fast_twice(sides: Sides, release: str, slowed: list[int]) -> None:
    """However many passes there are in a second, whether it is too fast is looked at once in it."""
    options: dict[str, str] = {"clock": "virtual", "guest": "memory-used=20M,dirty-rate=400M"}
    here, there, place = sides.pair(release, **options)
    for each in (here, there):
        each.capabilities("postcopy-ram", "auto-converge")
    here("migrate-set-parameters", max_bandwidth=4_000_000, downtime_limit=1)
    here("migrate", uri=place)
    here.until("active")
    throttled = []
    for _ in range(8):
        here.vm.clock.advance(2)
        throttled.append(here.migration.get("cpu-throttle-percentage", 0))
    assert throttled == slowed
