"""`qmpd control`: the control socket from a shell."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.cli import control as command_line
from qmpd.cli.control import typed
from tests.control.support import played

if TYPE_CHECKING:
    from pathlib import Path


async def run(*arguments: str) -> int:
    return await trio.to_thread.run_sync(command_line.main, list(arguments))


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("1.5", 1.5), ("true", True), ("null", None), ('"5"', "5"), ('{"a": 1}', {"a": 1}), ("2s", "2s")],
)
def test_values_are_json_where_they_read_as_such(text: str, value: object) -> None:
    assert typed(text) == value


async def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with played(tmp_path) as machine:
        assert await run(machine.control_path) == 0
        listed = capsys.readouterr().out.splitlines()
        assert any(line.startswith("guest-reboot ") for line in listed)

        assert await run(machine.control_path, "clock-advance", "time=90") == 0
        assert json.loads(capsys.readouterr().out) == {}
        assert await run(machine.control_path, "query-clock") == 0
        assert json.loads(capsys.readouterr().out)["time"] == 90
        assert await run(machine.control_path, "override-reply", "command=query-name", 'return={"name": "x"}') == 0
        assert json.loads(capsys.readouterr().out)["return"] == {"name": "x"}

        for arguments, complaint in [
            (("guest-wake",), "Unable to wake up: guest is not in suspended state"),
            (("no-such",), "The command no-such has not been found"),
            (("clock-advance", "90"), "'90' is not KEY=VALUE"),
            (("guest-rebot",), "The command guest-rebot has not been found; did you mean 'guest-reboot'?"),
            (("guest-set", "on-powerdwn=none"), "guest-set takes no 'on-powerdwn'; did you mean 'on-powerdown'?"),
            (
                ("guest-set", "on-unplug=ignroe"),
                "Parameter 'on-unplug' does not accept value 'ignroe'; did you mean 'ignore'?",
            ),
            (("--fast",), "--fast: no such option; there are '--follow' and '--help'"),
        ]:
            assert await run(machine.control_path, *arguments) == 1
            assert capsys.readouterr().err == f"qmpd control: {complaint}\n"


async def test_help_behind_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with played(tmp_path, machine_type="pc") as machine:
        assert await run(machine.control_path, "--help") == 0
        assert "guest-reboot " in capsys.readouterr().out
        assert await run(f"unix:{machine.control_path}", "guest-wake", "--help") == 0
        assert capsys.readouterr().out.splitlines() == [
            "Wake a suspended guest, as a device does; the reason is told to the guest alone.",
            "",
            "arguments:",
            "  reason  rtc|pmtimer|other (optional)",
        ]
        assert await run(machine.control_path, "fault-clear", "--help") == 0
        assert "  id  " in capsys.readouterr().out


async def test_what_is_no_control_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with played(tmp_path) as machine:
        assert await run(machine.path, "query-clock") == 1
        assert capsys.readouterr().err == f"qmpd control: {machine.path} is a QMP socket, not a control socket\n"
    assert await run(str(tmp_path / "none"), "query-clock") == 1
    assert capsys.readouterr().err == f"qmpd control: {tmp_path}/none: No such file or directory\n"


async def test_following(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        client = await machine.connect()
        followed: list[int] = []
        thread = threading.Thread(
            target=lambda: followed.append(command_line.main([machine.control_path, "--follow"])), daemon=True
        )
        thread.start()
        printed = ""
        with trio.fail_after(5):
            while '"started"' not in printed:
                await trio.sleep(0.01)
                printed += capsys.readouterr().out
        await client.send(b'{"execute": "quit"}')
        await machine.end()
        await trio.to_thread.run_sync(thread.join, 5)
        assert followed == [0]
    entries = [json.loads(line) for line in (printed + capsys.readouterr().out).splitlines()]
    assert [entries[0]["kind"], entries[-1]["kind"]] == ["started", "ended"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--help"]) == 0
    assert "usage: qmpd control PATH [COMMAND" in capsys.readouterr().out
    assert command_line.main([]) == 1
    assert "usage: qmpd control PATH [COMMAND" in capsys.readouterr().err
