"""What all tests share: a report at the end of the run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

Report = Callable[[str], None]

LONGEST_FIRST = (
    "refusals/test_lines.py", "clients/test_one_turn.py", "libvirt/test_libvirt.py", "capture/test_real_capture.py",
    "capture/test_twin.py", "server/test_slow_files.py", "server/test_backpressure.py", "server/test_endings.py",
    "endurance/test_fuzz.py", "live_update/test_bad_children.py", "refusals/test_live.py", "live_update/test_update.py",
    "refusals/test_machines.py", "objects/test_device_limits.py", "control/test_one_turn.py",
    "objects/test_differential.py", "endurance/test_soak.py", "clients/test_serve.py", "server/test_hostile_clients.py",
    "clients/test_file_sets.py", "testing/test_vm.py", "server/test_places.py", "server/test_forgetting.py",
    "bench/test_bench.py", "system/test_isolation.py", "capture/test_real_hardware.py", "control/test_transcript.py",
)  # fmt: skip
"""The files of tests that take long: a worker that begins one last would keep the others waiting."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    places = {str(folder / name): place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Reported())
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's job in the background ignores it, and so would all that tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Adds a line to what is printed at the end of the test run."""
    return lambda line: request.node.user_properties.append((_PROPERTY, line))
