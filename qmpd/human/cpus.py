"""The CPU that a human monitor looks at (`cpu`), and all of them (`info cpus`).  (Asked of releases 5.2 to 11.1.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.human.asking import answer
from qmpd.human.declared import declare, read
from qmpd.monitor.commands.machine import cpus

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System

_ARGUMENTS = declare("index:integer")
_CPU, _INDEX = "cpu", "cpu-index"


def _cpu(system: System, line: Line) -> str:
    index = read(line, _ARGUMENTS)["index"]
    if index not in cpus(system):
        return "invalid CPU index\n"
    line.choices[_CPU] = index
    return ""


def _cpus(system: System, line: Line) -> str:
    """One that was chosen and has been taken out is looked at no more."""
    line.end()
    known: list[dict[str, Any]] = answer(system, "query-cpus-fast")
    chosen = next((each for each in known if each[_INDEX] == line.choices.get(_CPU)), known[0] if known else None)
    model = f" model={system.settings.cpu_model}" if system.release.behaviour.cpu_info_qom_type else ""
    return "".join(
        f"{'*' if each is chosen else ' '} CPU #{each[_INDEX]}: thread_id={each['thread-id']}{model}\n"
        for each in known
    )


PARTS: dict[str, Part] = {"cpu": _cpu}
"""The commands, by their names."""

INQUIRIES: dict[str, Part] = {"cpus": _cpus}
"""What `info` shows, by the words after it."""
