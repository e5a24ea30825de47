"""A RESET handler that changes the reboot action while the VM is starting.

Incus (issue 3166) resets a VM while it starts it, after having plugged its devices, and its handler of RESET events
is there for the guest's reboots: VMs died while they were booting, with the reason `host-qmp-system-reset`, and only
some of them, and only under load.
"""

from __future__ import annotations

import pytest

from qmpd.testing import VMFactory, command
from tests.stories.monitor import Monitor


class Daemon:
    """Starts a VM; the guest's reboots are to end QEMU, for the daemon to start it anew.  The bug: at any time."""

    def __init__(self, path: str) -> None:
        self.monitor = Monitor(path)
        self.starting = True

    def start(self) -> None:
        """The first part: the firmware is to see what has been plugged in."""
        self.monitor.execute("system_reset")
        self.look()

    def started(self) -> None:
        """The last part, when the guest has booted."""
        self.look()
        self.starting = False
        self.monitor.execute("set-action", reboot="shutdown")

    def look(self) -> None:
        """Take in what has happened."""
        for event in self.monitor.take_events():
            if event["event"] == "RESET":
                self.handle_reset()

    def handle_reset(self) -> None:
        self.monitor.execute("set-action", reboot="shutdown")


class PatientDaemon(Daemon):
    """As long as the VM is starting, its resets are those of the daemon and of the firmware."""

    def handle_reset(self) -> None:
        if not self.starting:
            super().handle_reset()


@pytest.mark.qmpd_releases("7.2", "10.0", "11.1")
def test_the_firmware_resets_once_more_and_ends_the_vm(qmpd: VMFactory) -> None:
    vm = qmpd(guest="boot-time=20s", clock="virtual")
    vm.clock.advance("1s")
    daemon = Daemon(vm.qmp_path)
    with daemon.monitor:
        daemon.start()
        vm.clock.run_until_quiet()
        assert vm.wait_until_ended() == 0
        assert vm.wait_for_event("SHUTDOWN").data == {"guest": True, "reason": "guest-reset"}
        vm.assert_sent("system_reset", command("set-action", reboot="shutdown"))


@pytest.mark.qmpd_releases("7.2", "10.0", "11.1")
def test_the_daemons_own_second_reset_ends_the_vm(qmpd: VMFactory) -> None:
    vm = qmpd(guest="boot-time=20s", clock="virtual")
    daemon = Daemon(vm.qmp_path)
    with daemon.monitor:
        daemon.start()
        daemon.monitor.send("system_reset")
        assert vm.wait_until_ended() == 0
        assert vm.wait_for_event("SHUTDOWN").data == {"guest": False, "reason": "host-qmp-system-reset"}


@pytest.mark.qmpd_releases("7.2", "10.0", "11.1")
def test_the_daemon_that_waits(qmpd: VMFactory) -> None:
    vm = qmpd(guest="boot-time=20s", clock="virtual")
    vm.clock.advance("1s")
    daemon = PatientDaemon(vm.qmp_path)
    with daemon.monitor:
        daemon.start()
        vm.clock.run_until_quiet()
        daemon.started()
        assert [event.name for event in vm.events] == ["RESUME", "RESET", "RESET"]
        vm.assert_sent("system_reset", command("set-action", reboot="shutdown"), exactly=True, ignore=["q*"])
        vm.guest.reboot()
        assert vm.wait_until_ended() == 0
