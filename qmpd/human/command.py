"""QMP's way to the human monitor: `human-monitor-command` of QAPI module `misc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.human.monitor import execute_line
from qmpd.monitor.commands import command
from qmpd.monitor.commands.machine import has_cpus
from qmpd.monitor.errors import CommandError
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("human-monitor-command")
def human_monitor_command(system: System, session: Client, arguments: Arguments) -> object:
    """Execute a line as somebody at a terminal would; its lines end as those of a terminal."""
    cpu = arguments.get("cpu-index")
    cpus = system.settings.topology.cpus if has_cpus(system) else 0
    if cpu is not None and not 0 <= cast("int", cpu) < cpus:
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    said = execute_line(system, cast("str", arguments["command-line"]), client=session)
    if isinstance(said, Deferred):
        return said.told_as(_with_line_ends)
    return _with_line_ends(said)


def _with_line_ends(text: str) -> str:
    return text.replace("\n", "\r\n")
