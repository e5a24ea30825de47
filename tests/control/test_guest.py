"""The guest's actions over a real control socket, as a client of the QMP socket sees them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.machine import GuestSettings, ShutdownAction
from qmpd.qapi import load_release
from tests.control.support import DEVICES, Refused, played

if TYPE_CHECKING:
    from pathlib import Path

    from tests.control.support import Control
    from tests.server.support import Client

INSTANT = GuestSettings(boot_time=0)


async def events(client: Client, count: int) -> list[tuple[object, object]]:
    """The names and data of the next messages, which are all events."""
    messages = [await client.message() for _ in range(count)]
    return [(message["event"], message.get("data")) for message in messages]


def by(reason: str, guest: bool = True) -> dict[str, object]:
    return {"guest": guest, "reason": reason}


FIRST = [
    ("guest-reboot", {}, [("RESET", by("guest-reset"))]),
    ("guest-triple-fault", {}, [("RESET", by("guest-reset"))]),
    ("guest-suspend", {}, [("SUSPEND", None)]),
    ("guest-panic", {"info": {"type": "s390", "core": 0, "psw-mask": 1, "psw-addr": 2, "reason": "unknown"}},
     [("GUEST_PANICKED", {
         "action": "pause",
         "info": {"type": "s390", "core": 0, "psw-mask": 1, "psw-addr": 2, "reason": "unknown"},
     }), ("STOP", None)]),
    ("guest-crash-load", {}, [("GUEST_CRASHLOADED", {"action": "run"})]),
    ("guest-expire-watchdog", {}, [("WATCHDOG", {"action": "reset"}), ("RESET", by("guest-reset"))]),
    ("guest-internal-error", {}, [("STOP", None)]),
    ("guest-io-error", {"device": "disk0"}, [("BLOCK_IO_ERROR", {
        "device": "disk0", "operation": "write", "action": "stop", "nospace": False, "reason": "Input/output error",
    }), ("STOP", None)]),
    ("guest-io-error", {"device": "d", "node-name": "n", "operation": "read", "action": "report", "reason": "bad",
                        "nospace": True},
     [("BLOCK_IO_ERROR", {
         "device": "d", "node-name": "n", "operation": "read", "action": "report", "nospace": True, "reason": "bad",
     })]),
]


@pytest.mark.parametrize(("command", "arguments", "expected"), FIRST)
async def test_what_an_action_brings_about(
    tmp_path: Path, command: str, arguments: dict[str, Any], expected: list[tuple[str, object]]
) -> None:
    async with played(tmp_path, guest=INSTANT, devices=DEVICES, shutdown=ShutdownAction.PAUSE) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1s")
        await control(command, **arguments)
        # All of it has been sent by the time that the control socket answers.
        seen = await events(client, len(expected))
        assert sorted(seen, key=str) == sorted(expected, key=str)
        assert await client.execute("query-name") == {"return": {}, "id": "execute"}
        await machine.healthy()


ENDINGS = [
    ("guest-shut-down", {}, [("SHUTDOWN", by("guest-shutdown"))], 0),
    ("guest-hibernate", {}, [("SUSPEND_DISK", None), ("SHUTDOWN", by("guest-shutdown"))], 0),
    ("guest-debug-exit", {"value": 5}, [], 11),
    ("guest-panic", {}, [("GUEST_PANICKED", {"action": "poweroff"}), ("SHUTDOWN", by("guest-panic"))], 0),
]


@pytest.mark.parametrize(("command", "arguments", "expected", "status"), ENDINGS)
async def test_what_ends_the_machine(
    tmp_path: Path, command: str, arguments: dict[str, Any], expected: list[tuple[str, object]], status: int
) -> None:
    async with played(tmp_path, guest=INSTANT, devices=DEVICES) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1s")
        assert await control(command, **arguments) == {}
        assert await events(client, len(expected)) == expected
        assert await client.line() is None
        assert await machine.end() == status


async def test_suspended_guests_wake(tmp_path: Path) -> None:
    async with played(tmp_path, guest=INSTANT) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1s")
        for reason in ("rtc", "pmtimer", "other"):
            await control("guest-suspend")
            assert (await control("query-guest"))["run-state"] == "suspended"
            with pytest.raises(Refused, match="does not run"):
                await control("guest-reboot")
            await control("guest-wake", reason=reason)
            await control("clock-advance", time="10ms")
            state = await control("query-guest")
            assert (state["phase"], state["run-state"], state["wakeup-reason"]) == ("running", "running", reason)
        assert await events(client, 6) == [("SUSPEND", None), ("WAKEUP", None)] * 3
        with pytest.raises(Refused, match="Unable to wake up: guest is not in suspended state"):
            await control("guest-wake")
        await control("guest-set", sleep_time="90s")
        await control("guest-suspend")
        await control("clock-advance", time="89s")
        assert (await control("query-guest"))["run-state"] == "suspended"
        await control("clock-advance", time="2s")
        assert (await control("query-guest"))["wakeup-reason"] == "rtc"


async def test_an_action_takes_its_device(tmp_path: Path) -> None:
    async with played(tmp_path, guest=INSTANT) as machine:
        control = await machine.control()
        for command, arguments in [
            ("guest-panic", {}),
            ("guest-crash-load", {}),
            ("guest-expire-watchdog", {}),
            ("guest-debug-exit", {"value": 1}),
        ]:
            with pytest.raises(Refused, match="takes a device"):
                await control(command, **arguments)
        with pytest.raises(Refused, match="'value' is a number from 0 to 255"):
            await control("guest-debug-exit", value=256)
        with pytest.raises(Refused, match="'info' is an object"):
            await control("guest-panic", info=5)


async def test_options_change_while_it_runs(tmp_path: Path) -> None:
    async with played(tmp_path, guest=INSTANT, devices=DEVICES, shutdown=ShutdownAction.PAUSE) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1s")

        await control("guest-set", on_nmi="panic")
        await control("guest-inject-nmi")
        assert await events(client, 2) == [("GUEST_PANICKED", {"action": "pause"}), ("STOP", None)]

        await control("guest-set", firmware="once", boot_time="10m", on_powerdown="reboot", powerdown_delay=2)
        options = (await control("query-guest"))["options"]
        assert (options["firmware"], options["boot-time"], options["powerdown-delay"]) == ("once", 600, 2)
        await client.execute("system_reset")
        await client.execute("cont")
        await control("clock-advance", time="1s")
        state = await control("query-guest")
        assert state["phase"] == "booting"
        assert [step["step"] for step in state["steps"]] == ["booted"]
        assert 598 < state["steps"][0]["remaining"] < 600
        await control("guest-proceed")
        assert (await control("query-guest"))["phase"] == "running"
        await client.execute("system_powerdown")
        await control("clock-advance", time="1999ms")
        assert (await control("query-guest"))["phase"] == "shutting-down"
        await control("clock-advance", time="1ms")
        assert await events(client, 1) == [("RESET", by("guest-reset"))]

        with pytest.raises(Refused, match="'firmware-resets' is a number from 0 to 1000, or two"):
            await control("guest-set", firmware_resets=-1)
        with pytest.raises(Refused, match="'soon' is not a time"):
            await control("guest-set", boot_time="soon")


async def test_a_halted_guest_ignores_the_power_button(tmp_path: Path) -> None:
    async with played(tmp_path, guest=INSTANT) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1s")
        await control("guest-halt")
        await client.execute("system_powerdown")
        assert (await control("clock-run-until-quiet")) == {"quiet": True, "advanced": 0, "timers": 0}
        assert (await control("query-guest"))["phase"] == "halted"


async def test_the_paths_of_newer_releases(tmp_path: Path) -> None:
    async with played(tmp_path, guest=INSTANT, release="10.0") as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("guest-io-error", device="disk0", action="ignore")
        ((name, data),) = await events(client, 1)
        assert name == "BLOCK_IO_ERROR"
        assert isinstance(data, dict)
        assert data["qom-path"] == "/machine/peripheral/disk0"
        await control("emit-event", event="BLOCK_IO_ERROR", data=data)  # it fits the release's schema


async def resets(control: Control, client: Client, boots: int) -> list[int]:
    """How many RESET events each of so many `system_reset` brings."""
    counts = []
    for _ in range(boots):
        await client.execute("system_reset")
        await control("clock-advance", time="1s")
        await client.send(b'{"execute": "query-status", "id": "end"}')
        count = 0
        while (message := await client.message()).get("id") != "end":
            count += message.get("event") == "RESET"
        counts.append(1 + count)
    return counts


@pytest.mark.parametrize(
    ("range_", "expected"), [(None, {2}), (0, {1}), (1, {2}), ("2", {3}), ("1-2", {2, 3}), ("0-3", {1, 2, 3, 4})]
)
async def test_seabios_adds_resets(tmp_path: Path, range_: int | str | None, expected: set[int]) -> None:
    """As many as the release mostly shows, or within a range; the same ones each time."""
    counted = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        async with played(tmp_path / name, guest=INSTANT) as machine:
            control, client = await machine.control(), await machine.connect()
            await control("clock-advance", time="1s")
            if range_ is not None:
                await control("guest-set", firmware_resets=range_)
                assert (await control("query-guest"))["options"]["firmware-resets"] in (range_, 2)
            counted.append(await resets(control, client, 40))
    assert set(counted[0]) == expected
    assert counted[0] == counted[1]


@pytest.mark.parametrize(("moment", "expected"), [("0us", 1), ("400us", 1), ("800us", 2), ("2ms", 2), ("20ms", 2)])
async def test_a_reset_while_the_firmware_starts(tmp_path: Path, moment: str, expected: int) -> None:
    """Measured: within a millisecond of a reset SeaBIOS notes that it has run; from then on a reset is doubled."""
    async with played(tmp_path, guest=INSTANT) as machine:
        control, client = await machine.control(), await machine.connect()
        await control("clock-advance", time="1s")
        await client.execute("system_reset")
        # The one that the firmware adds comes 35 ms later; the firmware starts there.
        await control("clock-advance", time="35ms")
        await control("clock-advance", time=moment)
        while (await client.message()).get("event") != "RESET":
            pass
        assert await resets(control, client, 1) == [expected]


async def test_a_release_tells_how_many_resets_are_usual(tmp_path: Path) -> None:
    shutil.copytree(load_release("7.2").directory, tmp_path / "mine")
    document = json.loads((tmp_path / "mine" / "release.json").read_text())
    document["behaviour"]["firmware_resets"]["value"] = 2
    (tmp_path / "mine" / "release.json").write_text(json.dumps(document))
    async with played(tmp_path, guest=INSTANT, release=str(tmp_path / "mine")) as machine:
        control, client = await machine.control(), await machine.connect()
        await control("clock-advance", time="1s")
        assert await resets(control, client, 1) == [3]
