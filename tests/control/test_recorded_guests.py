"""Recorded guests, played with nothing but the command line's `-guest` and the control socket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.cli import serve
from tests.control.support import Control, Played, served
from tests.golden import RELEASES, load
from tests.machine.player import ON_BOOT, quiet_of
from tests.player import comparable

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.server.settings import VMSettings

STEP_LIMIT = 3_000_000_000

GONE = (AssertionError, trio.BrokenResourceError)
"""How a client's methods fail when the machine has closed the connection."""

SCENARIOS = [
    "guest reboots -no-reboot ['-no-shutdown']",
    "guest powers off []",
    "guest hibernates ['-no-shutdown']",
    "guest panics []",
    "panic=pause,shutdown=pause",
    "panic=exit-failure",
    "guest suspends, then reset",
    "guest suspends, then quit",
    "guest crash loaded",
    "guest isa-debug-exit",
    "watchdog shutdown",
    "watchdog poweroff",
    "watchdog pause",
]


def settings_of(folder: Path, release: str, scenario: dict[str, Any]) -> VMSettings:
    parsed = serve.parse([
        *("--release", release, "-clock", "virtual", *scenario["options"]),
        *("-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off", "-control", f"unix:{folder}/control.sock"),
        *("-guest", f"on-boot={ON_BOOT[scenario['guest']]}"),
    ])
    assert parsed is not None
    return parsed[0]


async def step(control: Control, client: socket.socket, machine: Played, text: str, quiet: int) -> list[str]:
    """What comes back until nothing has come for `quiet` nanoseconds."""
    if not machine.ended.is_set():
        client.send(text.encode("latin-1"))
    data = b""
    elapsed = last = 0
    while not machine.ended.is_set():
        before = len(data)
        try:
            state = await control("query-clock")
        except GONE:
            await machine.end()  # the control socket has closed, so the machine is ending
            break
        # All that the machine has said by now has been sent before the control socket answered.
        data += received(client)
        if len(data) > before:
            last = elapsed
        left = min(last + quiet, STEP_LIMIT) - elapsed
        if left <= 0:
            break
        pause = min(left, round(state.get("next-timer", 1e9) * 1e9))
        elapsed += pause
        try:
            await control("clock-advance", time=f"{pause}ns")
        except GONE:
            await machine.end()
    data += received(client)
    return [comparable(line.decode("latin-1")) for line in data.split(b"\r\n")[:-1]]


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 20)
    except (BlockingIOError, ConnectionResetError):
        return b""


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (release, scenario["scenario"])
        for release in RELEASES
        for scenario in load(release, "guest")
        if scenario["scenario"] in SCENARIOS
    ],
)
async def test_recorded_guest(tmp_path: Path, release: str, name: str) -> None:
    scenario = next(each for each in load(release, "guest") if each["scenario"] == name)
    settings = settings_of(tmp_path, release, scenario)
    async with served(settings, tmp_path) as machine:
        control = await machine.control()
        client = socket.socket(socket.AF_UNIX)
        machine.clients.append(client)
        client.connect(machine.path)
        client.setblocking(False)
        await control("query-clock")
        assert b"QMP" in received(client)
        for number, recorded in enumerate(scenario["steps"]):
            quiet = quiet_of("guest", number, recorded["send"])
            lines = await step(control, client, machine, recorded["send"], quiet)
            assert lines == [comparable(line) for line in recorded["recv"] if '"QMP"' not in line]
        assert machine.status == scenario.get("exit")
