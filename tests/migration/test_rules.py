"""What a machine that is on its way somewhere else does not do, and what becomes of the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.migration.support import without_passes

if TYPE_CHECKING:
    from pathlib import Path

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
    here = sides.one("7.2", "-drive", "driver=null-co,if=virtio")
    assert "qmpd does not model" in here("migrate", uri=f"exec:cat > {tmp_path}/state", blk=True)
    here("migrate-set-parameters", tls_creds="tls0")
    assert "qmpd does not model" in here("migrate", uri=f"unix:{tmp_path}/m.sock")
    assert here.state == "running"
