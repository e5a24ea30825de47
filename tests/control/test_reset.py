"""What a guest was about to do when the machine is reset does not happen any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from qmpd.machine import GuestSettings
from qmpd.machine.blueprint import GuestUnplug
from tests.control.support import DEVICES, Control, played

if TYPE_CHECKING:
    from pathlib import Path

    from tests.control.support import Played
    from tests.server.support import Client

SLOW = GuestSettings(
    boot_time=40_000_000_000, powerdown_delay=30_000_000_000, unplug_delay=30_000_000_000,
    balloon_delay=30_000_000_000, sleep_time=30_000_000_000,
)  # fmt: skip
REFUSING = GuestSettings(unplug_delay=30_000_000_000, on_unplug=GuestUnplug.REFUSE)


class Plan(NamedTuple):
    """What makes a guest have a plan, the step that stands for it, and the event that it would bring."""

    commands: tuple[tuple[str, dict[str, Any]], ...]
    actions: tuple[str, ...]
    step: str
    event: str


PLUG = ("device_add", {"driver": "virtio-rng-pci", "id": "rng"})
UNPLUG = ("device_del", {"id": "rng"})
PLANS = {
    "power off": Plan((("system_powerdown", {}),), (), "power-button", "SHUTDOWN"),
    "let go of a device": Plan((PLUG, UNPLUG), (), "unplug /machine/peripheral/rng", "DEVICE_UNPLUG_GUEST_ERROR"),
    "follow the balloon": Plan(
        (("device_add", {"driver": "virtio-balloon-pci", "id": "b"}), ("balloon", {"value": 64 << 20})), (),
        "balloon", "BALLOON_CHANGE",
    ),
    "wake up": Plan((), ("guest-suspend",), "alarm", "WAKEUP"),
    "boot": Plan((), (), "booted", "NIC_RX_FILTER_CHANGED"),
}  # fmt: skip
# A guest that sleeps does nothing by itself.
RESETS = [
    (name, how)
    for name in PLANS
    for how in ("system_reset", "guest-reboot", "guest-expire-watchdog")
    if name != "wake up" or how == "system_reset"
]


async def names(client: Client) -> list[object]:
    """The events that have come by now."""
    await client.send(b'{"execute": "query-name", "id": "now"}')
    heard = []
    while (message := await client.message()).get("id") != "now":
        heard.append(message.get("event"))
    return heard


async def steps(control: Control) -> dict[str, float]:
    return {each["step"]: each["remaining"] for each in (await control("query-guest"))["steps"]}


async def begin(machine: Played) -> tuple[Client, Control]:
    return await machine.connect(), await machine.control()


@pytest.mark.parametrize(("name", "how"), RESETS)
async def test_a_reset_ends_what_the_guest_was_about_to_do(tmp_path: Path, name: str, how: str) -> None:
    plan = PLANS[name]
    settings = SLOW if name != "let go of a device" else REFUSING
    async with played(tmp_path, guest=settings, devices=DEVICES) as machine:
        client, control = await begin(machine)
        # It has booted; or it is to do so in a moment.
        await control("clock-advance", time="41s" if name != "boot" else "35s")
        for command, arguments in plan.commands:
            assert (await client.execute(command, **arguments))["return"] == {}
        for action in plan.actions:
            await control(action)
        assert plan.step in await steps(control)
        await control("clock-advance", time="2s")
        await names(client)
        if how == "system_reset":
            await client.execute(how)
        else:
            await control(how)
        heard = await names(client)
        if how == "guest-expire-watchdog":
            assert heard[:2] == ["WATCHDOG", "RESET"]
        left = await steps(control)
        assert plan.step not in left
        assert set(left) <= {"firmware-note", "firmware-reset"}
        # Until the operating system is there again nothing of it happens; its boot has begun anew.
        await client.execute("cont")
        await control("clock-advance", time="38s")
        assert plan.event not in await names(client)
        if name == "boot":
            assert (await control("query-guest"))["phase"] == "booting"
            await control("clock-advance", time="3s")
            assert (await control("query-guest"))["phase"] == "running"


async def test_a_wakeup_ends_what_the_guest_was_about_to_do(tmp_path: Path) -> None:
    """An alarm is none any more once the guest was woken, and does not wake it from its next sleep."""
    async with played(tmp_path, guest=GuestSettings(sleep_time=30_000_000_000)) as machine:
        client, control = await begin(machine)
        await control("clock-advance", time="1s")
        await control("guest-suspend")
        await control("clock-advance", time="20s")
        await client.execute("system_wakeup")
        assert list(await steps(control)) == ["resumed"]
        await control("clock-advance", time="1s")
        await control("guest-suspend")
        await names(client)
        await control("clock-advance", time="29s")
        assert await names(client) == []
        await control("clock-advance", time="1s")
        assert await names(client) == ["WAKEUP"]
