"""What all tests share: a report at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Report = Callable[[str], None]

_reported = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_reported] = []


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Adds a line to what is printed at the end of the test run."""
    return request.config.stash[_reported].append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[_reported]
    if lines:
        terminalreporter.section("report")
        for line in lines:
            terminalreporter.write_line(line)
