"""What a machine that runs refuses, over QMP and by the human monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden import RELEASES
from tests.refusals.comparing import compare
from tests.refusals.ours import ask_hot
from tests.refusals.record import load
from tests.refusals.table import HOT, asked
from tests.refusals.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Report


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


@pytest.mark.parametrize("release", RELEASES)
def test_machines(release: str, zygote: Zygote, report: Report) -> None:
    report(compare(release, ask_hot(zygote, release, asked(*HOT)), load(release)))
