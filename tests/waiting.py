"""Waiting for what nobody tells of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
PATIENCE = 20.0


def wait_until(condition: Callable[[], _T | None]) -> _T:
    """Ask again and again until the answer is true; that answer.

    :raise AssertionError: it is not within `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.005)
    return found
