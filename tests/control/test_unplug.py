"""What waits for a device that leaves, and what guests tell of memory and of the balloon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qmpd.machine import GuestSettings
from qmpd.machine.blueprint import GuestUnplug
from tests.control.support import Refused, played
from tests.control.test_hot_plug import begin

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = 256 << 20


@pytest.mark.parametrize("release", ["5.2", "11.1"])
async def test_memory_that_the_machine_cannot_take_away(tmp_path: Path, release: str) -> None:
    deaf = GuestSettings(boot_time=0, on_unplug=GuestUnplug.IGNORE)
    limits: dict[str, Any] = {"memory": MEMORY, "memory_slots": 2, "memory_limit": 4 * MEMORY}
    async with played(tmp_path, guest=deaf, release=release, **limits) as machine:
        client, control = await begin(machine)
        backend = {"size": MEMORY} if release == "11.1" else {"props": {"size": MEMORY}}
        assert await client("object-add", **{"qom-type": "memory-backend-ram", "id": "m", **backend}) == {}
        assert await client("device_add", driver="pc-dimm", id="d", memdev="m") == {}
        assert await client("device_add", driver="e1000", id="nic") == {}
        for name in ("d", "nic"):
            assert await client("device_del", id=name) == {}
        with pytest.raises(Refused, match="'nic' is no memory"):
            await control("guest-refuse-device", device="nic", reason="stuck")
        await control("guest-refuse-device", device="d", reason="stuck")
        told = {
            "5.2": [("MEM_UNPLUG_ERROR", {"device": "d", "msg": "stuck"})],
            "11.1": [("DEVICE_UNPLUG_GUEST_ERROR", {"device": "d", "path": "/machine/peripheral/d"})],
        }
        assert await client.said() == told[release]
        assert await client("device_del", id="d") == {}
        await control("guest-refuse-device", device="d")
        report = {"device": "d", "source": 3, "status": 1, "slot": "0", "slot-type": "DIMM"}
        assert await client.said() == [("ACPI_DEVICE_OST", {"info": report})]
        assert (await client("query-acpi-ospm-status"))[0] == report


async def test_a_balloon_is_told_statistics(tmp_path: Path) -> None:
    balloon = {"path": "/machine/peripheral/b", "property": "guest-stats"}
    interval = {**balloon, "property": "guest-stats-polling-interval"}
    async with played(tmp_path, guest=GuestSettings(boot_time=0), memory=MEMORY) as machine:
        client, control = await begin(machine)
        with pytest.raises(Refused, match="no balloon"):
            await control("guest-report-stats", stats={})
        assert await client("device_add", driver="virtio-balloon-pci", id="b") == {}
        assert await client("qom-set", **interval, value=10) == {}
        await control("clock-advance", time="1m")
        assert (await client("qom-get", **balloon))["last-update"] == 0
        await control("guest-set", balloon_stats=True)
        first = await client("qom-get", **balloon)
        assert first["stats"]["stat-total-memory"] == MEMORY
        await control("clock-advance", time="9.9s")
        assert await client("qom-get", **balloon) == first
        await control("clock-advance", time="0.2s")
        assert (await client("qom-get", **balloon))["last-update"] == first["last-update"] + 10
        await control("guest-report-stats", stats={"stat-free-memory": 5})
        stats = (await client("qom-get", **balloon))["stats"]
        assert {name for name, value in stats.items() if value != (1 << 64) - 1} == {"stat-free-memory"}
        with pytest.raises(Refused, match="there is no statistic 'free'"):
            await control("guest-report-stats", stats={"free": 5})
        with pytest.raises(Refused, match="members are numbers"):
            await control("guest-report-stats", stats={"stat-free-memory": -1})


@pytest.mark.parametrize(("release", "leaves"), [("7.2", False), ("10.0", True)])
async def test_memory_is_plugged_piece_by_piece(tmp_path: Path, release: str, leaves: bool) -> None:
    room: dict[str, Any] = {"memory_slots": 2, "memory_limit": 2 << 30}
    async with played(tmp_path, guest=GuestSettings(balloon_delay=1), release=release, **room) as machine:
        client, control = await begin(machine)
        path = "/machine/peripheral/vm"
        assert await client("object-add", **{"qom-type": "memory-backend-ram", "id": "m", "size": 512 << 20}) == {}
        assert await client("device_add", driver="virtio-mem-pci", id="vm", memdev="m") == {}

        async def ask(size: int) -> object:
            return await client("qom-set", path=path, property="requested-size", value=size)

        refused = await ask(1)
        assert refused["desc"].startswith("'requested-size' has to be multiples of 'block-size'")  # type: ignore[index]
        assert await ask(256 << 20) == {}
        assert await client.said() == []
        await control("clock-advance", time="1ms")
        change = ("MEMORY_DEVICE_SIZE_CHANGE", {"id": "vm", "size": 256 << 20, "qom-path": path})
        assert await client.said() == [change]
        assert (await client("query-memory-size-summary"))["plugged-memory"] == 256 << 20
        assert (await client("query-memory-devices"))[0]["data"]["size"] == 256 << 20
        assert "error" not in await ask(0)  # type: ignore[operator]
        refused = await client("device_del", id="vm")
        words = "virtio-mem device cannot get unplugged while 'size' != '0'"
        assert refused["desc"] == (words if leaves else "virtio based memory devices cannot be unplugged.")
        await control("clock-advance", time="2s")
        assert ("MEMORY_DEVICE_SIZE_CHANGE", {**change[1], "size": 0}) in await client.said()
        assert (await client("device_del", id="vm") == {}) is leaves
