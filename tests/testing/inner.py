"""Test runs inside of a test run, in the same process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class _Kept:
    """The modules of qmpd that inner runs have loaded."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}

    def pytest_unconfigure(self) -> None:
        self.modules |= {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "qmpd"}


_KEPT = _Kept()


@pytest.fixture
def modules_stay() -> Iterator[None]:
    """What inner runs have loaded of qmpd stays loaded, which `pytester` forgets: it is to be asked for before that.

    What has a module yet (a cache, say) would not know the classes of the same one, loaded again, as its own.
    """
    yield
    for name, module in _KEPT.modules.items():
        sys.modules.setdefault(name, module)
    _KEPT.modules.clear()


def run_inside(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests of a folder; with the fixture `modules_stay`."""
    return pytester.runpytest_inprocess(*arguments, plugins=[_KEPT])
