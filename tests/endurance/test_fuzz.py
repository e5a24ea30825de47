"""The fuzz: a bounded run that finds nothing, and planted mistakes that it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from endurance import decoders, fuzz, storm
from endurance.inputs import Maker
from endurance.shorten import shorten
from endurance.targets import FLEET_SIZE

from qmpd.machine import Machine
from qmpd.server.acceptor import Acceptor
from qmpd.wire import plain

if TYPE_CHECKING:
    from random import Random

SECONDS = 5.0


def test_a_few_seconds_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    status = fuzz.main(["--minutes", str(SECONDS / 60), "--seed", "1"])
    told, noise = capsys.readouterr()
    assert status == 0, told
    assert told.startswith("seed 1: ")
    assert told.endswith("nothing is wrong\n")
    assert not noise


def found(seed: int = 1, seconds: float = 60.0) -> fuzz.Finding:
    with pytest.raises(fuzz.Finding) as caught:
        fuzz.Fuzz(seed, seconds, targets=range(FLEET_SIZE)).run()
    return caught.value


def test_a_quick_way_that_reads_too_much_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plain, "_read_alike", lambda text, spelt: True)
    # With this seed it does not take long.
    path = fuzz.write(found(seed=6), tmp_path)
    case = json.loads(Path(path).read_text(encoding="utf-8"))
    assert len(case["decoder"]["data"]) < 20
    assert fuzz.main(["--replay", path]) == 1
    monkeypatch.undo()
    assert fuzz.main(["--replay", path]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")


def test_a_machine_that_fails_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(machine: Machine) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Machine, "system_powerdown", fail)
    monkeypatch.setattr(fuzz, "SHORTENING", 4.0)
    finding = found()
    assert "ZeroDivisionError: planted" in finding.what
    path = fuzz.write(finding, tmp_path)
    case = json.loads(Path(path).read_text(encoding="utf-8"))
    assert len(case["steps"]) <= 4
    assert case["seed"] == 1
    assert "planted" in (fuzz.replay(case) or "")
    monkeypatch.undo()
    assert fuzz.replay(case) is None


async def test_what_is_left_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = [("connect", 0, 0, 0, 0), ("send", 0, b"{}"), ("pass", 3), ("close", 0)]
    monkeypatch.setattr(storm, "PATIENCE", 0.3)
    kept: list[Any] = []
    async with storm.storm(storm.Tally(), [0]) as clients:
        await clients.take(steps)
        keep = open("/dev/null")  # noqa: SIM115, ASYNC230
        with pytest.raises(storm.Fault, match="1 open files"):
            await clients.take(steps)
        keep.close()
        await clients.take(steps)

        async def linger(acceptor: Acceptor, connection: Any) -> None:
            kept.append(connection)
            await trio.sleep_forever()

        monkeypatch.setattr(Acceptor, "serve", linger)
        with pytest.raises(storm.Fault, match="a healthy client"):
            await clients.take(steps)


def test_memory_that_grows_is_found() -> None:
    steady, growing = [100 << 20] * 40, [(100 + 2 * position) << 20 for position in range(40)]
    assert fuzz.flat(steady)
    assert not fuzz.flat(growing)
    # It takes a while to reach its level.
    assert fuzz.flat([(50 + min(position, 20)) << 20 for position in range(80)])


def test_shortening_keeps_what_it_takes() -> None:
    assert shorten(list(range(100)), lambda parts: {17, 60, 61} <= set(parts)) == [17, 60, 61]


@pytest.mark.parametrize("data", [b'{"a":0e1}', b'{"a":1,"a":2}', b'{"a":"\xef\xbf\xbf"}', b"{} {} [", b"\xff{}"])
def test_the_ways_agree(data: bytes, request: pytest.FixtureRequest) -> None:
    from random import Random

    chance: Random = Random(request.node.name)
    for dialect in decoders.DIALECTS:
        assert decoders.compare(data, Maker(chance).slices(data), dialect) is None
