"""Failover pairs: the primary comes when the guest's driver takes the pair, and goes before the machine does.

What is expected was measured with the four releases, a guest's driver being played over I/O ports.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import StartError
from tests.migration.support import Side, Sides, without_passes

if TYPE_CHECKING:
    from pathlib import Path

RELEASES = ["5.2", "7.2", "10.0", "11.1"]
PORT = ["-machine", "q35", "-device", "pcie-root-port,id=r1,chassis=1"]
STANDBY = ["-device", "virtio-net-pci,id=s0,failover=on"]
PRIMARY = ["-device", "e1000e,id=p0,failover_pair_id=s0,bus=r1"]
PAIR = [*PORT, *STANDBY, *PRIMARY]
NOWHERE = "exec:cat > /dev/null"
ASKED = ["setup", "UNPLUG_PRIMARY", "wait-unplug"]


def _cards(side: Side) -> set[str]:
    found: list[dict[str, Any]] = side("qom-list", path="/machine/peripheral")
    return {each["name"] for each in found} & {"s0", "p0", "q0"}


def _add(side: Side, **more: str) -> Any:
    return side.say("device_add", {"driver": "e1000e", "failover_pair_id": "s0", "bus": "r1", **more})


def _started(sides: Sides, release: str, **guest: str) -> Side:
    """A machine with a pair whose driver has taken it."""
    side = sides.one(release, *PAIR, guest=guest, clock="virtual")
    assert _cards(side) == {"s0"}
    assert side("device_del", id="p0") == "Device 'p0' not found"
    taken = _add(side, id="p0", bus="pcie.0")
    assert taken.startswith("Duplicate ID 'p0'" if release in ("5.2", "7.2") else "Bus 'pcie.0'")
    side.vm.clock.advance("5s")
    side.until("FAILOVER_NEGOTIATED")
    assert _cards(side) == {"s0", "p0"}
    assert side("qom-get", path="p0", property="hotplugged") is True
    return side


def _asked(side: Side) -> None:
    """The machine is to go, and waits for its guest."""
    assert side("migrate", uri=NOWHERE) == {}
    assert without_passes(side.until("wait-unplug")) == ASKED
    assert side.migration == {"status": "wait-unplug"}


@pytest.mark.parametrize("release", RELEASES)
def test_the_guest_lets_go_of_the_primary_and_the_machine_goes(sides: Sides, release: str) -> None:
    side = _started(sides, release, unplug_delay="1s")
    _asked(side)
    side.vm.clock.advance("900ms")
    assert side.migration == {"status": "wait-unplug"}
    side.vm.clock.advance("10s")
    events = without_passes(side.until("completed"))
    assert [each for each in events if each != "device"] == ["active", "STOP", "completed"]
    assert 1000 <= side.migration["setup-time"] <= 1500
    # It is still there, nothing tells of its end, and the machine can go once more without being asked.
    assert _cards(side) == {"s0", "p0"}
    side("cont")
    side("migrate", uri=NOWHERE)
    side.vm.clock.advance("10s")
    events = without_passes(side.until("completed"))
    assert not {"UNPLUG_PRIMARY", "DEVICE_DELETED", "wait-unplug"}.intersection(events)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("answer", ["ignore", "refuse"])
def test_a_guest_that_keeps_the_primary_is_waited_for_until_somebody_cancels(
    sides: Sides, release: str, answer: str
) -> None:
    side = _started(sides, release, on_unplug=answer)
    for _ in range(2):
        _asked(side)
        side.vm.clock.advance("10m")
        assert side.migration == {"status": "wait-unplug"}
        side("migrate_cancel")
        if release != "5.2":
            side.vm.clock.advance("29s")
            assert side.migration["status"] == "cancelling"
            assert side("migrate", uri=NOWHERE) == "There's a migration process in progress"
            side.vm.clock.advance("2s")
        side.until("cancelled")
        assert _cards(side) == {"s0", "p0"}
    assert side.state == "running"
    if answer == "ignore":
        side.vm.guest.release_device("p0")
        side.vm.clock.advance("1s")
        side.until("DEVICE_DELETED")
        assert _cards(side) == {"s0"}


@pytest.mark.parametrize("release", ["7.2", "11.1"])
def test_a_primary_that_has_gone_before_the_migration_is_cancelled_is_there_again(sides: Sides, release: str) -> None:
    side = _started(sides, release, on_unplug="ignore")
    _asked(side)
    assert side("device_del", id="p0") == {}
    side("migrate_cancel")
    side.vm.guest.release_device("p0")
    side.vm.clock.advance("1s")
    assert "DEVICE_DELETED" not in side.until("cancelled")
    assert _cards(side) == {"s0", "p0"}
    side("device_del", id="p0")
    side.vm.guest.release_device("p0")
    side.vm.clock.advance("1s")
    side.until("DEVICE_DELETED")
    assert _cards(side) == {"s0"}
    assert _add(side, id="p0") == {}
    assert _cards(side) == {"s0", "p0"}


@pytest.mark.parametrize("release", RELEASES)
def test_a_way_that_is_lost_meanwhile_shows_afterwards(sides: Sides, release: str) -> None:
    side = _started(sides, release, on_unplug="ignore")
    side("migrate", uri="exec:exit 1")
    side.until("wait-unplug")
    time.sleep(0.2)
    assert side.migration == {"status": "wait-unplug"}
    side.vm.guest.release_device("p0")
    side.vm.clock.advance("1s")
    events = without_passes(side.until("failed"))
    assert events == ["active", *(["failing"] if release == "11.1" else []), "failed"]
    assert side.migration == {"status": "failed", "error-desc": "Unable to write to command: Broken pipe"}
    _asked(side)


def test_a_reset_ends_the_waiting(sides: Sides) -> None:
    side = _started(sides, "10.0", on_unplug="ignore")
    side.vm.guest.set(boot_time="1h")
    _asked(side)
    side("system_reset")
    side.vm.clock.advance("1m")
    side.until("completed")


@pytest.mark.parametrize("release", RELEASES)
def test_the_primary_comes_at_the_other_side(sides: Sides, release: str, tmp_path: Path) -> None:
    place = f"unix:{tmp_path}/m.sock"
    there = sides.one(release, *PAIR, "-incoming", place, guest={})
    here = sides.one(release, *PAIR, guest={})
    here.until("FAILOVER_NEGOTIATED")
    assert _cards(there) == {"s0"}
    here("migrate", uri=place)
    events = without_passes(here.until("completed"))
    assert events[:4] == [*ASKED, "active"]
    assert [each for each in there.until("completed") if each != "setup"] == [
        "active", "FAILOVER_NEGOTIATED", "RESUME", "completed",
    ]  # fmt: skip
    assert _cards(there) == {"s0", "p0"}
    assert there("qom-get", path="p0", property="hotplugged") is True


def test_a_guest_that_does_not_take_the_pair_goes_without_it(sides: Sides) -> None:
    side = sides.one("10.0", *PAIR, guest={"failover": False})
    side("migrate", uri=NOWHERE)
    assert "wait-unplug" not in side.until("completed")
    assert _cards(side) == {"s0"}
    side("cont")
    side.vm.guest.negotiate_failover("s0")
    side.until("FAILOVER_NEGOTIATED")
    assert _cards(side) == {"s0", "p0"}


@pytest.mark.parametrize("release", ["5.2", "10.0"])
def test_what_a_primary_has_to_be(sides: Sides, release: str) -> None:
    """5.2 looks at less, and forgets a primary that comes before the guest's driver does."""
    side = sides.one(release, *PORT, *STANDBY)
    is_strict = release == "10.0"
    nameless = "Device with failover_pair_id needs to have id"
    assert _add(side) == (nameless if is_strict else {})
    assert _add(side, id="p0") == {}
    assert _cards(side) == {"s0"}
    other = "Cannot attach more than one primary device to 's0': 'p0' and 'q0'"
    assert _add(side, id="p0", bus="pcie.0") == "Bus 'pcie.0' does not support hotplugging"
    assert _add(side, id="q0") == (other if is_strict else {})
    side.vm.guest.negotiate_failover("s0")
    side.until("FAILOVER_NEGOTIATED")
    assert _cards(side) == ({"s0", "p0"} if is_strict else {"s0"})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("virtio-rng-pci,bus=r1,failover_pair_id=s0", "failover primary device is not an Ethernet device"),
        ("e1000e,bus=r1,multifunction=on,failover_pair_id=s0", "failover: primary device must be in its own PCI slot"),
        ("virtio-rng-pci,bus=r1,failover_pair_id=", "failover primary device is not an Ethernet device"),
        ("e1000,bus=b1,addr=3,failover_pair_id=s0", "failover primary device must be on PCIExpress bus"),
    ],
)
def test_what_cannot_be_a_primary(sides: Sides, options: str, why: str) -> None:
    bridge = ["-device", "pcie-root-port,id=r2,chassis=2", "-device", "pcie-pci-bridge,id=b1,bus=r2"]
    with pytest.raises(StartError, match=why):
        sides.one("10.0", *PORT, *bridge, "-device", f"{options},id=p0")
