"""A second RESET mistaken for a new reboot.

Cloud Hypervisor (issue 783) rebooted its VMs twice: Linux resets through ACPI and then through the keyboard
controller, and the second request was served as if it had been a reboot of its own.  In QMP the same shows as two
RESET events for one reboot: SeaBIOS resets the machine once more by itself, some 35 ms after it was reset.
"""

from __future__ import annotations

import pytest

from qmpd.testing import VMFactory
from tests.stories.monitor import Message, Monitor, seconds

LIMIT = 3


class Supervisor:
    """Ends a VM that reboots more than three times.  The bug: each RESET counts."""

    def __init__(self, path: str) -> None:
        self.monitor = Monitor(path)
        self.reboots = 0

    def is_reboot(self, reset: Message) -> bool:
        return True

    def look(self) -> None:
        """Take in what has happened."""
        for event in self.monitor.take_events():
            if event["event"] == "RESET" and self.is_reboot(event):
                self.reboots += 1
        if self.reboots > LIMIT:
            self.monitor.execute("quit")


class PatientSupervisor(Supervisor):
    """Resets that follow each other within a second are one reboot."""

    last = 0.0

    def is_reboot(self, reset: Message) -> bool:
        before, self.last = self.last, seconds(reset)
        return self.last - before > 1


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
@pytest.mark.parametrize(("kind", "reboots"), [(Supervisor, 4), (PatientSupervisor, 2)])
def test_two_reboots(qmpd: VMFactory, kind: type[Supervisor], reboots: int) -> None:
    vm = qmpd(guest="boot-time=20s", clock="virtual")
    supervisor = kind(vm.qmp_path)
    with supervisor.monitor:
        vm.clock.run_until_quiet()
        for _ in range(2):
            vm.guest.reboot()
            vm.clock.run_until_quiet()
        supervisor.look()
        assert supervisor.reboots == reboots
        if reboots > LIMIT:
            vm.assert_sent("quit")
            assert vm.wait_until_ended() == 0
        else:
            vm.assert_not_sent("quit")
            assert vm.run_state == "running"


@pytest.mark.parametrize("kind", [Supervisor, PatientSupervisor])
def test_firmware_that_resets_once_hides_the_bug(qmpd: VMFactory, kind: type[Supervisor]) -> None:
    vm = qmpd(guest="boot-time=20s,firmware=once", clock="virtual")
    supervisor = kind(vm.qmp_path)
    with supervisor.monitor:
        vm.clock.run_until_quiet()
        for _ in range(2):
            vm.guest.reboot()
            vm.clock.run_until_quiet()
        supervisor.look()
        assert supervisor.reboots == 2
