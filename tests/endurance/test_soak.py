"""The soak: short ones that find nothing wrong, the same one twice, and planted mistakes that it finds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from endurance import agents, soak
from endurance.faults import FAULTS
from endurance.plot import sparkline
from endurance.pressure import Player

from qmpd.machine import Machine
from qmpd.monitor.session import Session
from qmpd.system.exports import ExportsHome

if TYPE_CHECKING:
    from pathlib import Path


def test_a_few_seconds_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--minutes", str(4 / 60), "--vms", "5", "--processes", "0", "--seed", "1", "--agents", "3"]
    status = soak.main([*line, "-o", str(tmp_path)])
    told, noise = capsys.readouterr()
    assert status == 0, told
    assert "0 times something was lost or wrong" in told
    asked = re.search(r"3 agents, each asked every 1 s: (\d+) replies, .*; 0 lost or wrong", told)
    assert asked is not None
    assert int(asked[1]) >= 9
    assert not noise
    picture = ElementTree.parse(tmp_path / "soak-1.svg").getroot()
    assert picture.find("{http://www.w3.org/2000/svg}polyline") is not None


def test_the_same_seed_does_the_same_again() -> None:
    first, second, other = (soak.Soak(seed, 3, 3, steps=130).run() for seed in (1, 1, 2))
    assert not first.wrong + second.wrong + other.wrong
    assert sum(first.done[each] for each in FAULTS) >= 3
    assert first.events > 100
    assert first.digest == second.digest
    assert first.commands == second.commands == first.replies + first.lost_by_design
    assert first.digest != other.digest


def wrong(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("endurance.client.PATIENCE", 2.0)
    ledger = soak.Soak(1, 2, 3, steps=120).run()
    assert ledger.wrong
    return ledger.wrong[0]


def test_an_event_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = Machine.emit

    def forgetful(machine: Machine, name: str, data: dict[str, object] | None = None) -> None:
        if name != "RESUME":
            emit(machine, name, data)

    monkeypatch.setattr(Machine, "emit", forgetful)
    assert "and should" in wrong(monkeypatch)


def test_a_reply_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    send, count = Session.send, 0

    def lossy(session: Session, data: bytes) -> None:
        nonlocal count
        count += b'"return"' in data and session.negotiated
        if count != 100:
            send(session, data)
        else:
            count += 1

    monkeypatch.setattr(Session, "send", lossy)
    # By one that waits for it, or one that leaves without it.
    what = wrong(monkeypatch)
    assert any(words in what for words in ("waits for", "instead of", "and should"))


def test_a_wrong_state_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "stop", lambda machine: None)
    assert '"status": "running"' in wrong(monkeypatch)


def test_an_export_that_ends_in_silence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Player, "choose", lambda actor: "disks")
    monkeypatch.setattr(ExportsHome, "export_deleted", lambda home, identifier: None)
    assert "BLOCK_EXPORT_DELETED" in wrong(monkeypatch)


def test_a_line_of_blocks() -> None:
    assert sparkline([0, 50, 100]) == "▁▅█"
    assert len(sparkline(list(range(1000)))) == 60


async def test_a_fleet_whose_agents_cannot_be_had_is_wrong() -> None:
    with agents.Fleet(1) as fleet:
        fleet.end()
        await fleet.ask(0.1)
    assert "no agent has answered" in fleet.polling.wrong
