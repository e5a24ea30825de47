"""The same questions asked of the QEMU that is installed, beside qmpd, while the tests run.

Of the command lines, which take a process each, every `QMPD_REFUSALS`th is asked (12 where it is not set, 1 for all),
and three times as many of what machines are asked that run; the choice moves on with the day.  What was recorded is
asked of qmpd in full, elsewhere.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.real_qemu import programs
from tests.refusals.asking import CRASH, ask_real
from tests.refusals.comparing import compare
from tests.refusals.ours import ask_hot, ask_line
from tests.refusals.record import load
from tests.refusals.table import COLD, HOT, Asked, asked
from tests.refusals.zygote import Zygote

RELEASE = "7.2"
EVERY = int(os.environ.get("QMPD_REFUSALS", "12"))

pytestmark = pytest.mark.skipif(RELEASE not in programs(), reason=f"QEMU {RELEASE} is not installed")


def those_that_answer(questions: list[Asked]) -> list[Asked]:
    """Those at which real QEMU does not end by a fault of its own."""
    return [each for each in questions if load(RELEASE).get(each.key) != CRASH]


def chosen(questions: list[Asked], every: int) -> list[Asked]:
    """Today's."""
    return those_that_answer(questions)[int(time.time() // 86400) % every :: every]


def test_command_lines() -> None:
    questions = chosen(asked(*COLD), EVERY)
    theirs = ask_real(programs()[RELEASE], questions)
    compare(RELEASE, {each.key: ask_line(RELEASE, each) for each in questions}, theirs)


def test_machines() -> None:
    questions = chosen(asked(*HOT), -(-EVERY // 3))
    theirs = ask_real(programs()[RELEASE], questions)
    for each in questions:
        if theirs[each.key] != load(RELEASE).get(each.key):
            # Two machines at once may want the same port.
            theirs |= ask_real(programs()[RELEASE], [each])
    with Zygote() as zygote:
        compare(RELEASE, ask_hot(zygote, RELEASE, questions), theirs)
