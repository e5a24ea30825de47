"""The memory balloon: how much memory the guest is asked to do with, and how much it has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.hardware.buses import Device
    from qmpd.hardware.home import Listener
    from qmpd.qom.node import Node
    from qmpd.schedule.clock import Clock

BALLOON = "virtio-balloon-device"
"""The type of the part of a device that has the balloon."""

STATISTICS = "guest-stats"
INTERVAL = "guest-stats-polling-interval"
"""The properties: what the guest has told, and every how many seconds it is asked."""

UNTOLD = (1 << 64) - 1
"""The value of a statistic that the guest has not told."""

_PAGE = 4096
_SECOND = 1_000_000_000


class BalloonHome(Protocol):
    """The machine that has the balloon (`qmpd.hardware.inventory.Inventory`)."""

    @property
    def memory(self) -> int:
        """What it has, in bytes: what it began with, and what is plugged in."""

    @property
    def clock(self) -> Clock:
        """Its clock."""

    @property
    def guest(self) -> Listener | None:
        """Its guest; None without one."""

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event."""


class Balloon:
    """The balloon of a machine, which `device` brings; `taken` and `wanted` are the bytes in it, and to be in it.

    The guest gives memory back or takes it when it runs and has a driver for it (`GuestSettings.balloon`); with each
    change of what it has BALLOON_CHANGE is emitted.
    """

    __slots__ = ("_home", "device", "taken", "wanted")

    def __init__(self, home: BalloonHome, device: Device | None) -> None:
        self._home = home
        self.device = device
        self.taken = self.wanted = 0

    @property
    def actual(self) -> int:
        """What the guest has, in bytes."""
        return self._home.memory - self.taken

    def inflate_to(self, size: int) -> None:
        """Ask the guest to do with `size` bytes: whole pages are taken from what the machine has."""
        has = self._home.memory
        self.wanted = (has - min(size, has)) // _PAGE * _PAGE
        if self._home.guest is not None:
            self._home.guest.balloon_asked()

    def follow(self) -> None:
        """The guest has done what it was asked."""
        self.settle(self._home.memory - self.wanted)

    def settle(self, size: int) -> None:
        """The guest has `size` bytes now, whatever it was asked."""
        taken = self._home.memory - size
        if self.taken != taken:
            self.taken = taken
            self._home.emit("BALLOON_CHANGE", {"actual": size})

    # Statistics

    def _nodes(self, name: str) -> Iterator[Node]:
        """The device and its part that has the balloon: both show the balloon's properties."""
        if self.device is not None:
            yield from (node for node in self.device.node.below() if node.property(name) is not None)

    def poll_every(self, seconds: int) -> None:
        """Ask the guest for its statistics every so many seconds, beginning now; 0: no more."""
        was = self._interval()
        if seconds == was:
            return
        for node in self._nodes(INTERVAL):
            node.set_value(INTERVAL, seconds)
        if seconds and self._home.guest is not None:
            self._home.guest.statistics_asked(seconds * _SECOND if was else 0)

    def _interval(self) -> int:
        return next((int(node.value(INTERVAL) or 0) for node in self._nodes(INTERVAL)), 0)

    def polled(self) -> None:
        """The guest tells what an operating system has to tell that does little, and is asked again in time."""
        total = self.actual
        told = {
            "stat-swap-in": 0, "stat-swap-out": 0, "stat-major-faults": 0, "stat-minor-faults": 0,
            "stat-free-memory": total // 4 * 3, "stat-total-memory": total, "stat-available-memory": total // 8 * 7,
            "stat-disk-caches": total // 16, "stat-htlb-pgalloc": 0, "stat-htlb-pgfail": 0,
        }  # fmt: skip
        self.report({name: value for name, value in told.items() if name in self.known_statistics()})
        self.ask_again()

    def ask_again(self) -> None:
        """The guest is to be asked for its statistics in time."""
        interval = self._interval()
        if interval and self._home.guest is not None:
            self._home.guest.statistics_asked(interval * _SECOND)

    def known_statistics(self) -> list[str]:
        """The names of the statistics that there are in the release."""
        return next((list(node.value(STATISTICS)["stats"]) for node in self._nodes(STATISTICS)), [])

    def report(self, statistics: Mapping[str, int]) -> None:
        """The guest tells these statistics, and no others."""
        known = self.known_statistics()
        for node in self._nodes(STATISTICS):
            stats: dict[str, Any] = {name: statistics.get(name, UNTOLD) for name in known}
            moment = self._home.clock.wall_microseconds() // 1_000_000
            node.set_value(STATISTICS, {"stats": stats, "last-update": moment})
