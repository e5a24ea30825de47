"""A plugin for the tests under `python -O`: qmpd's asserts are gone, here and in every process, the tests' are not.

    PYTHONOPTIMIZE=1 python -m pytest -p tests.optimized -W "ignore:assertions not in test modules"

(`scripts/test --optimized` does it, where pytest would complain that asserts elsewhere are not checked.)
pytest writes the asserts of a plugin's package anew, so that they are checked with -O as well, and qmpd has a plugin.
Here its modules are loaded as Python itself does.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class _AsItIs:
    """Finds qmpd's modules before pytest does."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "qmpd" and not name.startswith("qmpd."):
            return None
        return PathFinder.find_spec(name, path, target)


if __debug__:
    raise pytest.UsageError("tests.optimized is for PYTHONOPTIMIZE=1")
if any(name.partition(".")[0] == "qmpd" for name in sys.modules):
    raise pytest.UsageError("tests.optimized is to be loaded with -p, before qmpd's own plugin")
sys.meta_path.insert(0, _AsItIs)
