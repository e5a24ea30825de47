"""How releases take options is as their programs, asked here, take them."""

from __future__ import annotations

import shlex

import pytest

from qmpd.capture.option_behaviour import measure_options
from qmpd.qapi import load_release
from tests.real_qemu import programs


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_options_are_taken_as_shipped(release: str) -> None:
    program = programs().get(release)
    if program is None:
        pytest.skip(f"no QEMU {release} here")
    behaviour = load_release(release).behaviour
    found = measure_options(shlex.join(program))
    assert found == {name: getattr(behaviour, name) for name in found}
