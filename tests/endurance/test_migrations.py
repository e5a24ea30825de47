"""Machines that move for long: a short run that finds nothing wrong, and mistakes that are found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from endurance import migrations

if TYPE_CHECKING:
    from endurance.migrations import Host


def test_a_few_migrations_and_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    status = migrations.main(["--migrations", "2", "--chain", "0", "--cuts", "2", "--clients", "2", "--seed", "3"])
    told = capsys.readouterr().out
    assert status == 0, told
    assert "2 migrations" in told
    assert "2 cuts" in told


def ran(number: int, *runs: tuple[int, bool]) -> Host:
    return cast("Host", SimpleNamespace(number=number, client=SimpleNamespace(runs=list(runs))))


def test_a_machine_that_runs_twice_is_found() -> None:
    watch = migrations.Watch()
    watch.take(ran(1, (10, True), (20, False)))
    watch.take(ran(2, (20, True), (40, False)))
    watch.check()
    watch.take(ran(3, (39, True), (50, False)))
    with pytest.raises(migrations.Wrong, match="on hosts 2 and 3 at once, for 1 us"):
        watch.check()


def test_a_reply_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = migrations.Client.line
    lost: list[Any] = []

    def lossy(client: migrations.Client) -> bytes:
        found = line(client)
        if b'"id": 50}' in found and not lost:
            lost.append(found)
            return line(client)
        return found

    monkeypatch.setattr(migrations.Client, "line", lossy)
    assert migrations.main(["--migrations", "1", "--chain", "0", "--cuts", "0", "--clients", "1"]) == 1
    assert "came instead of" in capsys.readouterr().out
