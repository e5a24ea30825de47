"""How late the replies of guests' agents are: a hundred in a fleet, each asked once a second by a client of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from endurance.agents import Polling, places, poll, prepare

from benchmark.result import Aim, Row
from benchmark.servers import QMPD, LoadError, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.measures import Bench

LATE = 0.02
"""Seconds after which a reply is late."""


def many_agents(bench: Bench) -> Iterator[Row]:
    """Replies of agents."""
    scale = bench.scale
    folder, count = bench.path(), min(100, scale.loop_vms)
    rounds: list[list[float]] = []
    with Server(bench.programs.fleet(folder, count, "-guest", "agent=on", "--no-control"), announced=True):
        paths = trio.run(prepare, places(folder))
        for _ in range(scale.loops):
            polling = Polling()
            trio.run(poll, paths, max(scale.loop_seconds, 1.0), polling)
            if polling.wrong:
                raise LoadError(polling.wrong[0])
            rounds.append(polling.waits)
            bench.step()
    name = f"{count} agents, each asked every second"
    yield Row(f"{name}, worst reply", "ms", {QMPD: [max(each) for each in rounds]}, [Aim(LATE)])
    yield Row(f"{name}, p50", "ms", {QMPD: [sorted(each)[len(each) // 2] for each in rounds]})
