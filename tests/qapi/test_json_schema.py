"""The JSON Schema documents: what they look like, and that they and the argument checks agree."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from qmpd.capture.naming import Examples
from qmpd.qapi import load_release, release_names
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.json_schema import DIALECT, derive
from qmpd.qapi.validation import (
    NotValid,
    Schemas,
    explain,
    validate_arguments,
    validate_event,
    validate_reply,
)
from tests.golden import RELEASES, load
from tests.qapi.generation import Generator, commands_by_weight

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).parents[2] / "schemas"


@cache
def document(name: str) -> dict[str, Any]:
    release = load_release(name)
    return derive(release.introspection, release.names, name)


@cache
def schemas(name: str) -> Schemas:
    return Schemas(document(name))


@pytest.mark.parametrize("name", release_names())
def test_the_shipped_document_is_the_derived_one(name: str) -> None:
    assert json.loads((load_release(name).directory / "schema.json").read_text()) == document(name)


def parts(schema: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """Add to `found` each schema within a schema once, without those within it."""
    flat = dict(schema)
    for keyword in ("$defs", "properties"):
        if keyword in schema:
            flat[keyword] = {}
            for each in schema[keyword].values():
                parts(each, found)
    for keyword in ("anyOf", "allOf"):
        if keyword in schema:
            flat[keyword] = [True]
            for each in schema[keyword]:
                parts(each, found)
    for keyword in ("items", "if", "then"):
        if keyword in schema:
            flat[keyword] = True
            parts(schema[keyword], found)
    found[json.dumps(flat, sort_keys=True)] = flat


def test_documents_validate_under_the_meta_schema() -> None:
    # Checking a document takes seconds and its parts repeat, also between releases; so each is checked once.
    found: dict[str, dict[str, Any]] = {}
    for name in release_names():
        assert document(name)["$schema"] == DIALECT
        parts(document(name), found)
    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    wrong = [part for part in found.values() if not validator.is_valid(part)]
    assert len(found) > 500
    assert not wrong
    broken: dict[str, dict[str, Any]] = {}
    parts({"$defs": {"a": {"allOf": [{"properties": {"b": {"items": {"type": "no-such-type"}}}}]}}}, broken)
    assert sum(not validator.is_valid(part) for part in broken.values()) == 1


@pytest.mark.parametrize("name", release_names())
def test_every_reference_leads_to_a_definition_and_every_definition_is_used(name: str) -> None:
    definitions = document(name)["$defs"]
    used = set(re.findall(r'"#/\$defs/([^"]*)"', json.dumps(document(name))))
    assert used <= set(definitions)
    introspection = load_release(name).introspection
    entrances = {f"{command}.{part}" for command in introspection.commands for part in ("arguments", "return")}
    entrances |= {f"{event}.data" for event in introspection.events}
    assert entrances <= set(definitions)
    assert set(definitions) == used | entrances
    assert all(re.fullmatch(r"[\w.=-]+", key, re.ASCII) for key in definitions)


def test_names_tell_where_a_type_is_used() -> None:
    definitions = document("10.0")["$defs"]
    assert definitions["block-commit.arguments"]["properties"]["on-error"] == {
        "$ref": "#/$defs/block-commit.arguments.on-error"
    }
    assert definitions["query-block.return"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/query-block.return.element"},
    }
    assert definitions["StrOrNull"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert "offset" in definitions["blockdev-add.arguments.driver=raw"]["properties"]
    assert definitions["query-name.arguments"] == {"type": "object", "additionalProperties": False}


def test_everything_is_carried_over() -> None:
    definitions = document("10.0")["$defs"]
    commit = definitions["block-commit.arguments"]
    assert commit["required"] == ["device"]
    assert commit["properties"]["top"] == {"type": "string", "deprecated": True}
    assert commit["additionalProperties"] is False
    assert definitions["x-blockdev-set-iothread.arguments"]["x-qapi-features"] == ["unstable"]
    assert definitions["migrate-pause.arguments"]["x-qapi-allow-oob"] is True
    assert "additionalProperties" not in definitions["device_add.arguments"]
    assert definitions["migrate-set-parameters.arguments"]["properties"]["multifd-channels"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 255,
        "x-qapi-type": "uint8",
    }
    assert any("x-qapi-value-features" in definition for definition in definitions.values())


@pytest.mark.parametrize("name", release_names())
def test_the_checks_and_the_schema_agree(name: str) -> None:
    release = load_release(name)
    introspection, names = release.introspection, release.names
    commands = commands_by_weight(introspection, names)
    verdicts = []

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(commands), st.integers(0, 1 << 64), st.sampled_from([0.0, 0.03, 0.1, 0.3, 0.5]))
    def agree(command: str, seed: int, fault: float) -> None:
        arguments = Generator(introspection, names, Random(seed), fault).arguments(command)
        try:
            release.argument_compiler.checker(command)(arguments)
            refusal = None
        except ArgumentError as error:
            refusal = release.refusals.message(error)
        verdict = schemas(name).validator(f"{command}.arguments").is_valid(arguments)
        assert verdict is (refusal is None), (command, arguments, refusal)
        if not fault:
            assert verdict
        verdicts.append(verdict)

    agree()
    assert 5 < sum(verdicts) < len(verdicts) - 5


@pytest.mark.parametrize("name", RELEASES)
def test_every_branch_of_arguments_agrees(name: str) -> None:
    release = load_release(name)
    introspection = release.introspection
    examples = Examples(introspection)
    compared = 0
    for command in introspection.commands:
        found = introspection.object(introspection.command(command).arguments)
        validator = schemas(name).validator(f"{command}.arguments")
        for case, branch in found.variants.items():
            arguments = {**examples.members(found), str(found.tag): case, **examples.value(branch)}
            release.argument_compiler.checker(command)(arguments)
            assert validator.is_valid(arguments), (command, arguments)
            compared += 1
        if found.variants:
            assert not validator.is_valid({**arguments, "__stranger": 1})
    assert compared > 40


def messages(name: str) -> Iterator[tuple[str, Any]]:
    """What real QEMU of this release sent: each return value and each event's data with its definition's name."""
    for group in ("queries", "lifecycle", "guest"):
        for scenario in load(name, group):
            sent = []
            for step in scenario["steps"]:
                # Answers can arrive during a later step, but they come in the order of the requests.
                sent += [json.loads(text) for text in step["send"].replace("}{", "}\n{").splitlines()]
                for line in step["recv"]:
                    message = json.loads(re.sub(r'"timestamp": T', '"timestamp": 0', line))
                    if "event" in message:
                        yield f"{message['event']}.data", message.get("data", {})
                    elif sent:
                        request = sent.pop(0)
                        if "return" in message:
                            yield f"{request['execute']}.return", message["return"]


@pytest.mark.parametrize("name", RELEASES)
def test_what_real_qemu_sent_is_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Most messages are the same ones again and again.
    different = {json.dumps(message, sort_keys=True): message for message in messages(name)}
    for definition, value in different.values():
        explain(schemas(name), definition, value)
    with capsys.disabled():
        print(f"\nmessages of {name}: {len(different)} different ones, all valid")
    assert len(different) > 100


def test_introspection_itself_is_valid() -> None:
    release = load_release("5.2")
    validate_reply(release, "query-qmp-schema", json.loads(release.introspection_reply))


def test_what_does_not_fit_is_refused() -> None:
    release = load_release("10.0")
    validate_reply(release, "query-status", {"status": "running", "running": True})
    with pytest.raises(NotValid, match=r"^query-status\.return: \$: .*'running' is a required property"):
        validate_reply(release, "query-status", {"status": "running"})
    with pytest.raises(NotValid, match=r"^query-status\.return: \$\.status: 'no' is not one of"):
        validate_reply(release, "query-status", {"status": "no", "running": True})
    with pytest.raises(NotValid, match="singlestep"):
        validate_reply(release, "query-status", {"status": "running", "running": True, "singlestep": False})
    validate_event(release, "STOP", None)
    validate_event(release, "SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    with pytest.raises(NotValid):
        validate_event(release, "SHUTDOWN", None)
    with pytest.raises(NotValid):
        validate_event(release, "STOP", {"x": 1})
    validate_arguments(release, "block_resize", {"device": "x", "size": 1})
    with pytest.raises(NotValid, match=r"\$\.size: 1\.0 is not of type 'integer'"):
        validate_arguments(release, "block_resize", {"device": "x", "size": 1.0})
    with pytest.raises(KeyError):
        validate_reply(release, "no-such-command", {})


def test_an_unknown_member_beside_a_branch_is_refused() -> None:
    release = load_release("10.0")
    valid = {"driver": "raw", "node-name": "n", "file": {"driver": "file", "filename": "f"}}
    validate_arguments(release, "blockdev-add", valid)
    for wrong in ({**valid, "z": 1}, {**valid, "filename": "f"}, {**valid, "file": {**valid, "z": 1}}):
        with pytest.raises(NotValid):
            validate_arguments(release, "blockdev-add", wrong)


def test_the_example_in_the_readme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (SCHEMAS / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```\n\nIt prints `(.*?)`\.\n", text, re.DOTALL)
    monkeypatch.chdir(SCHEMAS.parent)
    variables: dict[str, Any] = {}
    exec(example[0], variables)
    assert capsys.readouterr().out == f"{example[1]}\n"
    assert variables["deprecated"] == ["drive-backup", "nbd-server-add", "nbd-server-remove", "query-migrationthreads"]
    about_schemas = text.partition("## The JSON Schema of a release")[2]
    tables = re.findall(r"^\| `([\w.=-]+\.[\w.=-]+|StrOrNull)` \|", about_schemas, re.MULTILINE)
    assert len(tables) == 7
    assert set(tables) <= set(variables["schema"]["$defs"])
