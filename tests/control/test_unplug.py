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


SMALL = "'block-size' property has to be at least 0x100000"
ODD = "'block-size' property has to be a power of two"
NOWHERE = "'node' property has value '1', which exceedsthe number of numa nodes: 1"
BUSY = "'memdev' property specifies a busy memdev: m0"


@pytest.mark.parametrize(
    ("release", "misfit", "stays"),
    [
        ("5.2", "backend memory size must be multiple of 0x8000000",
         "virtio based memory devices cannot be unplugged."),
        ("11.1", "'memdev' property memdev size has to be multiples of'block-size' (0x8000000)",
         "this virtio based memory devices cannot be unplugged"),
    ],
)  # fmt: skip
async def test_virtual_memory_is_looked_at_and_has_its_place(
    tmp_path: Path, release: str, misfit: str, stays: str
) -> None:
    room: dict[str, Any] = {"memory_slots": 2, "memory": 512 << 20, "memory_limit": 1 << 30}
    guest = GuestSettings(balloon_delay=1, boot_time=0)
    async with played(tmp_path, guest=guest, release=release, **room) as machine:
        client, control = await begin(machine)
        for name, size in (("m0", 64), ("m1", 64), ("m2", 64), ("m3", 64), ("odd", 3), ("big", 512)):
            added = await client("object-add", **{"qom-type": "memory-backend-ram", "id": name, "size": size << 20})
            assert added == {}

        async def add(identifier: str, driver: str = "virtio-mem-pci", **options: object) -> object:
            options = {name.replace("_", "-"): value for name, value in options.items()}
            reply: Any = await client("device_add", driver=driver, id=identifier, **options)
            return reply.get("desc", reply)

        assert await add("a", memdev="m0", block_size=4 << 20, requested_size=2 << 20) == (
            "'requested-size' property has to be multiples of 'block-size' (0x400000)"
        )
        # It may be asked for more than there is: all is plugged in.
        assert await add("a", memdev="m0", block_size=4 << 20, requested_size=128 << 20) == {}
        await control("clock-advance", time="1ms")
        changes = [data for name, data in await client.said() if name == "MEMORY_DEVICE_SIZE_CHANGE"]
        assert [data["size"] for data in changes if isinstance(data, dict)] == [64 << 20]
        assert await add("b", memdev="m0") == BUSY
        assert await add("b", memdev="m1", block_size=4096) == SMALL
        assert await add("b", memdev="m1", block_size=3 << 20) == ODD
        assert await add("b", memdev="m1", block_size=128 << 20) == misfit
        assert await add("b", memdev="m1", node=1) == NOWHERE
        assert await add("b", memdev="m1", memaddr=1 << 32) == "address range conflicts with memory device id='a'"
        assert await add("b", memdev="m1", memaddr=1) == "address must be aligned to 0x200000 bytes"
        assert await add("b", memdev="odd") == "backend memory size must be multiple of 0x200000"
        assert await add("b", memdev="big") == (
            "not enough space, currently 0x4000000 in use of total space for memory devices 0x20000000"
        )
        assert await add("b", memdev="m1") == {}
        assert await add("p", "virtio-pmem-pci", memdev="m1") == "can't use already busy memdev: m1"
        assert await add("p", "virtio-pmem-pci", memdev="m2") == {}
        assert await add("d", "pc-dimm", memdev="m3") == {}
        listed: Any = await client("query-memory-devices")
        places = [(each["type"], each["data"].get("memaddr", each["data"].get("addr"))) for each in listed]
        kinds = ("virtio-mem", "virtio-mem", "virtio-pmem", "dimm")
        assert places == [(kind, (1 << 32) + (number << 26)) for number, kind in enumerate(kinds)]
        assert (await client("query-memory-size-summary"))["plugged-memory"] == 3 * (64 << 20)
        shown = await client("human-monitor-command", **{"command-line": "info memory-devices"})
        shown = shown.replace("\r\n  ", ", ").replace("\r\n", "; ")
        assert 'Memory device [virtio-mem]: "a", memaddr: 0x100000000, node: 0, requested-size: 1342' in shown
        pmem = 'Memory device [virtio-pmem]: "p", memaddr: 0x108000000, size: 67108864, memdev: /objects/m2; '
        assert pmem + 'Memory device [dimm]: "d", addr: 0x10c000000, slot: 0, node: 0, size: 67108864' in shown
        assert (await client("device_del", id="p"))["desc"] == stays


async def test_memory_of_a_node(tmp_path: Path) -> None:
    room: dict[str, Any] = {"memory_slots": 2, "memory": 128 << 20, "memory_limit": 1 << 30, "cpu_nodes": (0,)}
    async with played(tmp_path, node_memory=(64 << 20, 64 << 20), **room) as machine:
        client, _ = await begin(machine)
        for name in ("m0", "m1"):
            added = await client("object-add", **{"qom-type": "memory-backend-ram", "id": name, "size": 64 << 20})
            assert added == {}
        refused: Any = await client("device_add", driver="pc-dimm", id="d", memdev="m0", node=2)
        assert refused["desc"] == "'DIMM property node has value 2' which exceeds the number of numa nodes: 2"
        assert await client("device_add", driver="pc-dimm", id="d", memdev="m0", node=1) == {}
        refused = await client("device_add", driver="virtio-mem-pci", id="v", memdev="m1", node=2)
        assert refused["desc"] == "'node' property has value '2', which exceedsthe number of numa nodes: 2"
        shown = await client("human-monitor-command", **{"command-line": "info numa"})
        assert "node 0 size: 64 MB\r\nnode 0 plugged: 0 MB\r\n" in shown
        assert "node 1 size: 128 MB\r\nnode 1 plugged: 64 MB\r\n" in shown
