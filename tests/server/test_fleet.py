"""Fleets: many machines in one process, made and ended while it runs."""

from __future__ import annotations

import gc
import os
import resource
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.cli import serve
from qmpd.control.errors import ControlError
from qmpd.option_language.errors import OptionError
from qmpd.server import fleet as fleet_module
from qmpd.server.fleet import Fleet, FleetError
from tests.server.support import Client, release_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings
    from qmpd.system.system import System

OPTIONS = ["-machine", "none"]


def parse(release: str | None, options: list[str]) -> tuple[VMSettings, Inventory | None]:
    try:
        parsed = serve.parse([*OPTIONS, *(["--release", release] if release else []), *options])
    except OptionError as error:
        raise ControlError(str(error)) from None
    assert parsed is not None
    return parsed.settings, parsed.inventory


class Running:
    """A fleet that runs, and the clients that were connected to it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.clients: list[Client] = []

    async def connect(self, path: str, negotiate: bool = True) -> Client:
        with trio.fail_after(10):
            client = Client(await trio.open_unix_socket(path), patience=10)
        self.clients.append(client)
        assert b"QMP" in (await client.line() or b"")
        if negotiate:
            assert await client.ask(b'{"execute":"qmp_capabilities"}') == b'{"return": {}}'
        return client

    async def machine(self, number: int) -> Client:
        return await self.connect(f"{self.fleet.directory}/vm-{number:05}/qmp.sock")

    async def control(self) -> Client:
        return await self.connect(self.fleet.path)


@asynccontextmanager
async def running(folder: Path | str, count: int, with_control: bool = True) -> AsyncIterator[Running]:
    fleet = Fleet(str(folder), parse(None, [])[0], parse, with_control)
    fleet.raise_file_limit(count)
    fleet.listen()
    ready = trio.Event()
    result = Running(fleet)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.run, count, ready.set, lambda number: None)
        with trio.fail_after(30):
            await ready.wait()
        yield result
        for client in result.clients:
            client.stream.socket.close()
        fleet.end()


async def test_machines_are_apart_from_each_other(tmp_path: Path) -> None:
    async with running(tmp_path / "fleet", 5) as fleet:
        first, second = await fleet.machine(0), await fleet.machine(4)
        assert (await first.execute("stop"))["return"] == {}
        assert (await first.execute("query-status"))["return"]["status"] == "paused"  # type: ignore[index]
        assert (await second.execute("query-status"))["return"]["status"] == "running"  # type: ignore[index]
        control = await fleet.control()
        machines = (await control.execute("query-machines"))["return"]
        assert [each["status"] for each in machines] == ["paused", *["running"] * 4]  # type: ignore[attr-defined]
        assert [each["clients"] for each in machines] == [1, 0, 0, 0, 1]  # type: ignore[attr-defined]
        assert machines[3]["qmp-path"] == str(tmp_path / "fleet" / "vm-00003" / "qmp.sock")  # type: ignore[index]


async def test_machines_come_and_go(tmp_path: Path) -> None:
    async with running(tmp_path / "fleet", 1) as fleet:
        control = await fleet.control()
        made = await control.execute("create", name="mine", release="5.2", options=["-S", "-name", "guest"])
        made = made["return"]  # type: ignore[assignment]
        assert (made["name"], made["release"], made["status"]) == ("mine", "5.2", "prelaunch")
        client = await fleet.connect(str(made["qmp-path"]))
        assert (await client.execute("query-name"))["return"] == {"name": "guest"}
        refused = await control.execute("create", name="mine")
        assert refused["error"] == {"class": "GenericError", "desc": "There is a machine 'mine'"}
        refused = await control.execute("create", name="../mine")
        assert refused["error"] == {"class": "GenericError", "desc": "'../mine' is no name for a machine"}
        refused = await control.execute("create", options=["-foo"])
        assert "invalid option" in refused["error"]["desc"]  # type: ignore[index]
        assert (await control.execute("destroy", name="mine"))["return"] == {}
        assert await client.at_end()
        assert not (tmp_path / "fleet" / "mine").exists()
        refused = await control.execute("destroy", name="mine")
        assert refused["error"] == {"class": "GenericError", "desc": "Machine 'mine' not found"}
        # A machine that ends by itself leaves the fleet, too.
        client = await fleet.machine(0)
        await client.execute("quit")
        assert await client.at_end()
        for _ in range(100):
            statistics = (await control.execute("query-statistics"))["return"]
            if not statistics["machines"]:  # type: ignore[index]
                break
            await trio.sleep(0.01)
        assert statistics == {
            "machines": 0,
            "created": 2,
            "destroyed": 2,
            "failed": 0,
            "clients": 0,
            "connections": 2,
            "commands": 4,
            "events": 2,
        }
        metrics = (await control.execute("query-metrics"))["return"]["text"]  # type: ignore[index]
        assert "qmpd_commands_total 4.0\n" in metrics


async def test_a_machine_may_be_replaced_at_once_by_one_of_its_name(tmp_path: Path) -> None:
    async with running(tmp_path / "fleet", 0) as fleet:
        for _ in range(3):
            fleet.fleet.create_machine("mine", None, None)
            client = await fleet.connect(f"{tmp_path}/fleet/mine/qmp.sock")
            fleet.fleet.destroy_machine("mine")
            fleet.fleet.create_machine("mine", None, None)
            assert await client.at_end()
            fleet.fleet.destroy_machine("mine")
        assert fleet.fleet.statistics().machines == 0
        assert os.listdir(tmp_path / "fleet") == ["fleet.sock"]


async def test_a_machine_whose_sockets_are_watched_may_be_replaced_at_once(tmp_path: Path) -> None:
    """The descriptors of the old one's sockets are the new one's, before the old one's tasks know that it is over."""
    async with running(tmp_path / "fleet", 0) as fleet:
        for _ in range(20):
            fleet.fleet.create_machine("mine", None, None)
            puppeteer = await fleet.connect(f"{tmp_path}/fleet/mine/control.sock")
            await puppeteer.execute("fault-refuse-connections")
            await puppeteer.execute("fault-clear")
            await puppeteer.send(b'{"execute":"fault-refuse-connections"}{"execute":"fault-clear"}' * 2)
            fleet.fleet.destroy_machine("mine")
            fleet.fleet.create_machine("mine", None, None)
            fleet.fleet.create_machine("other", None, None)
            assert await puppeteer.at_end()
            fleet.fleet.destroy_machine("mine")
            fleet.fleet.destroy_machine("other")
        assert fleet.fleet.statistics().failed == 0


