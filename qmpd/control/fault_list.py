"""Faults: what goes wrong with a connection, a main loop, long work or a process, when it is asked to.

A fault on replies waits for a command: any, or one by name, of any client or of one by number, the next `count`
times or until it is cleared.  The others hold from the moment they are made, for a `time` on the machine's clock
or until they are cleared.  The control socket itself suffers from none of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.control.recorder import EntryKind
from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from qmpd.control.host import Host
    from qmpd.control.recorder import Recorder
    from qmpd.schedule.schedule import Schedule


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    DELAY_REPLY = "delay-reply"
    DROP_CONNECTION = "drop-connection"
    STALL = "stall"
    GARBAGE = "garbage"
    EARLY_EVENT = "early-event"
    CLOSE_CONNECTIONS = "close-connections"
    REFUSE_CONNECTIONS = "refuse-connections"
    EXHAUST_DESCRIPTORS = "exhaust-descriptors"
    HANG_MAIN_LOOP = "hang-main-loop"
    HOLD_ACTIVITY = "hold-activity"
    FAIL_ACTIVITY = "fail-activity"
    DISK = "disk"
    JOB = "job"
    MIGRATION = "migration"
    KILL = "kill"


class ReplyMoment(enum.StrEnum):
    """A moment around a reply."""

    BEFORE = "before-reply"
    WITHIN = "within-reply"
    AFTER = "after-reply"


class DiskError(enum.StrEnum):
    """What a disk fails with (errno.h)."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"
    EPERM = "EPERM"
    EINVAL = "EINVAL"
    ETIMEDOUT = "ETIMEDOUT"


class DiskMoment(enum.StrEnum):
    """At what a disk fails."""

    READ = "read"
    WRITE = "write"
    FLUSH = "flush"


class GarbageMoment(enum.StrEnum):
    """When garbage is sent: at once, or around a reply."""

    NOW = "now"
    BEFORE = "before-reply"
    INSTEAD = "instead-of-reply"
    AFTER = "after-reply"


