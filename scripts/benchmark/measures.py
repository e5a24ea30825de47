"""The measures.  Each runs its subjects in turn, round after round, so that a noisy machine hurts them alike."""

from __future__ import annotations

import os
import resource
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.agents import many_agents
from benchmark.disks import copies
from benchmark.jobs import many_jobs
from benchmark.moves import downtime
from benchmark.result import Aim, Row
from benchmark.servers import BLOCKING, QEMU, QMPD, TRIO, Load, LoadError, Programs, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEGABYTE = 1_000_000
CROWDS = {"silent": "read nothing", "large": "ask for all schemas", "odd": "send errors"}
FLOORS = {TRIO: "echo_trio", BLOCKING: "echo_blocking"}


@dataclass(slots=True, kw_only=True)
class Scale:
    """How much is measured; times in seconds."""

    rounds: int = 9
    round_trips: int = 1000
    crowd_round_trips: int = 200
    rate_seconds: float = 0.4
    large_replies: int = 10
    large_commands: int = 3
    large_sizes: tuple[int, ...] = (1_000_000, 16_000_000)
    large_qemu: bool = False
    event_clients: tuple[int, ...] = (1, 100, 1000)
    event_rounds: int = 20
    starts: int = 15
    loops: int = 3
    loop_vms: int = 1000
    loop_seconds: float = 3.0
    fleet_vms: int = 10_000
    disk_size: int = 1 << 30
    disk_rounds: int = 3
    moves: int = 7


QUICK = Scale(
    rounds=1,
    round_trips=100,
    crowd_round_trips=10,
    rate_seconds=0.05,
    large_replies=2,
    large_commands=1,
    large_sizes=(10_000, 100_000),
    event_clients=(20,),
    event_rounds=2,
    starts=1,
    loops=1,
    loop_vms=20,
    loop_seconds=0.1,
    fleet_vms=100,
    disk_size=4 << 20,
    disk_rounds=1,
    moves=1,
)


class Bench:
    """What a measure works with: the programs, the load, the scale, a folder for sockets, a way to show progress."""

    def __init__(self, programs: Programs, load: Load, scale: Scale, step: Callable[[], None]) -> None:
        self.programs = programs
        self.load = load
        self.scale = scale
        self.step = step
        # Making a socket on a disk can take longer than all the rest.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="qmpd-bench-", dir=memory)
        self._count = 0
        self._stack = ExitStack()
        self._stack.callback(self._folder.cleanup)
        self._running: list[str] = []

    def close(self) -> None:
        """End the servers that are still running and remove the folder."""
        self._stack.close()

    def path(self) -> str:
        """A path for a socket that was not used before."""
        return str(Path(self._folder.name) / f"{self.number()}.sock")

    def number(self) -> int:
        """A number that was not used before."""
        self._count += 1
        return self._count

    def connected(self) -> list[str]:
        """The subjects that run with one client, connected under the subject's name; started when first asked for."""
        if not self._running:
            for subject in [*self.programs.subjects, *FLOORS]:
                path = self.path()
                floor = FLOORS.get(subject)
                command = self.programs.floor(floor, path) if floor else self.programs.qmp(subject, [path])
                self._stack.enter_context(Server(command))
                self.load.open(subject, [path], greeting=not floor, negotiate=not floor)
                self._running.append(subject)
        return self._running

    def rounds(self, subjects: list[str], measure: Callable[[str], float], count: int = 0) -> dict[str, list[float]]:
        """Measure each subject in turn, in every round; each round begins with another one."""
        values: dict[str, list[float]] = {subject: [] for subject in subjects}
        for number in range(count or self.scale.rounds):
            for offset in range(len(subjects)):
                subject = subjects[(number + offset) % len(subjects)]
                values[subject].append(measure(subject))
                self.step()
        return values


def percentile(times: list[int], part: float) -> float:
    """The time in seconds that `part` of `times`, given in nanoseconds, do not exceed."""
    return sorted(times)[min(int(len(times) * part), len(times) - 1)] / 1e9


def round_trip(bench: Bench) -> Iterator[Row]:
    """query-status, one at a time."""
    far: dict[str, list[float]] = {}

    def measure(subject: str) -> float:
        times = bench.load.round_trips(subject, "query-status", bench.scale.round_trips)
        far.setdefault(subject, []).append(percentile(times, 0.99))
        return percentile(times, 0.5)

    subjects = bench.connected()
    for subject in subjects:
        measure(subject)
    far.clear()
    near = bench.rounds(subjects, measure)
    yield Row("query-status round trip, p50", "us", near, [Aim(0.35, QEMU), Aim(1.5, TRIO)])
    yield Row("query-status round trip, p99", "us", far)


