"""Virtual time: long waits take no time, and the same steps give the same transcript."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.machine import GuestAction, GuestSettings, ShutdownAction
from tests.control.support import DEVICES, Played, Refused, played

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Scenario = Callable[[Played], Awaitable[None]]

MINUTE = 60 * 1_000_000_000


async def shutdown_timeout(machine: Played) -> None:
    """A guest that takes longer to shut down than the 90 seconds that somebody gives it."""
    control = await machine.control()
    client = await machine.connect()
    await control("clock-advance", time="1m")
    assert (await client.execute("system_powerdown"))["return"] == {}
    await control("clock-advance", time="90s")
    assert (await client.execute("query-status"))["return"] == {
        "status": "running", "running": True, "singlestep": False
    }
    await client.send(b'{"execute": "quit"}')
    assert await client.at_end()


async def long_boot(machine: Played) -> None:
    """A guest that takes ten minutes to boot."""
    control = await machine.control()
    client = await machine.connect()
    await control("clock-advance", time="9m")
    assert (await control("query-guest"))["phase"] == "booting"
    assert (await client.execute("system_powerdown"))["return"] == {}
    assert (await control("clock-run-until-quiet"))["quiet"]
    assert (await control("query-guest"))["phase"] == "running"
    assert 600 < (await control("query-clock"))["time"] < 601


async def rate_limit(machine: Played) -> None:
    """A watchdog that expires five times in a second, of which a monitor tells at most once."""
    control = await machine.control()
    client = await machine.connect()
    await control("clock-advance", time="11m")
    await client.execute("watchdog-set-action", action="none")
    for _ in range(5):
        await control("guest-expire-watchdog")
        await control("clock-advance", time="100ms")
    start = (await client.message())["timestamp"]
    await control("clock-advance", time="499ms")
    await client.send(b'{"execute": "query-name"}')
    assert await client.message() == {"return": {}}
    await control("clock-run-until-quiet")
    # It comes a second after the first, with the time of its own.
    last = (await client.message())["timestamp"]
    assert isinstance(start, dict)
    assert isinstance(last, dict)
    assert (last["seconds"] - start["seconds"]) * 1_000_000 + last["microseconds"] - start["microseconds"] == 400_000


GUEST = GuestSettings(boot_time=10 * MINUTE, powerdown_delay=2 * MINUTE)


async def transcript(folder: Path, scenario: Scenario, guest: GuestSettings) -> tuple[list[Any], float]:
    """What a scenario leaves behind, and how long it took."""
    folder.mkdir()
    start = time.monotonic()
    async with played(folder, guest=guest, devices=DEVICES, shutdown=ShutdownAction.POWEROFF) as machine:
        recorder = machine.vm.play().recorder
        await scenario(machine)
        taken = time.monotonic() - start
        from qmpd.control.recorder import wire_entry

        return [wire_entry(entry) for entry in recorder.entries()], taken


@pytest.mark.parametrize(
    ("scenario", "guest"),
    [
        (shutdown_timeout, GuestSettings(powerdown_delay=2 * MINUTE)),
        (long_boot, GUEST),
        (rate_limit, GUEST),
    ],
)
async def test_long_times_take_milliseconds_and_repeat(
    tmp_path: Path, scenario: Scenario, guest: GuestSettings
) -> None:
    first, _ = await transcript(tmp_path / "1", scenario, guest)
    second, taken = await transcript(tmp_path / "2", scenario, guest)
    assert first == second
    assert first[-1]["time"] > MINUTE
    assert taken < 2


async def test_timers_run_in_their_order_at_their_moment(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(on_boot=GuestAction.REBOOT, boot_time=MINUTE)) as machine:
        control = await machine.control()
        client = await machine.connect()
        assert (await control("clock-run-until-quiet", limit="5m"))["quiet"] is False
        times = []
        for _ in range(8):
            stamp = (await client.message())["timestamp"]
            assert isinstance(stamp, dict)
            times.append(round((stamp["seconds"] - 1_700_000_000) * 1000 + stamp["microseconds"] / 1000))
        # The firmware's 60 ms and a minute of booting, then its own reset 35 ms after each.
        assert times == [60_060, 60_095, 120_155, 120_190, 180_250, 180_285, 240_345, 240_380]
        assert (await control("query-clock"))["time"] < 300


async def test_until_quiet_is_bounded(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(on_boot=GuestAction.REBOOT)) as machine:
        control = await machine.control()
        bounded = await control("clock-run-until-quiet", timers=100)
        assert (bounded["quiet"], bounded["timers"]) == (False, 100)
        with pytest.raises(Refused, match="is not a time"):
            await control("clock-run-until-quiet", limit="long")


async def test_a_stopped_machine_is_quiet_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GUEST) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("clock-advance", time="1m")
        await client.execute("stop")
        before = await control("query-guest")
        assert await control("clock-run-until-quiet") == {"quiet": True, "advanced": 0, "timers": 0}
        await control("clock-advance", time="24h")
        await client.execute("cont")
        assert (await control("query-guest"))["steps"] == before["steps"]


async def test_an_ended_machine_lets_no_more_time_pass(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(on_boot=GuestAction.SHUTDOWN)) as machine:
        control = await machine.control()
        await control("clock-advance", time="24h")
        assert machine.vm.clock.monotonic_nanoseconds() < MINUTE
        assert await machine.end() == 0


async def test_clocks_change_without_a_jump(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GUEST) as machine:
        control = await machine.control()
        await control("clock-advance", time="1m")
        assert await control("query-clock") == {
            "kind": "virtual", "factor": 1, "time": 60, "next-timer": pytest.approx(540.06)
        }
        await control("clock-set", kind="scaled", factor=3600)
        with trio.fail_after(5):
            while (await control("query-guest"))["phase"] == "booting":  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
        await control("clock-set", kind="virtual")
        stopped = await control("query-clock")
        assert 600 < stopped["time"] < 10_000
        await trio.sleep(0.01)
        assert await control("query-clock") == stopped
        await control("clock-set", kind="real")
        await control("clock-advance", time="1h")
        now = await control("query-clock")
        assert (now["kind"], now["factor"]) == ("real", 1)
        assert 3600 <= now["time"] - stopped["time"] < 3605
        attempts: list[tuple[dict[str, Any], str]] = [
            ({"kind": "scaled"}, "'factor' belongs to a scaled clock"),
            ({"kind": "real", "factor": 2}, "'factor' belongs to a scaled clock"),
            ({"kind": "scaled", "factor": 0}, "a clock's factor is a positive number, from 0.000001 to 1000000"),
        ]
        for arguments, message in attempts:
            with pytest.raises(Refused, match=message):
                await control("clock-set", **arguments)
        with pytest.raises(Refused, match="is not a time"):
            await control("clock-advance", time=-1)


async def test_real_and_scaled_clocks_run_by_themselves(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=MINUTE), clock="scaled=1000") as machine:
        control = await machine.control()
        with trio.fail_after(5):
            while (await control("query-guest"))["phase"] != "running":  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
        assert (await control("query-clock"))["time"] > 60
