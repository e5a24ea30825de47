"""QMP's way to the human monitor: what `human-monitor-command` has executed (`System.human`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System


def lines_of(system: System) -> Callable[[str, Client, int | None], str | Deferred]:
    """What executes a line for a client of this machine, and gives what it prints, be it later.

    Each line is said at a monitor of its own, which may be told the CPU that it looks at.
    """

    def execute(line: str, client: Client, cpu: int | None) -> str | Deferred:
        from qmpd.human.monitor import execute_line

        return execute_line(system, line, client=client, choices={} if cpu is None else {"cpu": cpu})

    return execute
