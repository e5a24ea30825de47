from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest
from supervisor import Supervisor

from qmpd.testing import VM, VMFactory


@pytest.fixture
def vm(qmpd: VMFactory) -> Iterator[VM]:
    vm = qmpd(guest="boot-time=5s", clock="virtual")
    supervisor = Supervisor(vm.qmp_path)
    thread = Thread(target=supervisor.watch)
    thread.start()
    vm.clock.run_until_quiet()
    yield vm
    vm.close()
    thread.join()
    supervisor.close()


def reboot(vm: VM, pause: str) -> None:
    vm.guest.reboot()
    vm.clock.advance(pause)


@pytest.mark.qmpd_releases("7.2", "10.0")
def test_three_reboots_in_a_minute_are_too_many(vm: VM) -> None:
    reboot(vm, "10s")
    reboot(vm, "10s")
    vm.guest.reboot()
    vm.wait_for_command("quit")
    assert vm.wait_until_ended() == 0


@pytest.mark.qmpd_releases("7.2", "10.0")
def test_three_reboots_in_an_hour_are_not(vm: VM) -> None:
    for _ in range(3):
        reboot(vm, "20m")
    vm.assert_not_sent("quit")