def rate(bench: Bench, kind: str, depth: int) -> dict[str, list[float]]:
    """Commands a second at a pipeline depth."""
    bench.connected()
    return bench.rounds(
        bench.programs.subjects, lambda subject: bench.load.rate(subject, kind, depth, bench.scale.rate_seconds)
    )


def pipelines(bench: Bench) -> Iterator[Row]:
    """query-status, several sent at once."""
    for depth in (8, 64, 512):
        aims = [Aim(40, QEMU, most=False)] if depth == 64 else []
        yield Row(f"query-status, {depth} at once", "/s", rate(bench, "query-status", depth), aims)


def arguments(bench: Bench) -> Iterator[Row]:
    """A command whose arguments have to be checked."""
    yield Row("set-action with arguments, 64 at once", "/s", rate(bench, "set-action", 64))


def large_reply(bench: Bench) -> Iterator[Row]:
    """query-qmp-schema."""
    bench.connected()
    values = bench.rounds(
        bench.programs.subjects,
        lambda subject: percentile(bench.load.round_trips(subject, "query-qmp-schema", bench.scale.large_replies), 0.5),
    )
    yield Row("query-qmp-schema round trip, p50", "ms", values)


def crowd(bench: Bench) -> Iterator[Row]:
    """query-status of one client among twenty that read nothing, or ask for more than they are given."""
    remark = "QEMU left out: what nobody reads, it keeps without bound"
    for kind, what in CROWDS.items():
        path = bench.path()
        with Server(bench.programs.qmp(QMPD, [path])):
            bench.load.open("polite", [path])
            with Server(bench.programs.crowd(path, kind), announced=True):
                times = [
                    percentile(bench.load.round_trips("polite", "query-status", bench.scale.crowd_round_trips), 0.99)
                    for _ in range(bench.scale.rounds)
                ]
            bench.load.close("polite")
        bench.step()
        yield Row(f"query-status among 20 that {what}, p99", "ms", {QMPD: times}, [Aim(0.050)], remark)


def large_command(bench: Bench) -> Iterator[Row]:
    """A command with a long string, which its reply has, too."""

    def measure(size: int) -> Callable[[str], float]:
        return lambda subject: percentile(bench.load.round_trips(subject, "large-command", 1, size), 0.5)

    bench.connected()
    for size in bench.scale.large_sizes:
        measured, remark = QEMU in bench.programs.subjects, ""
        if measured and size > MEGABYTE and not bench.scale.large_qemu:
            measured, remark = False, "QEMU takes minutes: measured with --large"
        values = bench.rounds([QMPD], measure(size), bench.scale.large_commands)
        if measured:
            # A round of QEMU's takes seconds, and there is nothing to be learnt from a second one.
            values |= bench.rounds([QEMU], measure(size), 1)
        aims = [Aim(0.020)] if size == MEGABYTE else []
        yield Row(f"command with an id of {size / MEGABYTE:g} MB", "ms", values, aims, remark)


def events(bench: Bench) -> Iterator[Row]:
    """An event until the last client has it."""
    for count in bench.scale.event_clients:
        with ExitStack() as stack:
            subjects = bench.programs.subjects
            for subject in subjects:
                # QEMU serves one client on each monitor, so it gets as many monitors.
                own = [bench.path() for _ in range(count if subject == QEMU else 1)]
                stack.enter_context(Server(bench.programs.qmp(subject, own)))
                bench.load.open(subject, own if subject == QEMU else own * count)
                stack.callback(bench.load.close, subject)
            values = bench.rounds(
                subjects, lambda subject: percentile(bench.load.fan_out(subject, bench.scale.event_rounds), 0.5)
            )
        aims = [Aim(0.020)] if count == 1000 else []
        remark = f"QEMU: on {count} monitors" if count > 1 and QEMU in subjects else ""
        yield Row(f"event until the last of {count:,} has it" if count > 1 else "event to 1 client", "ms", values, aims,
                  remark)  # fmt: skip


def start(bench: Bench) -> Iterator[Row]:
    """From exec to the greeting."""

    def measure(subject: str) -> float:
        path = bench.path()
        command = bench.programs.floor("greet_trio", path) if subject == TRIO else bench.programs.qmp(subject, [path])
        return bench.load.start(command, path) / 1e9

    subjects = [*bench.programs.subjects, TRIO]
    for subject in subjects if bench.scale.starts > 1 else []:
        # Once for the page cache.
        measure(subject)
    values = bench.rounds(subjects, measure, bench.scale.starts)
    yield Row("exec to greeting", "ms", values, [Aim(1.4, TRIO)])


