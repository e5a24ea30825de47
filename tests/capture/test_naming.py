"""Learning what introspection hides, with a stand-in for the QEMU that is asked."""

from __future__ import annotations

from typing import Any

import pytest

from qmpd.capture.naming import UNKNOWN_MEMBER, Examples, learn_names, questions
from qmpd.qapi import Release, load_release, release_names
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.naming import Names


class StandIn:
    """Answers as the release's own checks do; counts what it would have carried out."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.asked = 0
        self.carried_out: list[str] = []

    def ask(self, command: str, arguments: dict[str, Any]) -> str | None:
        self.asked += 1
        try:
            self.release.argument_compiler.checker(command)(arguments)
        except ArgumentError as error:
            return self.release.refusals.message(error)
        self.carried_out.append(command)
        return None


@pytest.mark.parametrize("name", release_names())
def test_names_are_learnt_from_errors(name: str) -> None:
    release = load_release(name)
    qemu = StandIn(release)
    assert learn_names(release.introspection, qemu.ask).to_json() == release.names.to_json()
    # Nothing but what looks at its arguments itself was ever given a chance to act.
    assert sorted(qemu.carried_out) == sorted(release.names.unchecked)
    assert qemu.asked < 1000


@pytest.mark.parametrize("name", release_names())
def test_every_question_has_one_thing_wrong(name: str) -> None:
    release = load_release(name)
    asked = list(questions(release.introspection, release.names.unchecked))
    assert {question.key for question in asked} == {*release.names.integers, *release.names.alternates}
    for question in asked:
        arguments = question.arguments(1 if not question.is_alternate else "x")
        assert arguments.pop(UNKNOWN_MEMBER) == 1


@pytest.mark.parametrize("name", release_names())
def test_examples_are_valid(name: str) -> None:
    release = load_release(name)
    examples = Examples(release.introspection)
    for command in release.introspection.commands:
        release.argument_compiler.checker(command)(examples.value(release.introspection.command(command).arguments))


def test_a_qemu_that_does_not_tell() -> None:
    release = load_release("10.0")
    with pytest.raises(ValueError, match="no command complains of an unknown member"):
        learn_names(release.introspection, lambda command, arguments: "no")

    def vague(command: str, arguments: dict[str, Any]) -> str | None:
        said = StandIn(release).ask(command, arguments)
        return said if said == f"Parameter '{UNKNOWN_MEMBER}' is unexpected" else "wrong"

    with pytest.raises(ValueError, match="does not tell the type of"):
        learn_names(release.introspection, vague)


def test_names_as_json() -> None:
    names = Names({"10/b": "uint8", "9/a": "int64", "10/a": "int8"}, {"12": "B", "2": "A"}, frozenset({"y", "x"}))
    value = names.to_json()
    assert list(value["integers"]) == ["9/a", "10/a", "10/b"]  # type: ignore[call-overload]
    assert list(value["alternates"]) == ["2", "12"]  # type: ignore[call-overload]
    assert value["unchecked"] == ["x", "y"]
    assert Names.from_json(value).to_json() == value
    assert Names.from_json({}).to_json() == {"alternates": {}, "integers": {}, "unchecked": []}
