"""Fixtures of the tests of disks."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.block.support import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.block.support import Talk


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Makes clients of VMs, which are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda vm: stack.enter_context(closing(Monitor(vm.qmp_path)))
