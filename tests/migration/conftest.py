from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.migration.support import Sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from qmpd.testing.vm import VM


@pytest.fixture
def sides(qmpd: Callable[..., VM], tmp_path: Path) -> Iterator[Sides]:
    """What starts machines that are to move."""
    sides = Sides(qmpd, tmp_path)
    yield sides
    for each in sides.sides:
        each.close()
