"""Finding and opening releases, and what is read when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qmpd.qapi import BadRelease, Release, UnknownRelease, load_release, release_names
from qmpd.qapi.behaviour import Behaviour
from qmpd.qapi.differences import ABOUT
from tests.golden import RELEASES, load


def test_the_four_releases_are_known() -> None:
    names = release_names()
    assert [name for name in names if name in RELEASES] == list(RELEASES)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownRelease) as caught:
        load_release("6.66")
    assert "6.66" in str(caught.value)
    for name in release_names():
        assert f"{name}," in str(caught.value)


def test_a_release_is_opened_once() -> None:
    assert load_release("7.2") is load_release("7.2")


def test_opening_reads_the_release_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = load_release("10.0").directory
    read: list[str] = []
    really = Release._read

    def record(release: Release, name: str) -> bytes:
        read.append(name)
        return really(release, name)

    monkeypatch.setattr(Release, "_read", record)
    release = Release(folder)
    assert (release.version[:2], release.package[:6]) == ((10, 0), "Debian")
    assert read == ["release.json"]
    assert release.commands["query-status"].allow_preconfig
    release.commands["query-status"].check({})
    assert "answers.jsonl.gz" not in read


def test_a_folder_is_a_release(tmp_path: Path) -> None:
    folder = tmp_path / "qemu-fork"
    shutil.copytree(load_release("7.2").directory, folder)
    release = load_release(str(folder))
    assert (release.name, release.version) == ("fork", load_release("7.2").version)
    assert list(release.commands) == list(load_release("7.2").commands)


def test_a_damaged_folder_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text("{")
    with pytest.raises(BadRelease, match=r"release\.json"):
        load_release(str(tmp_path))
    members = json.loads((load_release("7.2").directory / "release.json").read_bytes())
    members["behaviour"]["no_such_field"] = {"value": True}
    (tmp_path / "release.json").write_text(json.dumps(members))
    with pytest.raises(BadRelease, match="no_such_field"):
        load_release(str(tmp_path))
    members["behaviour"] = {"reply_after_turn": {"value": "yes"}}
    (tmp_path / "release.json").write_text(json.dumps(members))
    with pytest.raises(BadRelease, match="reply_after_turn"):
        load_release(str(tmp_path))
    members["behaviour"] = {}
    (tmp_path / "release.json").write_text(json.dumps(members))
    with pytest.raises(BadRelease, match=r"commands\.jsonl"):
        _ = load_release(str(tmp_path)).commands


@pytest.mark.parametrize("name", RELEASES)
def test_every_behaviour_is_named_and_explained(name: str) -> None:
    members = json.loads((load_release(name).directory / "release.json").read_bytes())["behaviour"]
    assert list(members) == list(ABOUT)
    assert {field: member["about"] for field, member in members.items()} == ABOUT
    assert set(Behaviour.__annotations__) == set(ABOUT)


def recorded(name: str, scenario: str, command: str) -> str:
    """The reply to a command in a recorded scenario."""
    steps = next(row["steps"] for row in load(name, "lifecycle") if row["scenario"] == scenario)
    reply: str = next(step["recv"][0] for step in steps if f'"{command}"' in step["send"])
    return reply


@pytest.mark.parametrize("name", RELEASES)
def test_the_commands_stand_in_the_order_of_query_commands(name: str) -> None:
    listed = [entry["name"] for entry in json.loads(recorded(name, "preconfig", "query-commands"))["return"]]
    # Before the machine exists, QEMU lists the commands that are not permitted yet as well.
    assert list(load_release(name).commands) == listed


@pytest.mark.parametrize("name", RELEASES)
def test_preconfig_permits_what_was_recorded(name: str) -> None:
    commands = load_release(name).commands
    permitted = ("query-name", "query-status", "query-commands", "x-exit-preconfig", "qmp_capabilities")
    assert all(commands[command].allow_preconfig for command in permitted)
    for command in ("query-cpus-fast", "stop", "cont"):
        assert not commands[command].allow_preconfig
        assert "error" in json.loads(recorded(name, "preconfig", command))


def test_out_of_band_is_what_introspection_says() -> None:
    for name in RELEASES:
        release = load_release(name)
        allowed = [command for command, entry in release.commands.items() if entry.allow_oob]
        assert sorted(allowed) == sorted(
            command for command in release.introspection.commands if release.introspection.command(command).allow_oob
        )
        assert "migrate-pause" in allowed


def test_the_introspection_is_the_recorded_one() -> None:
    # In 5.2 query-qmp-schema does not check its arguments, so one recording has the whole of it.
    (row,) = (row for row in load("5.2", "arguments") if row["scenario"] == "query-qmp-schema")
    replies = {line for step in row["steps"] for line in step["recv"] if '"meta-type"' in line}
    assert replies == {f'{{"return": {load_release("5.2").introspection_reply.decode()}}}'}
