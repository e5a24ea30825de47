"""Reconnecting to a one-client monitor before the old connection is closed, after an event was swallowed.

Spinifex (pull request 488) failed to attach and detach volumes, now and then.  DEVICE_DELETED had come before the
reply to `device_del` and was dropped by the loop that waited for that reply; the wait for it timed out, which counted
as a dead connection; and the new connection was opened before the old one was closed.  QEMU serves one client at a
time, so there was no greeting, for thirty seconds, and never would be.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from qmpd.testing import VM, VMFactory
from tests.stories.monitor import Message, Monitor

PATIENCE = 0.1


class DeafMonitor(Monitor):
    """The first bug: events that come before a reply are dropped."""

    def execute(self, name: str, **arguments: Any) -> Any:
        value = super().execute(name, **arguments)
        self.events.clear()
        return value


class Volumes:
    """Detaches volumes.  The second bug: a new connection is there before the old one is gone."""

    def __init__(self, path: str, kind: type[Monitor] = DeafMonitor) -> None:
        self.path = path
        self.kind = kind
        # What a server does for the first time can take longer.
        self.monitor = kind(path)
        self.monitor.socket.settimeout(PATIENCE)

    def detach(self, device: str) -> None:
        """Detach a volume, and come back when it is gone.

        :raise TimeoutError: it does not go.
        """
        self.monitor.execute("device_del", id=device)
        try:
            while not any(is_deleted(event, device) for event in self.monitor.events):
                self.monitor.events.append(self.monitor.read())
        except TimeoutError:
            self.reconnect()
            raise

    def reconnect(self) -> None:
        old = self.monitor
        try:
            self.monitor = self.kind(self.path, PATIENCE)
        finally:
            old.close()


class CarefulVolumes(Volumes):
    """Closes first."""

    def reconnect(self) -> None:
        self.monitor.close()
        self.monitor = self.kind(self.path, PATIENCE)


def is_deleted(event: Message, device: str) -> bool:
    return bool(event.get("event") == "DEVICE_DELETED" and event["data"].get("device") == device)


def detach(vm: VM, volumes: Volumes) -> Future[None]:
    """Detach a volume from a VM whose DEVICE_DELETED comes before the reply."""
    vm.replies.override("device_del", {}, count=1)
    vm.faults.delay_reply("1s", command="device_del", count=1)
    with ThreadPoolExecutor() as pool:
        done = pool.submit(volumes.detach, "volume0")
        vm.wait_for_command("device_del", id="volume0")
        vm.replies.emit("DEVICE_DELETED", {"device": "volume0", "path": "/machine/peripheral/volume0"})
        vm.clock.advance("1s")
    return done


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_the_event_is_swallowed_and_the_connection_lost(qmpd: VMFactory) -> None:
    vm = qmpd(machine="none", clock="virtual", exclusive=True)
    volumes = Volumes(vm.qmp_path)
    with volumes.monitor:
        failure = detach(vm, volumes).exception()
        assert isinstance(failure, TimeoutError)
        assert failure.__context__ is not None
        with pytest.raises(OSError, match="Bad file descriptor"):
            volumes.monitor.execute("query-status")


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
def test_closing_first_saves_the_connection(qmpd: VMFactory) -> None:
    vm = qmpd(machine="none", clock="virtual", exclusive=True)
    volumes = CarefulVolumes(vm.qmp_path)
    failure = detach(vm, volumes).exception()
    assert isinstance(failure, TimeoutError)
    with volumes.monitor:
        assert volumes.monitor.execute("query-status")["running"]
    vm.assert_sent("device_del", "query-status", exactly=True)


@pytest.mark.qmpd_releases("5.2", "7.2", "10.0", "11.1")
@pytest.mark.parametrize("kind", [Volumes, CarefulVolumes])
def test_keeping_the_event_avoids_it_all(qmpd: VMFactory, kind: type[Volumes]) -> None:
    vm = qmpd(machine="none", clock="virtual", exclusive=True)
    volumes = kind(vm.qmp_path, Monitor)
    with volumes.monitor:
        detach(vm, volumes).result()
        assert len({each.client for each in vm.commands}) == 1
