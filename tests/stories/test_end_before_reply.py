"""SHUTDOWN and the end of the connection arrive before the reply to `quit`.

Kata Containers (issue 5971) ends a VM by `quit`; on a busy computer the VM had ended before it was executed, or
answered.  The client's loop was closed, the command counted as cancelled, and the container's end, with nothing
wrong about it, as an error.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qmpd.testing import VM, ReplyMoment, VMFactory
from tests.stories.monitor import Monitor


class StopError(Exception):
    """The VM could not be stopped."""


class Sandbox:
    """Stops a VM.  The bug: without a reply it has not been stopped."""

    def __init__(self, path: str) -> None:
        self.monitor = Monitor(path)

    def stop(self) -> None:
        try:
            self.monitor.execute("quit")
        except (EOFError, ConnectionError) as error:
            raise StopError("quit was cancelled") from error


class PatientSandbox(Sandbox):
    """Whoever wants an end and finds one has what it wanted."""

    def stop(self) -> None:
        try:
            while True:
                self.monitor.execute("quit")
        except (EOFError, ConnectionError):
            pass


def loses_the_reply(vm: VM) -> None:
    """The process is gone before the reply has been written."""
    vm.faults.drop_connection(ReplyMoment.BEFORE, command="quit")


def powers_off(vm: VM) -> None:
    """The guest is faster."""
    vm.guest.shut_down()


def is_killed(vm: VM) -> None:
    """The kernel is out of memory."""
    vm.faults.kill(command="quit")


BUSY = pytest.mark.parametrize("busy", [loses_the_reply, powers_off, is_killed])


@BUSY
@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_an_end_that_is_taken_for_an_error(qmpd: VMFactory, busy: Callable[[VM], None]) -> None:
    vm = qmpd(guest="", clock="virtual")
    sandbox = Sandbox(vm.qmp_path)
    with sandbox.monitor:
        busy(vm)
        with pytest.raises(StopError):
            sandbox.stop()
        vm.wait_until_ended()


@BUSY
@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_an_end_that_is_taken_for_one(qmpd: VMFactory, busy: Callable[[VM], None]) -> None:
    vm = qmpd(guest="", clock="virtual")
    sandbox = PatientSandbox(vm.qmp_path)
    with sandbox.monitor:
        busy(vm)
        sandbox.stop()
        vm.wait_until_ended()


@pytest.mark.parametrize("kind", [Sandbox, PatientSandbox])
def test_where_nothing_goes_wrong_both_stop_it(qmpd: VMFactory, kind: type[Sandbox]) -> None:
    vm = qmpd(guest="", clock="virtual")
    sandbox = kind(vm.qmp_path)
    with sandbox.monitor:
        sandbox.stop()
        assert vm.wait_until_ended() == 0
        vm.assert_sent("quit", exactly=True)
