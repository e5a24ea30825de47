"""An event is read where the greeting was expected.

Kata Containers (runtime issue 1474) could not end some containers: `Invalid QMP greeting`, and what followed was a
VSERPORT_CHANGE.  A guest's port was closed just when the client connected, and QEMU 4.0 let the event go out first.
"""

from __future__ import annotations

import pytest

from qmpd.testing import VMFactory
from tests.stories.monitor import Monitor

PORT_CLOSED = {"open": False, "id": "channel0"}


class GreetingError(Exception):
    """Something else listens there."""


class HastyMonitor(Monitor):
    """The bug: whatever comes first is the greeting."""

    def greet(self) -> None:
        first = self.read()
        if "QMP" not in first:
            raise GreetingError(f"invalid greeting: {first}")


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_the_hasty_monitor_gives_up(qmpd: VMFactory) -> None:
    vm = qmpd(machine="none")
    vm.faults.early_event("VSERPORT_CHANGE", PORT_CLOSED, count=1)
    with pytest.raises(GreetingError, match="VSERPORT_CHANGE"):
        HastyMonitor(vm.qmp_path)
    vm.assert_not_sent()
    HastyMonitor(vm.qmp_path).close()


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_the_patient_monitor_keeps_the_event(qmpd: VMFactory) -> None:
    vm = qmpd(machine="none")
    vm.faults.early_event("VSERPORT_CHANGE", PORT_CLOSED, count=1)
    with Monitor(vm.qmp_path) as monitor:
        assert [event["data"] for event in monitor.events] == [PORT_CLOSED]
        assert monitor.execute("query-status")["running"]
