"""What a command line is refused with, in all of its forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden import RELEASES
from tests.refusals.comparing import compare, own_answers
from tests.refusals.ours import Fleet, ask_line, ask_serve
from tests.refusals.record import load
from tests.refusals.table import COLD, Asked, asked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Report


@pytest.mark.parametrize("release", RELEASES)
def test_command_line(release: str, report: Report) -> None:
    report(compare(release, {each.key: ask_line(release, each) for each in asked(*COLD)}, load(release)))


@pytest.mark.parametrize("release", RELEASES)
def test_serve(release: str) -> None:
    """`qmpd serve` says what QEMU says to the same options."""
    questions = asked("serve")
    wanted = own_answers(release, {each.key: Asked(each.question, "line").key for each in questions})
    compare(release, {each.key: ask_serve(release, each) for each in questions}, wanted)


def test_fleet(tmp_path: Path) -> None:
    """And so does the control socket of a fleet, which a machine's options come through as well."""
    questions = asked("fleet")
    with Fleet(tmp_path) as fleet:
        for release in RELEASES:
            wanted = own_answers(release, {each.key: Asked(each.question, "line").key for each in questions})
            compare(release, {each.key: fleet.ask(release, each) for each in questions}, wanted)
