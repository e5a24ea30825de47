"""Releases whose machines nobody has taken apart: no command fails, and those that would have to know say so."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from endurance.inputs import Maker

from qmpd.common.computer import NoComputer
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.machine import VirtualClock
from qmpd.machine.blueprint import Device, MachineSettings, RebootAction, ShutdownAction
from qmpd.monitor.commands import modelled
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.qapi import load_release
from qmpd.qapi.hardware import FILE
from qmpd.system.build import build
from qmpd.system.system import System

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).parents[2] / "schemas"
PARTS = MachineSettings(
    devices=(Device(driver="pvpanic"), Device(driver="e1000", properties={"id": "e", "netdev": "n"}),),
    netdevs=({"type": "user", "id": "n"},),
    objects=({"qom-type": "iothread", "id": "i"},),
    blockdevs=({"driver": "null-co", "node-name": "b"},),
    drives=({"if": "ide"},),
)


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that `qmpd capture` without `--hardware` could have written."""
    folder = tmp_path_factory.mktemp("release") / "captured"
    shutil.copytree(SCHEMAS / "qemu-10.0", folder, ignore=shutil.ignore_patterns(FILE))
    return str(folder)


# How often the main loop goes round for one command at most.
_PASSES = 20


def client(release: str, settings: MachineSettings) -> tuple[System, Callable[..., Any], list[str]]:
    defects: list[str] = []
    system = System(load_release(release), settings, VirtualClock(), lambda: None, [])
    # What QEMU would say on standard error is no defect.
    system.report_defect = defects.append
    dispatcher = Dispatcher(system)
    system.machine.start()
    session = dispatcher.open_session()

    def ask(name: str, arguments: dict[str, object]) -> Any:
        session.take_outgoing()
        session.receive(json.dumps({"execute": name, "arguments": arguments}).encode())
        dispatcher.run_requests()
        lines: list[Any] = []
        for _ in range(_PASSES):
            while system.machine.pending:
                system.turn()
            lines += [json.loads(line) for line in session.take_outgoing().splitlines()]
            if any("event" not in line for line in lines):
                break
            # The reply comes later.
            system.machine.run_timers()
        return next(line for line in lines if "event" not in line)

    ask("qmp_capabilities", {})
    return system, ask, defects


@pytest.mark.parametrize("settings", [MachineSettings(), PARTS], ids=["bare", "with parts"])
@pytest.mark.parametrize("release", ["captured", "2.x-live-update"])
def test_no_command_fails(captured: str, release: str, settings: MachineSettings) -> None:
    system, ask, defects = client(captured if release == "captured" else release, settings)
    maker = Maker(random.Random(7))
    told: list[Refusal] = []
    build(system.release, settings, NoComputer(), told.append)
    assert all(isinstance(refusal, NotModelled) for refusal in told)
    assert bool(told) == bool(settings.devices)
    for name in sorted(modelled(system.release) & system.release.commands.keys() - {"quit"}):
        for _ in range(20):
            arguments = maker.of_type(system.release, system.release.introspection.command(name).arguments)
            reply = ask(name, arguments)
            # A reset or a shutdown does not end the machine before all were asked.
            system.machine.set_action(reboot=RebootAction.RESET, shutdown=ShutdownAction.PAUSE)
            assert "return" in reply or "qmpd failed" not in reply["error"]["desc"], (name, arguments, reply)
    assert defects == []
    system.machine.system_reset()
    system.turn()
    assert ask("query-iothreads", {}) == {"return": []}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("device_add", {"driver": "e1000"}),
        ("device_del", {"id": "e"}),
        ("object-add", {"qom-type": "iothread", "id": "x"}),
        ("object-del", {"id": "i"}),
        ("qom-set", {"path": "/machine", "property": "graphics", "value": True}),
    ],
)
def test_what_cannot_be_known_is_said(captured: str, name: str, arguments: dict[str, object]) -> None:
    _, ask, _ = client(captured, PARTS)
    said = ask(name, arguments)["error"]["desc"]
    assert said.startswith("qmpd does not know what the machines of release captured are made of")
    # What other machines of this release answered is known.
    assert ask("query-memdev", {})["return"]
    assert ask("qom-get", {"path": "/machine", "property": "type"})["return"] == "pc-i440fx-10.0-machine"
