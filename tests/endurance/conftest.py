"""What holds after each test of endurance."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

_PR_GET_CHILD_SUBREAPER = 37


@pytest.fixture(autouse=True)
def _orphans_are_left_to_others() -> Iterator[None]:
    """This process does not go on adopting orphans: nobody here waits for them, and to others they would never end."""
    yield
    adopts = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0) == 0
    assert not adopts.value
