"""Migrations that go wrong because a test asks for it (`fault-migration`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import ControlError
from tests.migration.support import without_passes

if TYPE_CHECKING:
    from tests.migration.support import Side, Sides

RELEASES = ("5.2", "7.2", "10.0", "11.1")
_FAILED = {"11.1": ["failing", "failed"]}


def _copied(side: Side) -> int:
    ram = side.migration["ram"]
    return int(ram["normal"] + ram["duplicate"]) * int(ram["page-size"])


@pytest.mark.parametrize("release", RELEASES)
def test_the_way_is_lost_at_a_byte(sides: Sides, release: str) -> None:
    here, there, place = sides.pair(release)
    here.vm.faults.migration(at="16M")
    here("migrate", uri=place)
    assert without_passes(here.until("failed")) == ["setup", "active", *_FAILED.get(release, ["failed"])]
    assert here.migration == {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}
    assert there.until("failed") == ["active", "failed"]
    assert there.is_at_end()
    assert here.state == "running"
    assert here.vm.faults.query() == []


@pytest.mark.parametrize("release", ["7.2", "10.0", "11.1"])
def test_the_way_is_lost_while_a_machine_runs_on(sides: Sides, release: str) -> None:
    here = sides.one(release)
    assert here.capabilities("background-snapshot") == {}
    here.vm.faults.migration(at="16M")
    here("migrate", uri="exec:cat >/dev/null")
    assert here.until("completed", "failed")[-1] == "failed"
    assert here.state == "running"
    assert here.vm.faults.query() == []


@pytest.mark.parametrize("at", ["8M", "30%", 12345678])
def test_so_much_was_copied_by_then(sides: Sides, at: Any) -> None:
    """The fault holds until it happens: the moment before it a quarter or more of the memory has come."""
    here = sides.one("7.2", clock="virtual")
    here("migrate-set-parameters", max_bandwidth=100_000)
    here.vm.faults.migration(at=at)
    here("migrate", uri="exec:cat >/dev/null")
    most = 0
    while here.migration["status"] == "active":
        most = max(most, _copied(here))
        here.vm.clock.advance("10ms")
    limit = {"8M": 8 << 20, "30%": (32 << 20) * 3 // 10}.get(at, at)
    assert limit - (2 << 20) < most <= limit + (1 << 20)
    assert here.migration["status"] == "failed"
    assert here.state == "running"


def test_a_way_that_is_lost_once_the_guest_has_gone_is_made_again(sides: Sides) -> None:
    here, there, place = sides.pair("7.2")
    for each in (here, there):
        each.capabilities("postcopy-ram")
    here("migrate-set-parameters", max_bandwidth=4096)
    here("migrate", uri=place)
    here.until("active")
    here("migrate-start-postcopy")
    here.until("postcopy-active")
    here.vm.faults.migration(what="cut", at="50%")
    assert here.until("postcopy-paused")[-1] == there.until("postcopy-paused")[-1] == "postcopy-paused"
    assert there.state == "running"
    other = place.replace("m.sock", "n.sock")
    there("migrate-recover", uri=other)
    here("migrate", uri=other, resume=True)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


def test_a_target_refuses_for_a_reason(sides: Sides) -> None:
    here, there, place = sides.pair("10.0")
    there.vm.faults.migration(what="refuse", reason="no room here")
    here.capabilities("return-path")
    here("migrate", uri=place)
    assert here.until("failed")[-1] == "failed"
    assert here.state == "running"
    assert there.until("failed") == ["active", "failed"]
    assert there.is_at_end()


@pytest.mark.parametrize("release", ["7.2", "11.1"])
def test_a_switchover_is_held(sides: Sides, release: str) -> None:
    here = sides.one(release, clock="virtual")
    held = here.vm.faults.migration(what="hold-switchover")
    here("migrate", uri="exec:cat >/dev/null")
    here.vm.clock.advance("10s")
    assert here.state == "finish-migrate"
    assert here.migration["status"] == ("device" if release == "11.1" else "active")
    here.vm.faults.clear(held.id)
    here.vm.clock.advance("1s")
    assert here.until("completed")[-1] == "completed"
    assert here.migration["downtime"] > 5000


@pytest.mark.parametrize("release", ["7.2", "11.1"])
@pytest.mark.parametrize("pauses", [False, True])
def test_the_switchover_to_postcopy_is_held(sides: Sides, release: str, pauses: bool) -> None:
    here, there, place = sides.pair(release)
    for each in (here, there):
        each.capabilities("postcopy-ram")
    here("migrate-set-parameters", max_bandwidth=4096)
    held = here.vm.faults.migration(what="hold-switchover")
    here("migrate", uri=place)
    here.until("active")
    assert here("migrate-start-postcopy") == {}
    assert without_passes(here.until("STOP"))[-1] == "STOP"
    assert here.state == "finish-migrate"
    assert there.state == "inmigrate"
    if pauses and release == "7.2":
        # Nothing has gone yet, so there is nothing to make whole again.
        assert here("migrate-pause") == {}
        assert here.until("failed", "postcopy-paused")[-1] == "failed"
        assert here.state == "postmigrate"
        assert there.is_at_end()
        return
    here.vm.faults.clear(held.id)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert there.state == "running"


def test_a_migration_never_converges_until_the_fault_is_over(sides: Sides) -> None:
    here = sides.one("7.2", clock="virtual")
    here("migrate-set-parameters", max_bandwidth=1 << 20)
    here.vm.faults.migration(what="never-converge", time="15m")
    here("migrate", uri="exec:cat >/dev/null")
    here.vm.clock.advance("10m")
    assert here.migration["status"] == "active"
    assert here.migration["ram"]["dirty-sync-count"] > 500
    assert here.state == "running"
    here("migrate_cancel")
    assert here.until("cancelled")[-1] == "cancelled"
    here("migrate", uri="exec:cat >/dev/null")
    here.vm.clock.advance("15m")
    assert here.until("completed")[-1] == "completed"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"what": "cut", "time": "1s"}, "takes no 'time'"),
        ({"what": "refuse", "at": "1M"}, "takes no 'at'"),
        ({"what": "hold-switchover", "count": 2}, "takes a 'time' alone"),
        ({"what": "never-converge", "reason": "because"}, "takes a 'time' alone"),
        ({"what": "cut", "reason": "because"}, "takes no 'reason'"),
        ({"what": "cut", "at": "101%"}, "100%"),
        ({"what": "cut", "count": 0}, "positive"),
    ],
)
def test_what_makes_no_sense_is_refused(sides: Sides, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ControlError, match=told):
        sides.one("7.2").vm.faults.migration(**wrong)
