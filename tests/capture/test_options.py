"""What `qmpd capture` measures on programs, asked here, is what their releases were shipped with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.capture import behaviour
from qmpd.capture.option_behaviour import measure_options
from qmpd.qapi import load_release
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURES: dict[str, Callable[[str], dict[str, Any]]] = {
    "options": measure_options,
    "events": behaviour._events,
    "files": behaviour._files,
    "refusals": behaviour._refusals,
}


@pytest.mark.parametrize("about", MEASURES)
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_what_is_measured_is_what_is_shipped(release: str, about: str) -> None:
    program = programs().get(release)
    if program is None:
        pytest.skip(f"no QEMU {release} here")
    known = load_release(release).behaviour
    found = MEASURES[about](shlex.join(program))
    assert found == {name: getattr(known, name) for name in found}
