"""The guest's part in hot plug, played by hand: what clients of the QMP socket see of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.machine import GuestSettings
from qmpd.machine.blueprint import GuestUnplug
from tests.control.support import Control, Refused, played

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

DEAF = GuestSettings(boot_time=0, on_unplug=GuestUnplug.IGNORE, balloon=False)
MEMORY = 128 << 20


class Plugging:
    """A QMP client that keeps events apart."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[tuple[object, object]] = []

    async def __call__(self, name: str, /, **arguments: object) -> Any:
        await self.client.send(json.dumps({"execute": name, "arguments": arguments}).encode())
        return await self.reply()

    async def reply(self) -> Any:
        """The next reply."""
        while "event" in (message := await self.client.message()):
            self.events.append((message["event"], message.get("data")))
        return message["return"] if "return" in message else message["error"]

    async def said(self) -> list[tuple[object, object]]:
        """The events by now."""
        await self("query-status")
        events, self.events = self.events, []
        return events


async def begin(machine: Any) -> tuple[Plugging, Control]:
    control = await machine.control()
    client = Plugging(await machine.connect())
    await control("clock-advance", time="1s")
    return client, control


@pytest.mark.parametrize("release", ["5.2", "10.0"])
async def test_a_device_goes_when_the_guest_says_so(tmp_path: Path, release: str) -> None:
    async with played(tmp_path, guest=DEAF, release=release) as machine:
        client, control = await begin(machine)
        for name in ("d0", "d1"):
            assert await client("device_add", driver="virtio-rng-pci", id=name) == {}
        with pytest.raises(Refused, match="the guest is not asked to let go of 'd0'"):
            await control("guest-refuse-device", device="d0")
        assert await client("device_del", id="d0") == {}
        await control("clock-advance", time="1h")
        assert await client.said() == []
        await control("guest-refuse-device", device="d0")
        refusal = ("DEVICE_UNPLUG_GUEST_ERROR", {"device": "d0", "path": "/machine/peripheral/d0"})
        assert await client.said() == ([refusal] if release == "10.0" else [])
        assert await client("device_del", id="d0") == {}
        await control("guest-release-device", device="/machine/peripheral/d0")
        # A guest can let go of a device that nobody wants back.
        await control("guest-release-device", device="d1")
        assert await client.said() == []
        await control("clock-advance", time="60ms")
        deleted = [data for event, data in await client.said() if event == "DEVICE_DELETED"]
        assert [data for data in deleted if isinstance(data, dict) and "device" in data] == [
            {"device": name, "path": f"/machine/peripheral/{name}"} for name in ("d0", "d1")
        ]
        with pytest.raises(Refused, match="Device 'd0' not found"):
            await control("guest-release-device", device="d0")
        # What was there from the start stays.
        with pytest.raises(Refused, match="the guest has no say"):
            await control("guest-release-device", device="/machine/unattached/device[0]")


async def test_the_balloon_is_as_large_as_the_guest_says(tmp_path: Path) -> None:
    async with played(tmp_path, guest=DEAF) as machine:
        client, control = await begin(machine)
        with pytest.raises(Refused, match="the machine has no balloon"):
            await control("guest-set-balloon", size=64 << 20)
        await client("device_add", driver="virtio-balloon-pci", id="b")
        assert await client("balloon", value=64 << 20) == {}
        await control("guest-set-balloon", size=(100 << 20) + 5)
        assert await client.said() == [("BALLOON_CHANGE", {"actual": 100 << 20})]
        assert await client("query-balloon") == {"actual": 100 << 20}
        await control("guest-set-balloon", size=100 << 20)
        assert await client.said() == []
        with pytest.raises(Refused, match=f"the machine has {MEMORY} bytes"):
            await control("guest-set-balloon", size=MEMORY + 1)


async def test_a_tray_that_the_guest_moves_and_locks(tmp_path: Path) -> None:
    async with played(tmp_path, guest=DEAF) as machine:
        client, control = await begin(machine)
        await client("device_add", driver="virtio-scsi-pci", id="s")
        await client("device_add", driver="scsi-cd", id="cd")
        with pytest.raises(Refused, match="'s' has no tray"):
            await control("guest-move-tray", device="s", open=True)
        moved = [("DEVICE_TRAY_MOVED", {"device": "", "id": "cd", "tray-open": opened}) for opened in (True, False)]
        await control("guest-move-tray", device="cd", open=True)
        await control("guest-move-tray", device="cd", open=True)
        await control("guest-move-tray", device="cd", open=False)
        assert await client.said() == moved
        await control("guest-lock-tray", device="cd", locked=True)
        assert [each["locked"] for each in await client("query-block")] == [True]
        with pytest.raises(Refused, match="the guest has locked the tray"):
            await control("guest-move-tray", device="cd", open=True)
        # The guest is asked, and does not answer.
        assert await client("blockdev-open-tray", id="cd") == {}
        assert (await client("eject", id="cd"))["desc"] == (
            "Device 'cd' is locked and force was not specified, wait for tray to open and try again"
        )
        assert await client.said() == []
        assert await client("blockdev-open-tray", id="cd", force=True) == {}
        assert await client.said() == moved[:1]
        assert await client("eject", id="cd") == {}
        await control("guest-lock-tray", device="cd", locked=False)
        assert [each["locked"] for each in await client("query-block")] == [False]