def memory(bench: Bench) -> Iterator[Row]:
    """Resident memory of a process with one VM."""
    idle: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    for subject in [*bench.programs.subjects, TRIO]:
        path = bench.path()
        floor = subject == TRIO
        command = bench.programs.floor("echo_trio", path) if floor else bench.programs.qmp(subject, [path])
        with Server(command) as server:
            bench.load.open("memory", [path], greeting=not floor, negotiate=not floor)
            bench.load.close("memory")
            idle[subject] = [float(server.settled_resident())]
            bench.load.open("memory", [path], greeting=not floor, negotiate=not floor)
            bench.load.round_trips("memory", "query-status", bench.scale.round_trips)
            busy[subject] = [float(server.settled_resident())]
            bench.load.close("memory")
        bench.step()
    yield Row("resident memory, one VM, idle", "MB", idle, [Aim(32e6)])
    yield Row("resident memory, one VM, one client", "MB", busy)


def fleet(bench: Bench) -> Iterator[Row]:
    """A thousand VMs in one process."""
    scale, load = bench.scale, bench.load
    folder = bench.path()
    paths = [f"{folder}/vm-{number:05}/qmp.sock" for number in range(1, scale.loop_vms + 1)]
    with Server(bench.programs.fleet(bench.path(), 1), announced=True) as server:
        single = server.settled_resident()
    bench.step()
    with Server(bench.programs.fleet(folder, scale.loop_vms + 1), announced=True) as server:
        idle = {QMPD: [(server.settled_resident() - single) / scale.loop_vms]}
        load.open("fleet", paths)
        taken = {QMPD: [(server.settled_resident() - single) / scale.loop_vms]}
        bench.step()
        loops = []
        for _ in range(scale.loops):
            loops.append(load.closed_loop("fleet", scale.loop_seconds))
            bench.step()
        load.close("fleet")
        load.open("fleet", [f"{folder}/fleet.sock"])
        load.create("fleet", folder, [f"warm-{number}" for number in range(10)])

        def measure(subject: str) -> float:
            if subject == QEMU:
                path = bench.path()
                return load.start(bench.programs.qmp(subject, [path]), path) / 1e9
            return percentile(load.create("fleet", folder, [f"new-{bench.number()}" for _ in range(20)]), 0.5)

        created = bench.rounds(bench.programs.subjects, measure)
        load.close("fleet")
    if QEMU in bench.programs.subjects:
        path = bench.path()
        with Server(bench.programs.qmp(QEMU, [path])) as server:
            load.open("memory", [path])
            idle[QEMU] = taken[QEMU] = [float(server.settled_resident())]
            load.close("memory")
    yield Row("new VM in a running fleet to greeting", "ms", created, [Aim(0.1, QEMU)], "QEMU: exec to greeting")
    yield Row("memory of each further VM, idle", "KB", idle, [Aim(16384)], "QEMU: a process each")
    yield Row("memory of each further VM, one client", "KB", taken)
    name = f"{scale.loop_vms:,} VMs, a client each, closed loop"
    yield Row(name, "/s", {QMPD: [loop["rate"] for loop in loops]}, remark="QEMU left out: a process each")
    yield Row(f"{name}, p99", "ms", {QMPD: [loop["p99"] / 1e9 for loop in loops]})


def large_fleet(bench: Bench) -> Iterator[Row]:
    """Ten thousand VMs in one process."""
    count = bench.scale.fleet_vms
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < count + 100:
        raise LoadError(f"{count:,} VMs take as many open files, and ulimit -Hn is {limit:,}")
    # With control sockets it would be twice as many.
    with Server(bench.programs.fleet(bench.path(), count, "--no-control"), announced=True) as server:
        took = {QMPD: [server.started_in]}
        memory = {QMPD: [float(server.settled_resident())]}
    full = count == 10_000
    yield Row(f"{count:,} VMs, exec to the last one's socket", "s", took, [Aim(3.0)] if full else [], "--no-control")
    yield Row(f"{count:,} VMs, resident memory", "MB", memory, [Aim(300e6)] if full else [])


MEASURES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "round-trip": round_trip,
    "pipelines": pipelines,
    "arguments": arguments,
    "large-reply": large_reply,
    "crowd": crowd,
    "large-command": large_command,
    "events": events,
    "start": start,
    "memory": memory,
    "fleet": fleet,
    "large-fleet": large_fleet,
    "disks": copies,
    "jobs": many_jobs,
    "agents": many_agents,
    "moves": downtime,
}
"""What `--only` knows."""
