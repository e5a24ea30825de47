"""The parts of a release's folder that need no QEMU."""

from __future__ import annotations

import json

import pytest

from qmpd.capture.folder import command_lines, event_lines, nearest, release_file
from qmpd.qapi import load_release
from qmpd.qapi.differences import ABOUT
from tests.golden import RELEASES


@pytest.mark.parametrize(
    ("version", "name"),
    [((4, 0, 0), "5.2"), ((5, 2, 7), "5.2"), ((7, 1, 0), "5.2"), ((7, 2, 1), "7.2"), ((9, 0, 0), "7.2")],
)
def test_the_nearest_release_is_the_last_that_is_not_later(version: tuple[int, int, int], name: str) -> None:
    assert nearest(version).name == name


def test_a_later_release_is_nearest_to_the_last() -> None:
    assert nearest((99, 0, 0)).name == RELEASES[-1]


def test_what_is_not_measured_says_where_it_is_from() -> None:
    program = {"qemu": {"micro": 1, "minor": 2, "major": 8}, "package": "fork"}
    found = json.loads(release_file(program, {"float_format": "f"}))
    assert (found["version"], found["package"]) == ({"major": 8, "minor": 2, "micro": 1}, "fork")
    assert list(found["behaviour"]) == list(ABOUT)
    assert found["behaviour"]["float_format"] == {"value": "f", "about": ABOUT["float_format"]}
    other = found["behaviour"]["no_nmi"]
    assert (other["value"], other["note"]) == (load_release("7.2").behaviour.no_nmi, "not measured: as in release 7.2")


@pytest.mark.parametrize("name", RELEASES)
def test_the_shipped_lists_are_made_of_the_introspection(name: str) -> None:
    release = load_release(name)
    early = {command for command, entry in release.commands.items() if entry.allow_preconfig}
    answering = {command for command, entry in release.commands.items() if entry.captured}
    lines = command_lines(release.introspection, release.commands, early, answering)
    assert lines == release._lines("commands.jsonl")
    assert event_lines(release.introspection) == release._lines("events.jsonl")
