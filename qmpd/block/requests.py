"""Requests to the disks: from a device or a person, through limits, to a node, and what becomes of errors.

A request ends on the machine's clock: limits delay it there.  What it reads and writes is done by the executor.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.accounting import Accounting, enter, note_latency
from qmpd.block.content import number_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import failure
from qmpd.block.throttling import Gate
from qmpd.block.values import number as value_of
from qmpd.block.watching import Watched
from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from qmpd.block.content import Content
    from qmpd.block.executor import Executor, Outcome
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.schedule.schedule import Schedule

READS = ("read",)
# So many bytes are made up at once to be written.
_PIECE = 1 << 20
# What counts requests, or writes them down.
_CLOSE = frozenset({"blkdebug", "blkverify", "blklogwrites", "quorum"})
_AS_USUAL = Accounting()


class Home(Protocol):
    """The machine that the disks are in."""

    def emit(self, name: str, data: dict[str, object] | None = None) -> None:
        """Emit an event."""

    def met_error(self, drive: Drive, operation: str, action: str, number: int) -> None:
        """A device has met an error: BLOCK_IO_ERROR, and a stop where that is the action."""

    def group_limits(self, name: str) -> dict[str, Any]:
        """The limits of a throttle group."""


@dataclass(slots=True, eq=False)
class Request:
    """One request.  `pattern` fills what is written; `data` is written where it is given, and what was read.

    `take` is given what was read, piece by piece and in a thread, with where in the request each piece begins; then
    nothing of it is kept.  `counted`: it is in the drive's account; `guarded`: the device's error policy decides what
    becomes of errors.
    After it has ended `error` is the error's number, 0 without one, and `action` what was done about it.
    """

    kind: str
    offset: int = 0
    length: int = 0
    pattern: int = 0
    data: bytes | None = None
    take: Callable[[int, bytes], None] | None = None
    unmap: bool = False
    counted: bool = True
    guarded: bool = True
    through: bool = False
    then: Callable[[Request], None] | None = None
    began: int = 0
    ended: bool = False
    error: int = 0
    action: str = ""
    gates: list[Gate] = field(default_factory=list)


class Requests:
    """The requests of one machine."""

    __slots__ = ("_delayed", "_executor", "_gates", "_graph", "_home", "_next", "_schedule", "under_way")

    def __init__(self, graph: BlockGraph, executor: Executor, schedule: Schedule, home: Home) -> None:
        self._graph = graph
        self._executor = executor
        self._schedule = schedule
        self._home = home
        self._gates: dict[str, Gate] = {}
        self._next = 0
        # Requests that wait for a moment of the clock.
        self._delayed: dict[int, Callable[[], None]] = {}
        # How many have begun and not ended.
        self.under_way = 0

    @property
    def executor(self) -> Executor:
        """Who reads and writes."""
        return self._executor

    def submit(self, drive: Drive | None, node: BlockNode, request: Request) -> Request:
        """Begin a request to a node, of a drive where there is one; `request.then` is told when it has ended."""
        self.under_way += 1
        request.began = self._schedule.now(Time.CLOCK)
        if request.kind in ("read", "write", "zero", "discard"):
            request.gates = list(self._gates_of(drive, node))
        self._go_on(drive, node, request)
        return request

    # Limits

    def _gates_of(self, drive: Drive | None, node: BlockNode) -> Iterator[Gate]:
        if drive is not None and drive.limits is not None:
            limits = {_spelled(name): value for name, value in drive.limits.items() if name != "group"}
            yield self._gate(f"drive {drive.limits['group']}", limits)
        at: BlockNode | None = node
        while at is not None:
            if at.driver == "throttle":
                group = str(at.options["throttle-group"])
                yield self._gate(group, self._home.group_limits(group))
            at = at.children.get(DRIVERS[at.driver].first)

    def is_limited(self, node: BlockNode) -> bool:
        """Whether there are limits on the way to a node."""
        return any(True for _ in self._gates_of(None, node))

    def wait_at(self, node: BlockNode, way: str) -> int:
        """For how many nanoseconds the limits on the way to a node let nothing pass: `way` is `read` or `write`."""
        now = self._schedule.now(Time.CLOCK)
        return max((gate.wait(way, now) for gate in self._gates_of(None, node)), default=0)

    def pass_limits(self, node: BlockNode, way: str, size: int) -> None:
        """So many bytes pass the limits on the way to a node."""
        for gate in self._gates_of(None, node):
            gate.enter(way, size)

    def await_limits(self, node: BlockNode, size: int, patience: int) -> bool:
        """Called by a piece of work: wait until the limits on the way to a node let so many bytes be written.

        False where that takes longer than `patience` nanoseconds of the clock, unless those are 0.
        """
        if not self.is_limited(node):
            return True
        ends: list[bool] = []

        def end(*, passes: bool) -> None:
            ends.append(passes)
            self._executor.stir()

        def begin() -> None:
            wait = self.wait_at(node, "write")
            self.pass_limits(node, "write", size)
            passes = not patience or wait <= patience
            if wait:
                self._later(wait if passes else patience, lambda: end(passes=passes))
            else:
                end(passes=True)

        self._executor.soon(begin)
        self._executor.wait(lambda: bool(ends))
        # Where nobody serves the machine nobody waits.
        return not ends or ends[0]

    def _gate(self, name: str, limits: dict[str, Any]) -> Gate:
        gate = self._gates.get(name)
        if gate is None or not gate.is_for(limits):
            old, gate = gate, Gate(limits)
            if old is not None:
                gate.waiting = old.waiting
            self._gates[name] = gate
        return gate

    def _go_on(self, drive: Drive | None, node: BlockNode, request: Request) -> None:
        """Pass the next limit, or begin."""
        if not request.gates:
            self._start(drive, node, request)
            return
        gate = request.gates[0]
        way = "read" if request.kind in READS else "write"

        def enter() -> None:
            request.gates.pop(0)
            gate.enter(way, request.length)
            self._go_on(drive, node, request)

        queue = gate.waiting[way]
        wait = gate.wait(way, self._schedule.now(Time.CLOCK))
        if not wait and not queue:
            enter()
            return
        queue.append((request.length, enter))
        if len(queue) == 1:
            self._later(wait, lambda: self._let_in(gate, way))

    def _let_in(self, gate: Gate, way: str) -> None:
        """Let those in who wait, as far as the limit allows by now."""
        queue = gate.waiting[way]
        while queue:
            wait = gate.wait(way, self._schedule.now(Time.CLOCK))
            if wait:
                self._later(wait, lambda: self._let_in(gate, way))
                return
            queue.popleft()[1]()

    def delayed(self, delay: int, action: Callable[[], None]) -> None:
        """Do something after so many nanoseconds of the computer's time."""
        self._later(delay, action, Time.REAL)

    def _later(self, delay: int, action: Callable[[], None], time: Time = Time.CLOCK) -> None:
        self._next += 1
        self._delayed[self._next] = action
        self._schedule.set(self, self._next, max(1, delay), time)

    def timer_due(self, name: Hashable) -> None:
        """A delay is over (`qmpd.schedule.schedule.Owner`)."""
        action = self._delayed.pop(name, None)  # type: ignore[call-overload]
        if action is not None:
            action()

    # Doing it

    def _start(self, drive: Drive | None, node: BlockNode, request: Request) -> None:
        through = drive is not None and not drive.caches

        def work() -> bytes | None:
            return carry_out(node, request, through=through)

        latency = _latency(node)

        def done(outcome: Outcome) -> None:
            if latency:
                self.delayed(latency, lambda: self._finish(drive, node, request, outcome))
            else:
                self._finish(drive, node, request, outcome)

        self._executor.do(work, done)

    def _finish(self, drive: Drive | None, node: BlockNode, request: Request, outcome: Outcome) -> None:
        self.under_way -= 1
        self.tell()
        request.ended = True
        request.error = 0 if outcome.error is None else number_of(outcome.error)
        if outcome.error is None and isinstance(outcome.value, bytes):
            request.data = outcome.value
        if drive is not None and request.counted:
            account(drive, request, self._schedule.now(Time.CLOCK))
        if drive is not None and request.guarded and request.error:
            self._decide(drive, request)
        if request.then is not None:
            request.then(request)

    def tell(self) -> None:
        """Tell what has happened on the way."""
        while self._graph.happened:
            name, data = self._graph.happened.popleft()
            if name:
                self._home.emit(name, data)
            elif "then" in data:
                data["then"]()
            elif self._graph.complain is not None:
                self._graph.complain(data["line"])

    # Errors

    def _decide(self, drive: Drive, request: Request) -> None:
        reading = request.kind in READS
        request.action = action_of(drive, reading=reading, number=request.error)
        if request.action == "stop":
            if drive.io_status == "ok":
                drive.io_status = "nospace" if request.error == errno.ENOSPC else "failed"
            drive.waiting.append((request.kind, request.offset, request.length, request.pattern))
        self._home.met_error(drive, "read" if reading else "write", request.action, request.error)

    def try_again(self) -> None:
        """The machine runs again: so do the requests that had stopped it."""
        for drive in self._graph.drives:
            waiting, drive.waiting = drive.waiting, []
            for kind, offset, length, pattern in waiting:
                if drive.node is not None:
                    self.submit(drive, drive.node, Request(kind, offset, length, pattern))