async def test_each_machine_has_its_control_socket(tmp_path: Path) -> None:
    async with running(tmp_path / "fleet", 2) as fleet:
        client = await fleet.machine(1)
        puppeteer = await fleet.connect(f"{fleet.fleet.directory}/vm-00001/control.sock")
        set_clock = await puppeteer.execute("clock-set", kind="virtual")
        assert "return" in set_clock, set_clock
        assert (await client.execute("query-name"))["return"] == {}
        # Clients that come later are still served, by the machine's own tasks now.
        assert (await (await fleet.machine(1)).execute("query-name"))["return"] == {}


async def test_a_failing_machine_takes_down_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    def fail_later(system: System, *_: object) -> object:
        system.machine.later(fail)
        return {}

    release = release_with(tmp_path, "10.0", monkeypatch, "query-uuid", fail_later)
    async with running(tmp_path / "fleet", 2) as fleet:
        control = await fleet.control()
        await control.execute("create", name="other", release=release)
        bad, good = await fleet.connect(f"{fleet.fleet.directory}/other/qmp.sock"), await fleet.machine(1)
        await bad.send(b'{"execute":"query-uuid"}')
        assert await bad.line() == b'{"return": {}}'
        assert await bad.at_end()
        assert (await good.execute("query-name"))["return"] == {}
        statistics = (await control.execute("query-statistics"))["return"]
        assert (statistics["machines"], statistics["failed"]) == (2, 1)  # type: ignore[index]
    assert "other failed:" in (errors := capsys.readouterr().err)
    assert "ZeroDivisionError: a bug" in errors


async def test_a_failing_command_costs_nobody_else_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> object:
        raise ZeroDivisionError("a bug")

    release = release_with(tmp_path, "7.2", monkeypatch, "query-uuid", fail)
    async with running(tmp_path / "fleet", 1) as fleet:
        control = await fleet.control()
        await control.execute("create", name="other", release=release)
        client = await fleet.connect(f"{fleet.fleet.directory}/other/qmp.sock")
        assert "which is a defect of qmpd" in (await client.execute("query-uuid"))["error"]["desc"]  # type: ignore[index]
        assert (await client.execute("query-name"))["return"] == {}
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


async def test_the_end_of_the_fleet_is_a_shutdown_of_each_machine(tmp_path: Path) -> None:
    async with running(tmp_path / "fleet", 3) as fleet:
        client = await fleet.machine(2)
        control = await fleet.control()
        await control.send(b'{"execute":"quit","id":1}')
        assert await control.line() == b'{"return": {}, "id": 1}'
        message = await client.message()
        assert (message["event"], message["data"]) == ("SHUTDOWN", {"guest": False, "reason": "host-signal"})
        assert await client.line() is None
    assert os.listdir(tmp_path / "fleet") == []


async def test_what_does_not_fit_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "raise_file_limit", lambda: 1000)
    fleet = Fleet(str(tmp_path), parse(None, [])[0], parse, with_control=True)
    with pytest.raises(
        FleetError, match=r"500 machines take 1064 open files, and the limit is 1000: .*ulimit -Hn 1064"
    ):
        fleet.raise_file_limit(500)
    fleet.close()


async def test_destroyed_machines_leave_nothing_behind() -> None:
    """20,000 machines come and go, some with a client; memory and open files are what they were before."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        async with running(f"{folder}/fleet", 0, with_control=False) as fleet:

            async def come_and_go(batches: int) -> None:
                for _ in range(batches):
                    members = [fleet.fleet.create(None, fleet.fleet.template) for _ in range(250)]
                    client = await fleet.connect(f"{members[7].folder}/qmp.sock")
                    await client.execute("stop")
                    for member in members:
                        fleet.fleet.destroy_machine(member.name)
                    assert await client.at_end()
                    await client.stream.aclose()
                    fleet.clients.clear()

            files, objects, sizes = [], [], []
            for _ in range(8):
                await come_and_go(10)
                gc.collect()
                files.append(len(os.listdir("/proc/self/fd")))
                objects.append(len(gc.get_objects()))
                sizes.append(memory_in_use())
            assert fleet.fleet.statistics().created == 20_000
            assert files[-1] <= files[0]
            assert objects[-1] < objects[0] + 1000
            # The allocator takes some rounds to find its size; what leaked would show in the second half, too.
            assert sizes[-1] < sizes[3] + (1 << 20), sizes
            assert os.listdir(f"{folder}/fleet") == ["fleet.sock"]


def memory_in_use() -> int:
    """Bytes that are resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
