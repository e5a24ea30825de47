"""The typed view of `query-qmp-schema`."""

from __future__ import annotations

import json

import pytest

from qmpd.qapi import load_release, release_names
from qmpd.qapi.arguments import ArgumentCompiler
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Introspection, Object, Type


@pytest.fixture(scope="module")
def ten() -> Introspection:
    return load_release("10.0").introspection


def argument(introspection: Introspection, command: str, member: str) -> Type:
    found = introspection.object(introspection.command(command).arguments)
    return introspection.type(found.member(member).type)


def test_commands_and_events_keep_their_order(ten: Introspection) -> None:
    assert ten.commands[:2] == ("query-status", "watchdog-set-action")
    assert len(ten.commands) == 233
    assert ten.events[:2] == ("SHUTDOWN", "POWERDOWN")
    assert len(ten.events) == 55


def test_command(ten: Introspection) -> None:
    command = ten.command("x-blockdev-set-iothread")
    assert command.features == ("unstable",)
    assert not command.allow_oob
    assert ten.command("migrate-pause").allow_oob
    node, iothread, force = ten.object(command.arguments).members
    assert (node.name, node.type, node.optional) == ("node-name", "str", False)
    assert (force.name, force.type, force.optional) == ("force", "bool", True)
    found = ten.type(iothread.type)
    assert isinstance(found, Alternate)
    assert found.branches == ("str", "null")


def test_event(ten: Introspection) -> None:
    assert [member.name for member in ten.object(ten.event("SHUTDOWN").data).members] == ["guest", "reason"]


def test_object_with_branches(ten: Introspection) -> None:
    found = ten.object(ten.command("blockdev-add").arguments)
    assert found.tag == "driver"
    assert [member.name for member in found.members][:2] == ["driver", "node-name"]
    raw = ten.object(found.variants["raw"])
    assert [member.name for member in raw.members] == ["file", "offset", "size"]
    assert "dynamic-auto-read-only" in ten.object(found.variants["file"]).features


def test_enumeration_with_features(ten: Introspection) -> None:
    found = argument(ten, "block-commit", "on-error")
    assert isinstance(found, Enumeration)
    assert found.values == ("report", "ignore", "enospc", "stop", "auto")
    assert found.value_features == {}


def test_enumeration_before_values_had_features() -> None:
    found = argument(load_release("5.2").introspection, "watchdog-set-action", "action")
    assert isinstance(found, Enumeration)
    assert "inject-nmi" in found.values


def test_array_and_builtin(ten: Introspection) -> None:
    found = argument(ten, "block-latency-histogram-set", "boundaries")
    assert isinstance(found, Array)
    assert isinstance(ten.type(found.element), Builtin)


def test_what_is_not_there(ten: Introspection) -> None:
    for ask in (ten.command, ten.event, ten.type, ten.object):
        with pytest.raises(KeyError):
            ask("no-such-thing")
    with pytest.raises(KeyError):
        ten.command("SHUTDOWN")
    with pytest.raises(KeyError):
        ten.type("query-status")
    with pytest.raises(TypeError):
        ten.object("str")
    with pytest.raises(KeyError):
        ten.object(ten.command("blockdev-add").arguments).member("no-such-member")


def lines_of(name: str) -> list[bytes]:
    return (load_release(name).directory / "introspection.jsonl").read_bytes().splitlines()


def test_a_check_reads_only_the_types_that_it_reaches() -> None:
    introspection = Introspection.from_lines(lines_of("10.0"))

    def parsed() -> int:
        return sum(not isinstance(entry, bytes) for entry in introspection._entries.values())

    compiler = ArgumentCompiler(introspection, load_release("10.0").names)
    compiler.checker("query-status")({})
    assert parsed() == 2  # the command and the empty object
    compiler.checker("watchdog-set-action")({"action": "pause"})
    assert parsed() == 5  # another command, its arguments, an enumeration
    compiler.checker("blockdev-add")({"driver": "raw", "file": "x"})
    assert parsed() < 40


def test_entries_can_be_written_in_any_way() -> None:
    written = [json.dumps(json.loads(line), sort_keys=True).encode() for line in lines_of("10.0")]
    introspection = Introspection.from_lines(written)
    assert introspection.commands == load_release("10.0").introspection.commands
    assert introspection.command("query-status").returns == "1"


@pytest.mark.parametrize("name", release_names())
def test_every_type_can_be_built(name: str) -> None:
    entries = [json.loads(line) for line in lines_of(name)]
    introspection = Introspection(entries)
    kinds: set[type] = set()
    for entry in entries:
        if entry["meta-type"] not in {"command", "event"}:
            found = introspection.type(entry["name"])
            assert found is introspection.type(entry["name"])
            assert found.name == entry["name"]
            kinds.add(type(found))
    # The live-update line's selection has no alternate.
    assert kinds | {Alternate} == {Builtin, Enumeration, Array, Object, Alternate}
