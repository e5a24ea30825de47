"""What qmpd itself fails at costs the command that met it: each dispatcher answers, reports it and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.control.time import ClockControl
from qmpd.human import terminal
from qmpd.machine import MachineSettings
from qmpd.qtest.bus import TestBus
from qmpd.server.fleet import Fleet
from qmpd.server.settings import MonitorSettings, VMSettings
from tests.control.support import Played, served
from tests.server.support import release_with
from tests.server.test_fleet import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

DEFECTS = [ZeroDivisionError, AssertionError, OverflowError, SystemExit]


def failing(error: type[BaseException]) -> Any:
    def fail(*_: object, **__: object) -> object:
        raise error("a bug")

    return fail


def told(capsys: pytest.CaptureFixture[str], error: type[BaseException]) -> bool:
    """Whether standard error says where it happened."""
    said = capsys.readouterr().err
    return f"{error.__name__}: a bug" in said and "in fail" in said


async def refused(client: Client, command: str, **arguments: object) -> str:
    reply = await client.execute(command, **arguments)
    assert reply["error"]["class"] == "GenericError"  # type: ignore[index]
    return str(reply["error"]["desc"])  # type: ignore[index]


def expected(error: type[BaseException]) -> str:
    return f"qmpd failed at this command, which is a defect of qmpd: {error.__name__}: a bug"


@pytest.mark.parametrize("error", DEFECTS)
async def test_qmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    release = release_with(tmp_path, "7.2", monkeypatch, "query-uuid", failing(error))
    settings = VMSettings(release=release, monitors=[MonitorSettings(path=str(tmp_path / "qmp.sock"))])
    async with served(settings, tmp_path) as machine:
        client = await machine.connect()
        assert await refused(client, "query-uuid") == expected(error)
        await machine.healthy()
    assert told(capsys, error)


@pytest.mark.parametrize("error", DEFECTS)
async def test_the_control_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    monkeypatch.setattr(ClockControl, "_clock", property(failing(error)))
    async with served(settings_of(tmp_path), tmp_path) as machine:
        control = (await machine.control()).client
        assert await refused(control, "query-clock") == expected(error)
        assert "return" in await control.execute("query-guest")
        await machine.healthy()
    assert told(capsys, error)


def settings_of(folder: Path, **monitor: Any) -> VMSettings:
    return VMSettings(
        release="7.2",
        machine=MachineSettings(),
        monitors=[
            MonitorSettings(path=str(folder / "qmp.sock")),
            *([MonitorSettings(path=str(folder / "other.sock"), chardev="other", **monitor)] if monitor else []),
        ],
        control=MonitorSettings(path=str(folder / "control.sock"), chardev="control"),
    )


@pytest.mark.parametrize("error", DEFECTS)
async def test_the_fleets_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    monkeypatch.setattr(Fleet, "create", failing(error))
    async with running(tmp_path / "fleet", 0) as fleet:
        control = await fleet.control()
        assert await refused(control, "create") == expected(error)
        assert (await control.execute("query-machines"))["return"] == []
    assert told(capsys, error)


@pytest.mark.parametrize("error", DEFECTS)
async def test_the_human_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    async with served(settings_of(tmp_path, mode="readline", location="-monitor"), tmp_path) as machine:
        person = await connected(machine, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(terminal, "execute_line", failing(error))
            await person.send(b"info status\r")
            assert await until(person, f"Error: {expected(error)}\r\n(qemu) ".encode())
        assert told(capsys, error)
        with monkeypatch.context() as patch:
            patch.setattr(terminal, "completions", failing(error))
            await person.send(b"info st\tatus\r")
            assert await until(person, b"VM status: running\r\n(qemu) ")
        await machine.healthy()
    assert told(capsys, error)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
async def test_qtest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    settings = settings_of(tmp_path, mode="qtest", location="-qtest")
    settings.clock = "stepped"
    settings.control = None
    async with served(settings, tmp_path) as machine:
        program = await connected(machine, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(TestBus, "read", failing(error))
            await program.send(b"readb 0x1000\n")
            assert await until(program, f"FAIL {expected(error)}\n".encode())
        await program.send(b"readb 0x1000\n")
        assert await until(program, b"OK 0x0000000000000000\n")
        await machine.healthy()
    assert told(capsys, error)


async def connected(machine: Played, folder: Path) -> Client:
    machine.path, path = str(folder / "other.sock"), machine.path
    client = await machine.connect(greeting=False)
    machine.path = path
    return client


async def until(client: Client, wanted: bytes) -> bool:
    """Read until `wanted` has come."""
    read = b""
    with trio.fail_after(5):
        while wanted not in read:
            data = await client.stream.receive_some(1 << 16)
            assert data, read
            read += data
    return True
