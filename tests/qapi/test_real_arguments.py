"""Argument errors of random arguments: real QEMU, where it is present, says the same."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmpd.capture.naming import UNKNOWN_MEMBER, learn_names
from qmpd.qapi import Release, load_release, release_names
from qmpd.qapi.errors import ArgumentError
from tests.qapi.generation import Generator, commands_by_weight
from tests.real_qemu import RealQemu, programs

EXAMPLES = 12
COMMANDS_PER_EXAMPLE = 60


def needs(release: str) -> None:
    if release not in programs():
        pytest.skip(f"no QEMU {release} here")


def error_of(release: Release, command: str, arguments: dict[str, object]) -> str | None:
    try:
        release.argument_compiler.checker(command)(arguments)
    except ArgumentError as error:
        return release.refusals.message(error)
    return None


@pytest.mark.parametrize("name", release_names())
def test_random_arguments_get_the_same_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs(name)
    release = load_release(name)
    commands = commands_by_weight(release.introspection, release.names)
    compared: set[str | None] = set()
    total = 0

    with RealQemu(name) as qemu:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.integers(0, 1 << 64), st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4]))
        def compare(seed: int, fault: float) -> None:
            nonlocal total
            random = Random(seed)
            generator = Generator(release.introspection, release.names, random, fault)
            requests = []
            for _ in range(COMMANDS_PER_EXAMPLE):
                command = random.choice(commands)
                # With a member that nobody knows, nothing is ever carried out.
                requests.append((command, {**generator.arguments(command), UNKNOWN_MEMBER: 1}))
            for (command, arguments), expected in zip(requests, qemu.ask_all(requests), strict=True):
                assert error_of(release, command, arguments) == expected, json.dumps([command, arguments])
                compared.add(expected)
                total += 1

        compare()
    with capsys.disabled():
        print(f"\nrandom arguments of {name}: {total} of {total}, {len(compared)} different errors")
    assert len(compared) > 100


@pytest.mark.parametrize("name", release_names())
def test_real_qemu_tells_the_shipped_names(name: str) -> None:
    needs(name)
    release = load_release(name)
    with RealQemu(name) as qemu:
        assert learn_names(release.introspection, qemu.ask).to_json() == release.names.to_json()
