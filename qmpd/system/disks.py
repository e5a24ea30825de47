"""The disks of a machine as those who play its guest, and its monitors, use them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from qmpd.block.executor import AtOnce
from qmpd.block.images.errors import text as error_text
from qmpd.block.requests import Request, Requests, keeps_status
from qmpd.guest import effects
from qmpd.machine.errors import MachineError
from qmpd.schedule.schedule import Time
from qmpd.system.apart import Apart

if TYPE_CHECKING:
    from collections.abc import Hashable

    from qmpd.block.executor import Executor
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import Machine
    from qmpd.qapi.introspection import Introspection
    from qmpd.system.ports import Host


_PERIPHERAL = "/machine/peripheral"


class Disks:
    """The requests to the disks of one machine, and what they bring about in it."""

    __slots__ = ("_host", "_introspection", "_inventory", "_machine", "apart", "loads", "requests")

    def __init__(self, machine: Machine, introspection: Introspection, inventory: Inventory, host: Host | None) -> None:
        self._machine = machine
        self._introspection = introspection
        self._inventory = inventory
        self._host = host
        graph = inventory.backends.block
        executor: Executor = AtOnce() if host is None else host.disk_threads()
        self.requests = Requests(graph, executor, machine.schedule, self)
        self.apart = Apart(executor, AtOnce if host is None else host.more_threads)
        self.loads: dict[int, Load] = {}
        graph.executor = executor
        graph.again = self.requests.try_again
        graph.await_limits = self.requests.await_limits
        graph.report = self.report
        graph.complain = machine.report
        graph.end_machine = machine.end

    @property
    def executor(self) -> Executor:
        """Who reads and writes."""
        return self.requests.executor

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event, with those of its members that the release has."""
        self._machine.emit(name, self._known(name, data or {}))

    def report(self, line: str) -> None:
        """Print a line on standard error, without the program's name."""
        if self._host is None:
            self._machine.report(line)
        else:
            self._host.report(line)

    def _known(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        known = self._introspection
        members = {member.name for member in known.object(known.event(name).data).members}
        return {key: value for key, value in data.items() if key in members}

    def met_error(self, drive: Drive, operation: str, action: str, number: int) -> None:
        """A device has met an error: BLOCK_IO_ERROR, and a stop where that is the action."""
        data: dict[str, Any] = {"device": drive.name}
        if drive.node is not None:
            data["node-name"] = drive.node.name
        if drive.device is not None:
            data["qom-path"] = drive.qdev if drive.qdev.startswith("/") else drive.device.path
        data |= {"operation": operation, "action": action}
        if keeps_status(drive):
            data["nospace"] = number == errno.ENOSPC
        data["reason"] = error_text(number)
        effects.block_io_error(self._machine, self._known("BLOCK_IO_ERROR", data))

    def group_limits(self, name: str) -> dict[str, Any]:
        """The limits of a throttle group."""
        node = self._inventory.tree.find(f"/objects/{name}")
        if node is None:
            return {}
        found = node.value("limits")
        return found if isinstance(found, dict) else {}

    def find(self, name: str) -> tuple[Drive, BlockNode]:
        """A drive, by its id or by its device's, and the node in it.

        :raise MachineError: there is none, or nothing is in it.
        """
        graph = self._inventory.backends.block
        names = (name, f"{_PERIPHERAL}/{name}")
        drive = graph.drive(name) or next((each for each in graph.drives if each.qdev in names), None)
        if drive is None:
            drive = graph.of_device(self._inventory.devices.find(name))
        if drive is None:
            raise MachineError(f"'{name}' is no drive")
        if drive.node is None:
            raise MachineError(f"Device '{name}' has no medium")
        return drive, drive.node

    # Loads

    def start_load(
        self, drive: Drive, device: str, begin: int, whole: int, each: int, interval: int, count: int | None,
        pattern: int,
    ) -> Load:  # fmt: skip
        """Write again and again, from now on."""
        load = Load(len(self.loads) + 1, device, drive, begin, whole, each, interval, count, pattern)
        self.loads[load.number] = load
        load.disks = self
        self._machine.schedule.set(load, "write", 0, Time.MACHINE)
        return load

    def stop_load(self, number: int) -> Load | None:
        """End a load; None where there is none."""
        load = self.loads.get(number)
        if load is not None:
            load.end()
        return load

    def schedule_load(self, load: Load, delay: int) -> None:
        """Have a load write again after so many nanoseconds of the machine's time."""
        self._machine.schedule.set(load, "write", delay, Time.MACHINE)


class Load:
    """Writes to a drive at a rate, on the machine's time."""

    __slots__ = (
        "_begin", "_count", "_drive", "_each", "_interval", "_name", "_pattern", "_place", "_whole", "active", "disks",
        "failed", "number", "writes",
    )  # fmt: skip

    def __init__(
        self, number: int, name: str, drive: Drive, begin: int, whole: int, each: int, interval: int,
        count: int | None, pattern: int,
    ) -> None:  # fmt: skip
        self.number = number
        self._name = name
        self._drive = drive
        self._begin = begin
        self._whole = whole
        self._each = each
        self._interval = interval
        self._count = count
        self._pattern = pattern
        self._place = 0
        self.active = True
        self.writes = 0
        self.failed = 0
        self.disks: Disks | None = None

    def describe(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "id": self.number, "device": self._name, "writes": self.writes, "failed": self.failed,
            "active": self.active,
        }  # fmt: skip

    def end(self) -> None:
        """Write no more."""
        self.active = False

    def timer_due(self, name: Hashable) -> None:
        """Write once more (`qmpd.schedule.schedule.Owner`)."""
        drive = self._drive
        if not self.active or self.disks is None or drive.node is None:
            self.active = False
            return
        if self._place + self._each > self._whole:
            self._place = 0
        request = Request("write", self._begin + self._place, self._each, self._pattern, then=self._ended)
        self._place += self._each
        if self._count is not None:
            self._count -= 1
            self.active = self._count > 0
        if self.active:
            self.disks.schedule_load(self, self._interval)
        self.disks.requests.submit(drive, drive.node, request)

    def _ended(self, request: Request) -> None:
        self.writes += 1
        self.failed += bool(request.error)
