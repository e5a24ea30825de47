"""Machines that move from one to another, over real sockets."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img
from tests.migration.support import without_passes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.support import Sides

RELEASES = ("5.2", "7.2", "10.0", "11.1")
_FAILS = {"10.0": ["failed", "RESUME"], "11.1": ["failing", "RESUME", "failed"]}
_DEVICE = {"5.2": [], "7.2": [], "10.0": ["device"], "11.1": ["device"]}


@pytest.mark.parametrize("release", RELEASES)
def test_a_running_machine_goes(sides: Sides, tmp_path: Path, release: str) -> None:
    here, there, place = sides.pair(release)
    assert here.state == "running"
    assert there.state == "inmigrate"
    assert there.migration["socket-address"] == [{"type": "unix", "path": f"{tmp_path}/m.sock"}]
    assert here("migrate", uri=place) == {}
    assert without_passes(here.until("completed")) == ["setup", "active", "STOP", *_DEVICE[release], "completed"]
    assert there.until("completed") == ["active", "RESUME", "completed"]
    assert (here.state, there.state) == ("postmigrate", "running")
    assert there.migration == {"status": "completed"}
    assert not (tmp_path / "m.sock").exists()
    ram = here.migration["ram"]
    shares = ("precopy-bytes", "downtime-bytes", "postcopy-bytes")
    assert sum(ram.get(each, 0) for each in shares) == (ram["transferred"] if release != "5.2" else 0)
    assert (ram["normal"] + ram["duplicate"]) * ram["page-size"] >= ram["total"]
    assert here("cont") == {}
    assert here.state == "running"


@pytest.mark.parametrize("release", RELEASES)
def test_another_machine_is_refused_and_the_first_goes_on(sides: Sides, tmp_path: Path, release: str) -> None:
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one(release, "-machine", "q35", "-incoming", place)
    here = sides.one(release)
    here("migrate", uri=place)
    assert here.until("failed")[-2:] == (["failing", "failed"] if release == "11.1" else ["active", "failed"])
    assert there.until("failed") == ["active", "failed"]
    assert there.is_at_end()
    assert here.state == "running"
    assert here.migration == {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}


_ONE, _OTHER = "1111ABcd-1111-1111-1111-111111111111", "22222222-1111-1111-1111-111111111111"


@pytest.mark.parametrize(
    ("source", "target", "checks", "goes"),
    [
        (_ONE, _OTHER, True, False),
        (_ONE, _OTHER, False, True),
        (_ONE, _ONE.lower(), True, True),
        (_ONE, None, True, True),
        (None, _OTHER, True, True),
    ],
)
@pytest.mark.parametrize("release", RELEASES)
def test_another_uuid_is_refused_where_it_counts(
    sides: Sides, tmp_path: Path, release: str, source: str | None, target: str | None, checks: bool, goes: bool
) -> None:
    """The source's `validate-uuid` alone decides."""
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one(release, *([] if target is None else ["-uuid", target]), "-incoming", place)
    here = sides.one(release, *([] if source is None else ["-uuid", source]))
    if checks:
        here.capabilities("validate-uuid")
    here("migrate", uri=place)
    assert here.until("completed", "failed")[-1] == ("completed" if goes else "failed")
    if goes:
        assert there.until("completed")[-1] == "completed"
    else:
        assert here.state == "running"
        assert there.until("failed")[-1] == "failed"
        assert there.is_at_end()


def test_a_machine_that_is_waited_for_at_all_addresses_may_come_by_either_ip(sides: Sides) -> None:
    """libvirt has the other side listen at `[::]`, and may go to an address of IPv4."""
    there = sides.one("7.2", "-incoming", "tcp:[::]:0")
    [address] = there.migration["socket-address"]
    here = sides.one("7.2")
    assert here("migrate", uri=f"tcp:127.0.0.1:{address['port']}") == {}
    here.until("completed")
    there.until("completed")
    assert there.state == "running"


def test_a_chain_of_machines(sides: Sides, tmp_path: Path) -> None:
    here = sides.one("7.2")
    for number in range(5):
        place = f"unix:{tmp_path}/{number}"
        there = sides.one("7.2", "-incoming", place)
        here("migrate", uri=place)
        here.until("completed")
        there.until("completed")
        assert (here.state, there.state) == ("postmigrate", "running")
        here = there