def _spelled(limit: str) -> str:
    """The name of a limit of a drive as a throttle group has it: `bps_rd_max` is `bps-read-max`."""
    kind, _, rest = limit.partition("_")
    if kind not in ("bps", "iops"):
        return limit.replace("_", "-")
    if rest == "size":
        return "iops-size"
    for short, long in (("rd", "read"), ("wr", "write")):
        if rest == short or rest.startswith(f"{short}_"):
            return f"{kind}-{long}{rest[2:]}".replace("_", "-")
    return f"{kind}-total{'-' if rest else ''}{rest}".replace("_", "-")


def _latency(node: BlockNode) -> int:
    """The nanoseconds that a null device below a node was told to take for each request."""
    at: BlockNode | None = node
    while at is not None:
        if not at.children:
            return value_of(at.options.get("latency-ns", 0))
        at = at.children.get(DRIVERS[at.driver].first)
    return 0


def _write(node: BlockNode, port: Content, request: Request) -> None:
    """Write what a request says; a lot of it piece by piece, since all of the process waits while it is made up."""
    length = request.length
    step = max(1, length) if request.data is not None or length <= _PIECE or _looks_closely(node) else _PIECE
    made = memoryview(bytes([request.pattern]) * min(step, length) if request.data is None else request.data)
    for done in range(0, max(1, length), step):
        port.write(request.offset + done, made[: length - done])


