"""A machine is built once: what was there when the options were read is in it, though it be gone by the first query."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.server.fleet import Fleet
from qmpd.system import build
from qmpd.testing import StartError, start
from tests.server import test_fleet
from tests.testing.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client as Connection

LINE = ["-machine", "pc", "-object", "secret,id=s,file={}", "-device", "e1000,id=card"]


def test_a_test_hands_over_what_it_built(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    with start(command_line=[word.format(tmp_path / "secret") for word in LINE]) as vm:
        (tmp_path / "secret").unlink()
        with Client(vm.qmp_path) as client:
            for path, name in (("/objects", "s"), ("/machine/peripheral", "card")):
                assert name in {each["name"] for each in client.execute("qom-list", path=path)}


def test_a_command_line_that_is_refused_leaves_no_file_open(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    disk = ["-machine", "pc", "-blockdev", f"file,node-name=f,filename={image}", "-device", "virtio-blk-pci,drive=f"]
    for _ in range(2):
        with pytest.raises(StartError, match="nosuch"):
            start(command_line=[*disk, "-device", "nosuch"])
    assert str(image) not in {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    with start(command_line=disk) as vm, Client(vm.qmp_path) as client:
        assert [each["node-name"] for each in client.execute("query-named-block-nodes")] == ["f"]


class Counting:
    """Counts how often a machine's parts are put together, and passes on what does it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        furnish = build.furnish

        def counted(*arguments: Any) -> None:
            self.times += 1
            furnish(*arguments)

        monkeypatch.setattr(build, "furnish", counted)


async def has_card(client: Connection) -> bool:
    request = {"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}
    reply = json.loads(await client.ask(json.dumps(request).encode()) or b"")
    return "card" in {each["name"] for each in reply["return"]}


OPTIONS = ["-machine", "pc", "-device", "e1000,id=card"]


def test_what_a_test_asks_for_in_options_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    with start(machine="pc", options=OPTIONS[2:]) as vm, Client(vm.qmp_path) as client:
        assert "card" in {each["name"] for each in client.execute("qom-list", path="/machine/peripheral")}
    assert counting.times == 1


async def test_a_machine_of_a_fleet_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with options of its own while they are read; of the fleet's own the first, and others when they are asked."""
    counting = Counting(monkeypatch)
    template, built = test_fleet.parse(None, OPTIONS)
    fleet = Fleet(str(tmp_path / "fleet"), template, test_fleet.parse, inventory=built)
    fleet.listen()
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.run, 3, ready.set, lambda number: None)
        await ready.wait()
        running = test_fleet.Running(fleet)
        assert counting.times == 1
        assert await has_card(await running.machine(0))
        assert counting.times == 1
        assert await has_card(await running.machine(1))
        assert counting.times == 2
        control = await running.control()
        made: Any = (await control.execute("create", name="mine", options=OPTIONS))["return"]
        assert await has_card(await running.connect(made["qmp-path"]))
        assert counting.times == 3
        for client in running.clients:
            client.stream.socket.close()
        fleet.end()
