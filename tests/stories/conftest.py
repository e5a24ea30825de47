"""Each story is told in less than a second."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qmpd.qapi import release_names
from qmpd.testing import start


@pytest.fixture(scope="session", autouse=True)
def ready() -> None:
    """The first VM of a run has modules and releases to load."""
    for release in release_names():
        if release[0].isdigit() and "-" not in release:
            start(release=release).close()


@pytest.fixture(autouse=True)
def _in_a_second(ready: None) -> Iterator[None]:
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 1