def _read(node: BlockNode, port: Content, request: Request) -> bytes | None:
    """Read what a request asks for; piece by piece where nobody needs all of it, and who made a lot up would wait."""
    take = request.take
    if take is None:
        return port.read(request.offset, request.length)
    whole = port.read(request.offset, request.length) if _looks_closely(node) else None
    for done in range(0, request.length, _PIECE):
        size = min(_PIECE, request.length - done)
        take(done, port.read(request.offset + done, size) if whole is None else whole[done : done + size])
    return None


def _looks_closely(node: BlockNode) -> bool:
    """Whether it makes a difference to a node, or to one below, that a request comes in pieces."""
    return bool(node.faults) or node.driver in _CLOSE or any(_looks_closely(each) for each in node.children.values())


def carry_out(node: BlockNode, request: Request, *, through: bool = False) -> bytes | None:
    """Do what a request asks for; what was read.

    :raise OSError, ImageError: it cannot be done.
    """
    port = node.port
    if port is None:
        raise failure(errno.ENOMEDIUM)
    if request.kind == "flush":
        port.flush()
        return None
    if request.offset < 0 or request.offset + request.length > node.virtual_size:
        raise failure(errno.EIO)
    if request.kind == "read":
        return _read(node, port, request)
    # QEMU stops with a failed assertion where a disk is another machine's.
    if node.read_only or node.inactive:
        raise failure(errno.EPERM)
    if request.kind == "write":
        _write(node, port, request)
    elif request.kind == "zero":
        zero = port.zero_at_root if isinstance(port, Watched) else port.zero
        zero(request.offset, request.length, unmap=request.unmap)
    else:
        port.discard(request.offset, request.length)
    if through or request.through:
        port.flush()
    return None


def action_of(drive: Drive, *, reading: bool, number: int) -> str:
    """What a device does about an error: `report`, `ignore` or `stop`."""
    policy = drive.rerror if reading else drive.werror
    if policy == "auto":
        policy = "report" if reading else "enospc"
    if policy == "enospc":
        return "stop" if number == errno.ENOSPC else "report"
    return policy


def keeps_status(drive: Drive) -> bool:
    """Whether queries tell of the last error: where one may stop the machine."""
    return drive.werror in ("auto", "enospc", "stop") or drive.rerror == "stop"


def account(drive: Drive, request: Request, now: int) -> None:
    """Enter a request that has ended into its drive's account."""
    rules = drive.accounting or _AS_USUAL
    latency = now - request.began
    if drive.histograms:
        note_latency(drive.histograms, request.kind, latency)
    if enter(drive.statistics, rules, request.kind, request.length, now, latency, failed=bool(request.error)):
        drive.last_access = now
