"""What a machine that is on its way somewhere else does not do, and what becomes of the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.migration.support import without_passes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.migration.support import Side, Sides


def _kept_active(sides: Sides, release: str) -> tuple[Side, Side]:
    here, there, place = sides.pair(release, clock="virtual")
    here("migrate-set-parameters", max_bandwidth=4096, downtime_limit=1)
    here("migrate", uri=place)
    here.until("active")
    there.until("active")
    return here, there


def test_what_waits_until_it_is_over(sides: Sides, tmp_path: Path) -> None:
    here, there = _kept_active(sides, "7.2")
    assert here("device_add", driver="virtio-rng-pci") == "device_add not allowed while migrating"
    assert here("dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/d").startswith("disallowing migration")
    assert here("migrate", uri="unix:x") == "There's a migration process in progress"
    assert here.capabilities("xbzrle") == "There's a migration process in progress"
    assert here("migrate_cancel") == {}
    assert here.until("cancelled") == ["cancelling", "cancelled"]
    assert there.until("failed") == ["failed"]
    assert here.state == "running"
    assert "error" not in here("device_add", driver="virtio-rng-pci")


def test_a_way_that_is_yanked(sides: Sides) -> None:
    here, there = _kept_active(sides, "10.0")
    migration: dict[str, Any] = {"type": "migration"}
    assert here("query-yank")[-1] == migration
    assert here("yank", instances=[migration]) == {}
    assert here.until("failed") == ["failed"]
    assert there.until("failed") == ["failed"]
    assert here("yank", instances=[migration]) == "Instance not found"


def test_a_copy_of_a_machine_that_goes_on(sides: Sides, tmp_path: Path) -> None:
    """A background snapshot leaves the machine where it is; another one goes on from it."""
    here = sides.one("7.2")
    here.capabilities("background-snapshot")
    here("migrate", uri=f"exec:cat > {tmp_path}/state")
    assert without_passes(here.until("completed")) == ["setup", "active", "STOP", "RESUME", "completed"]
    assert here.state == "running"
    there = sides.one("7.2", "-incoming", "defer")
    there("migrate-incoming", uri=f"exec:cat {tmp_path}/state")
    there.until("completed")
    assert there.state == "running"


def test_what_is_not_modelled_says_so(sides: Sides, tmp_path: Path) -> None:
    here = sides.one("7.2")
    here("migrate-set-parameters", tls_creds="tls0")
    assert "qmpd does not model" in here("migrate", uri=f"exec:cat > {tmp_path}/state")
    assert here.state == "running"


def test_a_destination_that_refuses(sides: Sides) -> None:
    """A fault has who waits fail at its first step; the source goes on as if it had met another machine."""
    here, there, place = sides.pair("7.2")
    there.vm.faults.fail_activity("incoming", reason="no room here")
    here("migrate", uri=place)
    assert here.until("failed")[-1] == "failed"
    assert there.until("failed") == ["active", "failed"]
    assert there.is_at_end()
    assert here.state == "running"


def test_a_switchover_that_is_held_and_lost(sides: Sides) -> None:
    """A fault holds the migration where it is; failed then, it puts the machine back."""
    here, there, place = sides.pair("11.1")
    here.capabilities("pause-before-switchover")
    here("migrate", uri=place)
    here.until("pre-switchover")
    held = here.vm.faults.hold_activity("migration")
    assert here("migrate-continue", state="pre-switchover") == {}
    assert here.migration["status"] == "pre-switchover"
    here.vm.faults.fail_activity("migration", reason="the cable is out")
    here.vm.faults.clear(held.id)
    assert here.until("failed") == ["failing", "RESUME", "failed"]
    assert here.migration["error-desc"] == "the cable is out"
    assert there.until("failed")[-1] == "failed"
    assert here.state == "running"


def test_channels_of_one_side_alone(sides: Sides) -> None:
    here, there, place = sides.pair("10.0")
    here.capabilities("multifd")
    here("migrate", uri=place)
    assert without_passes(here.until("failed")) == ["setup", "failed"]
    assert there.until("failed") == ["active", "failed"]
    assert here.state == "running"


@pytest.mark.parametrize("command", ["", "sleep 100"])
def test_a_command_that_says_nothing_ends_with_the_machine(sides: Sides, command: str) -> None:
    before = children()
    there = sides.one("7.2", "-incoming", f"exec:{command}")
    assert there.state == "inmigrate"
    there("quit")
    assert there.is_at_end()
    wait_for_no_more_than(before)


@pytest.mark.parametrize("quits", [True, False])
def test_a_command_that_is_told_the_machine_ends_with_it(sides: Sides, quits: bool) -> None:
    before = children()
    here = sides.one("7.2")
    here("migrate", uri="exec:cat >/dev/null")
    if quits:
        here("quit")
        assert here.is_at_end()
    else:
        here.vm.close()
    wait_for_no_more_than(before)


def wait_for_no_more_than(before: set[str]) -> None:
    """Wait until the processes that were begun since are gone, not only dead."""
    wait_until(lambda: children() <= before)


def children() -> set[str]:
    """The processes that this one has begun, those that are dead and not waited for included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {number for task in tasks for number in task.read_text(encoding="ascii").split()}


@pytest.mark.parametrize("release", ["7.2", "10.0", "11.1"])
def test_a_cancelled_migration_tells_that_nobody_answers_any_more(sides: Sides, release: str) -> None:
    """Measured: with a return path 10.0 and 11.1 do, without one nobody does."""
    for capability, told in (("events", {}), ("return-path", {"error-desc": "Channel error: Input/output error"})):
        there = sides.one(release, "-incoming", "tcp:127.0.0.1:0")
        here = sides.one(release)
        here.capabilities(capability)
        here("migrate-set-parameters", max_bandwidth=4096)
        here("migrate", uri=f"tcp:127.0.0.1:{there.migration['socket-address'][0]['port']}")
        here.until("active")
        here("migrate_cancel")
        here.until("cancelled")
        assert here.migration == {"status": "cancelled", **(told if release != "7.2" else {})}
