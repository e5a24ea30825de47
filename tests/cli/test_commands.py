"""`qmpd commands`: every command of every release is one of three kinds."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from qmpd.cli import commands
from qmpd.cli.main import main
from qmpd.monitor.commands import modelled
from qmpd.qapi import load_release
from tests.golden import RELEASES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "releases.md"


@pytest.mark.parametrize("name", RELEASES)
def test_every_command_is_of_one_kind(name: str) -> None:
    release = load_release(name)
    kinds = commands.classified(release)
    assert list(kinds) == list(release.commands)
    assert set(kinds.values()) == set(commands.KINDS)
    assert {command for command, kind in kinds.items() if kind == "modelled"} == modelled(release) & set(kinds)
    # Nothing that only asks is refused.
    assert [command for command, kind in kinds.items() if kind == "refused" and command.startswith("query-")] == []


def test_the_list_has_each_command_and_its_kind() -> None:
    out = io.StringIO()
    commands.run("7.2", out)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(load_release("7.2").commands)
    assert "modelled  query-status" in lines
    assert "captured  query-chardev-backends" in lines
    assert "modelled  drive-backup  (deprecated)" in lines
    assert lines == sorted(lines, key=lambda line: line.split()[1])


def test_the_table_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commands", "--table"]) == 0
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines()]
    counted = {row[0].strip(): [int(cell) for cell in row[1:]] for row in rows[2:]}
    assert set(RELEASES) <= set(counted)
    for name, (total, *kinds) in counted.items():
        assert total == sum(kinds) == len(load_release(name).commands)


def test_an_unknown_release_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commands", "--release", "6.66"]) == 1
    assert re.search(r"unknown release '6\.66': known are .*7\.2, 10\.0, 11\.1", capsys.readouterr().err)


def test_help_and_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commands", "--help"]) == 0
    assert "usage: qmpd commands" in capsys.readouterr().out
    assert main(["commands", "--nope"]) == 1
    assert "--nope: no such option" in capsys.readouterr().err


def test_the_documentation_has_the_table() -> None:
    assert commands.table() in PAGE.read_text(), f"put the output of `qmpd commands --table` into {PAGE.name}"