def test_an_hour_takes_no_time(sides: Sides, tmp_path: Path) -> None:
    """A guest that writes as fast as it is copied is never done; once it may be slow it is."""
    options: dict[str, Any] = {"clock": "virtual", "guest": "memory-used=2G,dirty-rate=200M"}
    place = f"exec:cat > {tmp_path}/state"
    here = sides.one("10.0", "-m", "4G", **options)
    here("migrate", uri=place)
    here.until("active")
    here.vm.clock.advance(3600)
    told = here.migration
    assert told["status"] == "active"
    assert told["total-time"] >= 3_600_000
    assert told["ram"]["dirty-sync-count"] > 100
    assert told["ram"]["transferred"] > 400 << 30
    here("migrate-set-parameters", max_bandwidth=0)
    here.vm.clock.advance(10)
    here.until("completed")
    assert here.state == "postmigrate"


def _disk(path: Path, driver: str) -> list[str]:
    node = {"driver": driver, "node-name": "d", "file": {"driver": "file", "filename": str(path)}}
    return ["-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=d,id=vd0"]


@needs_qemu_img
def test_disks_go_along(sides: Sides, tmp_path: Path) -> None:
    """Whoever runs has the disk, and sees what the other one has written; the other one cannot go on meanwhile."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "d", "8M"], check=True)
    disk = _disk(tmp_path / "d", "qcow2")
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one("10.0", *disk, "-incoming", place)
    here = sides.one("10.0", *disk)
    here("block-dirty-bitmap-add", node="d", name="b")
    for each in (here, there):
        each.capabilities("dirty-bitmaps")
    here.vm.guest.write("vd0", 0, 65536, pattern=7)
    here("migrate", uri=place)
    here.until("completed")
    there.until("completed")
    assert here("cont") == 'Failed to get "write" lock'
    assert here.state == "postmigrate"
    (node,) = [each for each in there("query-named-block-nodes") if each["node-name"] == "d"]
    assert [(each["name"], each["count"]) for each in node["dirty-bitmaps"]] == [("b", 65536)]
    assert node["active"] is True
    assert there.vm.guest.read("vd0", 0, 4096).pattern == 7
    there.vm.close()
    assert here("cont") == {}


def _raw_disk(path: Path) -> list[str]:
    node = {"driver": "raw", "node-name": "d", "file": {"driver": "file", "filename": str(path)}}
    return ["-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=d,id=d0"]


@pytest.mark.parametrize("release", RELEASES)
def test_who_may_have_a_disk_after_a_move(sides: Sides, tmp_path: Path, release: str) -> None:
    """Measured: 5.2 never keeps others from a disk that has moved; 7.2 does once the machine runs."""
    disk = _raw_disk(tmp_path / "d.raw")
    (tmp_path / "d.raw").write_bytes(bytes(1 << 20))
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one(release, *disk, "-incoming", place)
    here = sides.one(release, *disk, "-S")
    here("migrate", uri=place)
    there.until("completed")
    here.until("completed")
    assert there.state == "prelaunch"
    assert here("cont") == ('Failed to get shared "write" lock' if release == "7.2" else {})
    if release == "7.2":
        there("cont")
        assert here("cont") == 'Failed to get "write" lock'


@pytest.mark.parametrize("release", RELEASES)
def test_a_disk_is_written_to_over_nbd_before_its_machine_comes(sides: Sides, tmp_path: Path, release: str) -> None:
    """As libvirt copies storage; the device that waits for its machine lets others write meanwhile."""
    (tmp_path / "d.raw").write_bytes(bytes(1 << 20))
    there = sides.one(release, *_raw_disk(tmp_path / "d.raw"), "-incoming", "defer")
    address = {"type": "unix", "data": {"path": str(tmp_path / "n.sock")}}
    assert there("nbd-server-start", addr=address) == {}
    assert there("block-export-add", type="nbd", id="x", node_name="d", writable=True) == {}
    here = sides.one(release)
    server = {"type": "unix", "path": str(tmp_path / "n.sock")}
    assert here("blockdev-add", driver="nbd", node_name="n", server=server, export="d") == {}
    here("human-monitor-command", command_line='qemu-io n "write -P 5 4k 4k"')
    here("human-monitor-command", command_line='qemu-io n "flush"')
    there("nbd-server-stop")
    assert (tmp_path / "d.raw").read_bytes()[4096:8192] == b"\5" * 4096


# Measured on each release.
@pytest.mark.parametrize(
    ("release", "postcopy", "state", "why", "told"),
    [
        ("5.2", False, "running", None, "bdrv_inactivate_all() failed (-1)"),
        ("7.2", False, "running", None, "bdrv_inactivate_all() failed (-1)"),
        ("7.2", True, "postmigrate", None, "migration_iteration_run: postcopy failed to start"),
        ("10.0", False, "running", "Error in migration completion: Bad address", "bdrv_inactivate_all() failed: -1"),
        ("10.0", True, "running", "Block inactivate failed during switchover", "bdrv_inactivate_all() failed: -1"),
        ("11.1", False, "running", "Block inactivate failed during switchover", "bdrv_inactivate_all() failed: -1"),
    ],
)
def test_a_disk_that_an_export_lets_others_write_to_is_not_given_away(
    sides: Sides, tmp_path: Path, capfd: pytest.CaptureFixture[str], release: str, postcopy: bool, state: str,
    why: str | None, told: str,
) -> None:  # fmt: skip
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one(release, "-incoming", place)
    here = sides.one(release, "-blockdev", "driver=null-co,size=1048576,node-name=n")
    here("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "n.sock")}})
    here("block-export-add", type="nbd", id="x", node_name="n", writable=True)
    if postcopy:
        for each in (here, there):
            each.capabilities("postcopy-ram")
        here("migrate-set-parameters", max_bandwidth=4096)
    here("migrate", uri=place)
    if postcopy:
        here.until("active")
        here("migrate-start-postcopy")
    here.until("failed")
    assert (here.state, here.migration.get("error-desc")) == (state, why)
    assert told in capfd.readouterr().err
    # Where it is said so to a side that answers, it ends.
    assert there.state == "inmigrate" if postcopy and release == "7.2" else there.is_at_end()
    here("migrate-set-parameters", max_bandwidth=0)
    assert here("cont") == here("migrate", uri="exec:cat >/dev/null") == {}
    here.until("failed")
    here("block-export-del", id="x")
    here.until("BLOCK_EXPORT_DELETED")
    assert here("migrate", uri="exec:cat >/dev/null") == {}
    assert here.until("completed")[-1] == "completed"


@pytest.mark.parametrize("release", RELEASES)
def test_that_the_target_has_ended_is_seen_once_it_is_to_go_on(sides: Sides, release: str) -> None:
    """Nobody looks while it waits in `pre-switchover`."""
    here, there, place = sides.pair(release)
    here.capabilities("pause-before-switchover")
    here("migrate", uri=place)
    here.until("pre-switchover")
    there("quit")
    assert there.is_at_end()
    assert here.migration["status"] == "pre-switchover"
    assert here("migrate-continue", state="pre-switchover") == {}
    fails = "failing" if release == "11.1" else "failed"
    assert without_passes(here.until("RESUME")) == ["device", fails, "RESUME"]
    late = release in ("5.2", "7.2")
    assert here.migration["status"] == "failed"
    assert ("error-desc" in here.migration) is not late


# Measured on each release.
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("what", ["continue", "cancel", "lost"])
def test_postcopy_waits_before_the_switchover_where_that_is_asked_for(sides: Sides, release: str, what: str) -> None:
    here, there, place = sides.pair(release)
    for each in (here, there):
        each.capabilities("postcopy-ram")
    here.capabilities("pause-before-switchover")
    here("migrate-set-parameters", max_bandwidth=4096)
    here("migrate", uri=place)
    here.until("active")
    here("migrate-start-postcopy")
    assert without_passes(here.until("pre-switchover")) == ["STOP", "pre-switchover"]
    assert (here.state, there.state) == ("finish-migrate", "inmigrate")
    late = release in ("5.2", "7.2")
    if what == "cancel":
        here("migrate_cancel")
        told = here.until("cancelled")
        assert told == ["cancelling", *([] if late else ["RESUME"]), "cancelled"]
    elif what == "lost":
        there("quit")
        assert there.is_at_end()
        wait_until(lambda: late or "error-desc" in here.migration)
        assert here.migration["status"] == "pre-switchover"
        assert here("migrate-continue", state="pre-switchover") == {}
        last = ["postcopy-active", "failed"] if late else ["device", *_FAILS[release]]
        assert without_passes(here.until(last[-1])) == last
    else:
        assert here("migrate-continue", state="pre-switchover") == {}
        assert without_passes(here.until("completed"))[-2:] == ["postcopy-active", "completed"]
        assert there.state == "running"
        return
    assert here.state == ("postmigrate" if late else "running")
