"""Long work as a test plays it: it is listed, goes by the machine's clock, and faults hold it or have it fail."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.machine import GuestSettings
from qmpd.machine.blueprint import Device, GuestUnplug
from tests.control.support import Control, played

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

OBEDIENT = GuestSettings(boot_time=0, unplug_delay=5 * 10**9)
PATH = "/machine/peripheral/d"
REFUSED = ("DEVICE_UNPLUG_GUEST_ERROR", {"device": "d", "path": PATH})


class Talking:
    """A QMP client that keeps events apart."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[tuple[object, object]] = []

    async def __call__(self, name: str, /, **arguments: object) -> Any:
        await self.client.send(json.dumps({"execute": name, "arguments": arguments}).encode())
        return await self.reply()

    async def reply(self) -> Any:
        while "event" in (message := await self.client.message()):
            self.events.append((message["event"], message.get("data")))
        error: Any = message.get("error")
        return message["return"] if error is None else error["desc"]

    async def gone(self) -> bool:
        """Whether DEVICE_DELETED has told of the device by now."""
        await self("query-status")
        return ("DEVICE_DELETED", {"device": "d", "path": PATH}) in self.events


async def states(control: Control) -> list[tuple[str, str, bool, float | None]]:
    found: Any = await control("query-activities")
    return [(each["name"], each["state"], each["held"], each.get("next-step")) for each in found]


async def begin(machine: Any) -> tuple[Talking, Control]:
    control = await machine.control()
    client = Talking(await machine.connect())
    await control("clock-advance", time="1s")
    assert await client("device_add", driver="virtio-rng-pci", id="d") == {}
    return client, control


async def test_an_unplug_goes_by_the_machines_clock(tmp_path: Path) -> None:
    async with played(tmp_path, guest=OBEDIENT, release="10.0") as machine:
        client, control = await begin(machine)
        assert await client("device_del", id="d") == {}
        assert await states(control) == [(f"unplug {PATH}", "asked", False, None)]
        await control("clock-advance", time="4.9s")
        assert not await client.gone()
        await control("clock-advance", time="0.2s")
        assert await client.gone()
        assert await states(control) == []


@pytest.mark.parametrize("activity", [None, "unplug", f"unplug {PATH}"])
async def test_a_fault_holds_an_unplug_for_its_time(tmp_path: Path, activity: str | None) -> None:
    async with played(tmp_path, guest=OBEDIENT, release="10.0") as machine:
        client, control = await begin(machine)
        chosen: dict[str, Any] = {} if activity is None else {"activity": activity}
        await control("fault-hold-activity", time="60s", **chosen)
        await control("fault-hold-activity", activity="reply")
        assert await client("device_del", id="d") == {}
        await control("clock-advance", time="50s")
        assert not await client.gone()
        # The guest has let go of it, and nothing has come of that.
        assert await states(control) == [(f"unplug {PATH}", "asked", True, None)]
        # A request that is made again is none of its own.
        assert await client("device_del", id="d") == {}
        assert len(await states(control)) == 1
        await control("clock-advance", time="11s")
        assert await client.gone()
        assert [each["activity"] for each in await control("query-faults")] == ["reply"]


async def test_a_fault_has_an_unplug_fail_once(tmp_path: Path) -> None:
    async with played(tmp_path, guest=OBEDIENT, release="10.0") as machine:
        client, control = await begin(machine)
        await control("fault-fail-activity", activity="unplug", count=1)
        assert await client("device_del", id="d") == {}
        await control("clock-advance", time="6s")
        assert not await client.gone()
        assert REFUSED in client.events
        assert await states(control) == []
        entries = await control("query-transcript")
        assert [each["name"] for each in entries if each["kind"] == "fault"] == [f"unplug {PATH}"]
        assert await client("device_del", id="d") == {}
        await control("clock-advance", time="6s")
        assert await client.gone()


async def test_what_goes_with_another_device_is_told_once(tmp_path: Path) -> None:
    deaf = GuestSettings(boot_time=0, on_unplug=GuestUnplug.IGNORE)
    async with played(tmp_path, guest=deaf, release="10.0") as machine:
        client, control = await begin(machine)
        assert await client("device_add", driver="virtio-scsi-pci", id="s") == {}
        assert await client("device_add", driver="scsi-hd", bus="s.0", id="disk") != {}
        assert await client("device_add", driver="usb-ehci", id="u") == {}
        assert await client("device_add", driver="usb-kbd", bus="u.0", id="k") == {}
        assert await client("device_del", id="u") == {}
        await control("guest-release-device", device="u")
        await control("clock-advance", time="60ms")
        await client("query-status")
        told = [data for event, data in client.events if event == "DEVICE_DELETED"]
        assert [data["device"] for data in told if isinstance(data, dict) and "device" in data] == ["k", "u"]


@pytest.mark.parametrize("held", [False, True])
async def test_a_reply_that_comes_later_can_be_held_and_fail(tmp_path: Path, held: bool) -> None:
    picture = str(tmp_path / "screen.ppm")
    screen = (Device(driver="VGA"),)
    async with played(tmp_path, guest=OBEDIENT, release="10.0", devices=screen) as machine:
        client, control = await begin(machine)
        if held:
            await control("fault-hold-activity", activity="reply")
        await control("fault-fail-activity", activity="reply", reason="the disk is full", count=1)
        await client.client.send(json.dumps({"execute": "screendump", "arguments": {"filename": picture}}).encode())
        await client.client.send(json.dumps({"execute": "query-name"}).encode())
        if held:
            with trio.fail_after(5):
                while not all(held for _, _, held, _ in await states(control)):
                    pass
            other = Talking(await machine.connect())
            assert await other("query-status") != {}
            await control("fault-clear", id=1)
        assert await client.reply() == "the disk is full"
        assert await client.reply() == {}
        assert await client("screendump", filename=picture) == {}
        assert os.path.getsize(picture) > 0
        assert await states(control) == []
