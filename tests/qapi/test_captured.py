"""What real machines answered: found again, with the VM's own values in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from qmpd.monitor.commands import handlers
from qmpd.qapi import load_release
from qmpd.qapi.captured import REPLY, Answers, CapturedError, elements, finish, replace_markers
from qmpd.qapi.validation import validate_reply
from tests.golden import RELEASES, load

VALUES = {"memory": 32 << 20, "cpus": 2}


def spelled(found: bytes | CapturedError | None) -> str | None:
    """A reply without an id, as QEMU spells it."""
    if found is None:
        return None
    if isinstance(found, bytes):
        return f'{{"return": {found.decode()}}}'
    return json.dumps({"error": {"class": found.error_class, "desc": found.description}})


@pytest.mark.parametrize("name", RELEASES)
def test_unmodelled_queries_get_the_recorded_answers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    release = load_release(name)
    modelled = handlers(release)
    same = asked = 0
    for row in load(name, "queries"):
        machine = row["options"][1].partition(",")[0]
        # One reply to each command, though some came so late that the recording has them with the next step.
        replies = [line for step in row["steps"] for line in step["recv"]]
        for step, reply in zip(row["steps"], replies, strict=True):
            command = json.loads(step["send"])["execute"]
            if command in modelled:
                continue
            asked += 1
            assert release.classify(command, modelled) == "captured"
            values = {"memory": 0, "cpus": 0} if machine == "none" else VALUES
            assert spelled(release.captured(command, {}, machine, values)) == reply
            same += 1
    with capsys.disabled():
        print(f" {name}: {same} of {asked}", end="")
    assert asked > 30


@pytest.mark.parametrize("name", RELEASES)
def test_every_captured_answer_fits_the_schema(name: str) -> None:
    release = load_release(name)
    validated = 0
    for packed in ("answers.jsonl.gz", "cpu-models.jsonl.gz"):
        for number, line in enumerate(release._captured_lines(packed)):
            head, _, reply = line.partition(REPLY)
            if not reply or b'"otherwise"' in head or (packed != "answers.jsonl.gz" and number % 40):
                continue
            command = orjson.loads(head + b"}").get("execute")
            found = finish(reply[:-1], {}, VALUES)
            if command is not None and isinstance(found, bytes):
                validate_reply(release, command, orjson.loads(found))
                validated += 1
    for command, typename in (("device-list-properties", "e1000"), ("qom-list-properties", "memory-backend-ram")):
        listed = release.captured(command, {"typename": typename}, "pc", VALUES)
        assert isinstance(listed, bytes)
        validate_reply(release, command, orjson.loads(listed))
    assert validated > 50


@pytest.mark.parametrize("name", RELEASES)
@pytest.mark.parametrize(
    ("command", "arguments", "error_class", "text"),
    [
        ("device-list-properties", {"typename": "nope"}, "DeviceNotFound", "Device 'nope' not found"),
        ("query-rocker", {"name": "r\u00f6"}, "GenericError", "rocker r\u00f6 not found"),
        ("query-rx-filter", {"name": "nope"}, "GenericError", "invalid net client name: nope"),
        ("query-command-line-options", {"option": "nope"}, "GenericError", "invalid option name: nope"),
        (
            "query-cpu-model-expansion",
            {"type": "full", "model": {"name": "nope"}},
            "GenericError",
            "CPU model 'nope' not found",
        ),
        (
            "query-cpu-model-expansion",
            {"type": "full", "model": {"name": "max", "props": {"avx": True, "nope": True}}},
            "GenericError",
            "Property 'max-x86_64-cpu.nope' not found",
        ),
    ],
)
def test_what_does_not_exist_gets_the_release_s_own_error(
    name: str, command: str, arguments: dict[str, Any], error_class: str, text: str
) -> None:
    found = load_release(name).captured(command, arguments, "pc", VALUES)
    assert found == CapturedError(error_class, text)


def test_a_type_that_is_no_device_is_refused_in_each_release_s_words() -> None:
    refusals = {
        name: load_release(name).captured("device-list-properties", {"typename": "floppy-bus"}, "none", {})
        for name in ("5.2", "7.2")
    }
    assert refusals == {
        "5.2": CapturedError("GenericError", "Parameter 'typename' expects device"),
        "7.2": CapturedError("GenericError", "Parameter 'typename' expects a non-abstract device type"),
    }


def test_arguments_that_were_not_asked_have_no_answer() -> None:
    release = load_release("7.2")
    model = {"name": "max", "props": {"avx2": False}}
    assert release.captured("query-cpu-model-expansion", {"type": "full", "model": model}, "pc", VALUES) is None
    # Asking for this one's properties ends QEMU 7.2.
    assert release.captured("qom-list-properties", {"typename": "x-remote-object"}, "pc", VALUES) is None


def test_the_order_of_arguments_does_not_count() -> None:
    release = load_release("10.0")
    model = {"name": "max", "props": {"migratable": False}}
    there = release.captured("query-cpu-model-expansion", {"type": "full", "model": model}, "pc", VALUES)
    back = release.captured("query-cpu-model-expansion", {"model": model, "type": "full"}, "pc", VALUES)
    assert there == back
    assert there is not None


@pytest.mark.parametrize("name", RELEASES)
def test_types_are_listed_by_what_they_are(name: str) -> None:
    release = load_release(name)

    def listed(**arguments: object) -> list[dict[str, Any]]:
        found = release.captured("qom-list-types", arguments, "pc", {})
        assert isinstance(found, bytes)
        types: list[dict[str, Any]] = orjson.loads(found)
        return types

    concrete, everything = listed(), listed(abstract=True)
    assert [entry for entry in everything if not entry.get("abstract")] == concrete
    assert len(everything) > len(concrete) > 500
    backends = [entry["name"] for entry in listed(implements="memory-backend")]
    assert {"memory-backend-ram", "memory-backend-file"} <= set(backends)
    assert "memory-backend" in [entry["name"] for entry in listed(implements="memory-backend", abstract=True)]
    # An interface is found where it is inherited too.
    assert {"memory-backend-ram", "iothread"} <= {entry["name"] for entry in listed(implements="user-creatable")}
    assert listed(implements="no-such-type") == []
    assert listed(implements="no-such-type", abstract=True) == []


def test_one_group_of_options_is_what_the_list_of_all_says() -> None:
    release = load_release("7.2")
    everything = release.captured("query-command-line-options", {}, "none", {})
    assert isinstance(everything, bytes)
    for element in elements(everything):
        option = orjson.loads(element)["option"]
        assert release.captured("query-command-line-options", {"option": option}, "none", {}) == b"[" + element + b"]"


def test_memory_and_cpus_are_the_vm_s() -> None:
    values = {"memory": 5 << 30, "cpus": 3}
    found = load_release("11.1").captured("query-memdev", {}, "pc", values)
    assert isinstance(found, bytes)
    assert b'"size": 5368709120,' in found
    found = load_release("11.1").captured("query-acpi-ospm-status", {}, "pc", values)
    assert isinstance(found, bytes)
    assert [entry["slot"] for entry in orjson.loads(found)] == ["0", "1", "2"]


def test_a_machine_without_cpus_may_have_memory() -> None:
    release = load_release("7.2")
    assert release.captured("query-memdev", {}, "none", {"memory": 0, "cpus": 0}) == b"[]"
    found = release.captured("query-memdev", {}, "none", {"memory": 1 << 30, "cpus": 0})
    assert isinstance(found, bytes)
    assert [(each["id"], each["size"]) for each in orjson.loads(found)] == [("ram", 1 << 30)]


def test_addresses_follow_the_memory() -> None:
    found = load_release("7.2").captured("x-query-ramblock", {}, "pc", {"memory": 1 << 30, "cpus": 1})
    assert isinstance(found, bytes)
    text = orjson.loads(found)["human-readable-text"]
    assert "pc.ram    4 KiB  0x0000000000000000 0x0000000040000000 0x0000000040000000" in text
    assert "pc.bios    4 KiB  0x0000000040000000" in text


def test_markers_are_replaced_wherever_they_stand() -> None:
    value = {"a": ["«memory»", {"b": "«cpus as text»"}], "c": ["«for each index below cpus»", ["«index»"]], "d": "x"}
    assert replace_markers(value, {"memory": 7, "cpus": 2}) == {"a": [7, {"b": "2"}], "c": [[0], [1]], "d": "x"}
    with pytest.raises(KeyError):
        replace_markers("«nothing»", {})


def test_otherwise_answers_what_nothing_else_does() -> None:
    answers = Answers(
        [
            b'{"execute": "q", "arguments": {"a": 1}, "reply": {"return": 1}}',
            b'{"execute": "q", "otherwise": true, "machine": "pc", "reply": {"return": 2}}',
            b'{"execute": "q", "machine": "none", "reply": {"return": 3}}',
        ]
    )
    assert answers.find("q", {"a": 1}, "pc") == b'{"return": 1}'
    assert answers.find("q", {"a": 2}, "pc") == b'{"return": 2}'
    assert answers.find("q", {}, "pc") == b'{"return": 2}'
    assert answers.find("q", {}, "none") == b'{"return": 3}'
    assert answers.find("q", {"a": 2}, "none") is None
    assert answers.find("r", {}, "none") is None


def test_the_schemas_are_small() -> None:
    folder = load_release("7.2").directory.parent
    assert sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) < 8_000_000