async def test_a_filter_is_told_of_once_until_somebody_looks(tmp_path: Path) -> None:
    async with played(tmp_path, guest=DEAF) as machine:
        client, control = await begin(machine)
        await client("device_add", driver="virtio-net-pci", id="nic")
        await client("device_add", driver="e1000", id="old")
        with pytest.raises(Refused, match="'old' is no network card that has a filter"):
            await control("guest-set-filter", device="old", promiscuous=False)
        told = ("NIC_RX_FILTER_CHANGED", {"name": "nic", "path": "/machine/peripheral/nic/virtio-backend"})
        await control("guest-set-filter", device="nic", promiscuous=False, vlan_table=[])
        await control("guest-set-filter", device="nic", multicast="none", main_mac="02:00:00:00:00:01")
        assert await client.said() == [told]
        (shown,) = await client("query-rx-filter", name="nic")
        assert (shown["promiscuous"], shown["multicast"], shown["vlan-table"]) == (False, "none", [])
        assert shown["main-mac"] == "02:00:00:00:00:01"
        await control("guest-set-filter", device="nic", unicast_table=["02:00:00:00:00:02"])
        assert await client.said() == [told]


async def test_a_port_that_the_guests_agent_opens(tmp_path: Path) -> None:
    async with played(tmp_path, guest=DEAF) as machine:
        client, control = await begin(machine)
        await client("device_add", driver="virtio-serial-pci", id="v")
        await client("chardev-add", id="channel", backend={"type": "null", "data": {}})
        await client("device_add", driver="virtserialport", id="agent", chardev="channel")

        async def is_open() -> object:
            (shown,) = [each for each in await client("query-chardev") if each["label"] == "channel"]
            return shown["frontend-open"]

        assert await is_open() is False
        await control("guest-open-port", device="agent")
        assert await is_open() is True
        assert await client.said() == [("VSERPORT_CHANGE", {"open": True, "id": "agent"})]
        await control("clock-advance", time="2s")
        await control("guest-open-port", device="agent", open=False)
        assert await is_open() is False
        assert await client.said() == [("VSERPORT_CHANGE", {"open": False, "id": "agent"})]
        # A reset closes it, too.
        await control("clock-advance", time="2s")
        await control("guest-open-port", device="agent")
        await control("clock-advance", time="2s")
        await client("system_reset")
        told = [event for event, data in await client.said() if data != {"open": True, "id": "agent"}]
        assert told == ["VSERPORT_CHANGE", "RESET"]
        assert await is_open() is False
        await control("clock-advance", time="1s")
        with pytest.raises(Refused, match="'v' is no virtserialport"):
            await control("guest-open-port", device="v")
        # All of this takes a guest that runs.
        await client("stop")
        with pytest.raises(Refused, match="the guest does not run"):
            await control("guest-open-port", device="agent")


async def test_a_machine_that_nobody_has_taken_apart(tmp_path: Path) -> None:
    async with played(tmp_path, guest=DEAF, release="2.x-live-update") as machine:
        _, control = await begin(machine)
        with pytest.raises(Refused, match="qmpd does not know what the machines of release"):
            await control("guest-release-device", device="x")


PLUGGED = (
    ("nic", "virtio-net-pci"), ("b", "virtio-balloon-pci"), ("v", "virtio-serial-pci"), ("s", "virtio-scsi-pci"),
    ("d0", "virtio-rng-pci"), ("d1", "e1000"), ("agent", "virtserialport"), ("cd", "scsi-cd"),
)  # fmt: skip
GONE = [
    ("DEVICE_DELETED", {"path": "/machine/peripheral/d0/virtio-backend"}),
    ("DEVICE_DELETED", {"device": "d0", "path": "/machine/peripheral/d0"}),
    ("DEVICE_DELETED", {"device": "d1", "path": "/machine/peripheral/d1"}),
]
WAKING = ["VSERPORT_CHANGE", "WAKEUP", "STOP"]


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
@pytest.mark.parametrize("command", ["system_wakeup", "system_reset"])
async def test_the_devices_of_a_sleeping_guest_are_reset(tmp_path: Path, release: str, command: str) -> None:
    """What was to go is gone, trays and ports close, filters are forgotten, the balloon stays."""
    async with played(tmp_path, guest=DEAF, release=release) as machine:
        client, control = await begin(machine)
        for identifier, driver in PLUGGED:
            assert await client("device_add", driver=driver, id=identifier) == {}
        (fresh,) = await client("query-rx-filter")
        await client("balloon", value=MEMORY // 2)
        await control("guest-set-balloon", size=MEMORY // 2)
        await control("guest-set-filter", device="nic", promiscuous=False, main_mac="02:00:00:00:00:01")
        await control("guest-open-port", device="agent", open=True)
        await control("guest-move-tray", device="cd", open=True)
        await control("guest-lock-tray", device="cd", locked=True)
        await control("clock-advance", time="2s")
        await control("guest-suspend")
        for identifier in ("d0", "d1"):
            assert await client("device_del", id=identifier) == {}
        await client.said()
        # In one write, so that what has no lag comes after all of it.
        await client.client.send(b'{"execute": "%b"}{"execute": "stop"}' % command.encode())
        await client.reply()
        await client.reply()
        names = [name for name, _ in await client.said()]
        waking = WAKING if command == "system_wakeup" else ["VSERPORT_CHANGE", "RESET"]
        if release == "11.1":
            assert names == waking + [name for name, _ in GONE]
        else:
            assert names == waking
            await control("clock-advance", time="60ms")
            assert await client.said() == GONE
        assert await client("query-rx-filter") == [fresh]
        (drive,) = await client("query-block")
        assert (drive["tray_open"], drive["locked"]) == (False, False)
        assert await client("query-balloon") == {"actual": MEMORY // 2}
        assert (await client("device_del", id="d1"))["class"] == "DeviceNotFound"
