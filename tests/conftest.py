"""What all tests share: a report at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Report = Callable[[str], None]

_PROPERTY = "report"


class _Reported:
    """Gathers what tests report, also those that run in other processes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.lines += [str(value) for name, value in report.user_properties if name == _PROPERTY]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.lines:
            terminalreporter.section("report")
            for line in self.lines:
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Reported())


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Adds a line to what is printed at the end of the test run."""
    return lambda line: request.node.user_properties.append((_PROPERTY, line))