@dataclass(frozen=True, slots=True)
class FaultState:
    """A fault that holds: its id, what it is, and what it waits for; `count` is how often it will still happen.

    `activity` is the name or the kind of the long work that it is about, `node` the block node whose requests fail.
    """

    id: int
    fault: FaultKind
    command: str | None = None
    client: int | None = None
    count: int | None = None
    when: str | None = None
    activity: str | None = None
    node: str | None = None


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault.  Times in nanoseconds; `deadline` on the monotonic clock is when it ends by itself."""

    id: int
    kind: FaultKind
    command: str | None = None
    client: int | None = None
    count: int | None = None
    when: str | None = None
    time: int | None = None
    deadline: int | None = None
    data: bytes = b""
    event: tuple[str, dict[str, object] | None] | None = None
    signal: int = 9
    armed: bool = False
    activity: str | None = None
    reason: str = ""
    node: str | None = None
    # What a job meets, and at which progress (`qmpd.control.job_faults.Progress`).
    error: str = ""
    at: tuple[int, bool] = (0, False)

    def describe(self) -> FaultState:
        """What the control socket says of it."""
        about = self.activity, self.node
        return FaultState(self.id, self.kind, self.command, self.client, self.count, self.when, *about)


class FaultList:
    """The faults of a machine that hold, or wait for a command.

    `let_go` is given the id of a fault that keeps something from clients once it is over: it hands that out.
    """

    __slots__ = ("_faults", "_host", "_last", "_recorder", "let_go")

    def __init__(self, host: Host, recorder: Recorder) -> None:
        self._host = host
        self._recorder = recorder
        self._faults: list[Fault] = []
        self._last = 0
        self.let_go: Callable[[int], None] = lambda fault: None

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    # For a process that takes the machine over.

    def state(self) -> tuple[list[Fault], int]:
        """The faults, and the last id that was given."""
        return self._faults, self._last

    def restore(self, faults: list[Fault], last: int) -> None:
        """Have these faults."""
        self._faults = faults
        self._last = last
        for fault in faults:
            self._watch(fault)

    # Making, using and ending them.

    def next(self) -> int:
        """A new fault's id."""
        self._last += 1
        return self._last

    def add(self, fault: Fault) -> None:
        """Have one more."""
        self._faults.append(fault)

    def begin(self, kind: FaultKind, time: int | None, activity: str | None = None) -> Fault:
        """Have a fault that holds from now on, for `time` in nanoseconds or until it is cleared.

        `activity`: it is about long work of this name or kind.
        """
        fault = Fault(id=self.next(), kind=kind, activity=activity)
        if time is not None:
            fault.deadline = self._schedule.now(Time.CLOCK) + time
            self._watch(fault)
        self._faults.append(fault)
        return fault

    @property
    def _schedule(self) -> Schedule:
        return self._host.system.machine.schedule

    def _watch(self, fault: Fault) -> None:
        if fault.deadline is not None:
            self._schedule.set_at(self, fault.id, fault.deadline, Time.CLOCK)

    def happens(
        self, fault: Fault, client: int | None = None, command: str | None = None, name: str | None = None
    ) -> None:
        """Write down that a fault happens, to this client and in this command, or to the long work of this name."""
        self._recorder.record(
            EntryKind.FAULT, fault=str(fault.kind), id=fault.id, client=client, command=command, name=name
        )

    def remove(self, fault: Fault) -> None:
        """End a fault."""
        if fault in self._faults:
            self._faults.remove(fault)
        self._schedule.cancel(self, fault.id)
        if fault.kind in (FaultKind.STALL, FaultKind.DELAY_REPLY):
            self.let_go(fault.id)
        elif fault.kind is FaultKind.REFUSE_CONNECTIONS and not self.holds(fault.kind):
            self._host.refuse_connections(False)
        elif fault.kind is FaultKind.EXHAUST_DESCRIPTORS and not self.holds(fault.kind):
            self._host.exhaust_descriptors(False)
        elif fault.kind is FaultKind.DISK and fault.node is not None:
            node = self._host.system.inventory.backends.block.nodes.get(fault.node)
            if node is not None:
                node.faults = [each for each in node.faults if each["id"] != fault.id]
        elif fault.kind is FaultKind.HOLD_ACTIVITY:
            self._host.system.activities.release()
        elif fault.kind is FaultKind.MIGRATION:
            self._host.system.migrations.go_on_after_fault()

    def holds(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind holds now."""
        return any(fault.kind is kind and not fault.armed for fault in self._faults)

    def take(self, kinds: tuple[FaultKind, ...], client: int | None = None, command: str | None = None) -> Fault | None:
        """The first fault of these kinds that happens to this command, which it now does."""
        for fault in self._faults:
            if (
                fault.kind in kinds
                and fault.count != 0
                and fault.command in (None, command)
                and fault.client in (None, client)
            ):
                if fault.count is not None:
                    fault.count -= 1
                    # What keeps something back is there to be cleared as long as it does.
                    if fault.count == 0 and fault.kind not in (FaultKind.STALL, FaultKind.DELAY_REPLY):
                        self._faults.remove(fault)
                self.happens(fault, client, command)
                return fault
        return None

    def holds_activity(self, kind: str, name: str) -> bool:
        """Whether a fault holds this piece of long work."""
        holding = (each for each in self._faults if each.kind is FaultKind.HOLD_ACTIVITY)
        return any(each.activity in (None, kind, name) for each in holding)

    def look_at_disks(self) -> None:
        """Count what those faults have done that nodes carry; one that has happened often enough is over."""
        for fault in [each for each in self._faults if each.kind is FaultKind.DISK]:
            nodes = self._host.system.inventory.backends.block.nodes
            node = nodes.get(fault.node or "")
            carried = [] if node is None else [each for each in node.faults if each["id"] == fault.id]
            if not carried or carried[0]["count"] == 0:
                self.remove(fault)
            else:
                fault.count = carried[0]["count"]

    def take_failure(self, kind: str, name: str) -> Fault | None:
        """The fault that has this piece of long work fail, which happens now."""
        for fault in self._faults:
            if fault.kind is FaultKind.FAIL_ACTIVITY and fault.activity in (None, kind, name):
                self.meets(fault, name)
                return fault
        return None

    def meets(self, fault: Fault, name: str) -> None:
        """Long work of this name meets a fault, which happens now."""
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)
        self.happens(fault, name=name)

    def take_hang(self, client: int, command: str | None) -> bool:
        """Whether the main loop now hangs in this command."""
        taken = self.take((FaultKind.HANG_MAIN_LOOP,), client, command)
        if taken is not None:
            self.begin(FaultKind.HANG_MAIN_LOOP, taken.time)
        return taken is not None

    def die(self, fault: Fault) -> None:
        """End the machine as `fault` says."""
        self.happens(fault)
        self._host.kill(fault.signal)

    def is_over(self, fault_id: int) -> None:
        """Nobody suffers any more from the fault of this id: it goes, unless it is to happen again."""
        for fault in self._faults:
            if fault.id == fault_id and fault.count == 0:
                self._faults.remove(fault)
                break

    def timer_due(self, name: Hashable) -> None:
        """End a fault whose time has passed (`qmpd.schedule.schedule.Owner`)."""
        for fault in [fault for fault in self._faults if fault.id == name]:
            self.remove(fault)
