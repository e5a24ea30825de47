"""Commands whose effect is not modelled, but some of what QEMU refuses about them is: the rest says what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.machine.run_state import RunState
from qmpd.monitor.commands.machine import cpus
from qmpd.monitor.commands.unmodelled import refusal
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

    Check = Callable[[System, Client, Arguments], None]


def _refusing(*names: str) -> Callable[[Check], Check]:
    """Register commands that only find QEMU's reason to fail."""

    def register(check: Check) -> Check:
        for name in names:

            def handler(system: System, session: Client, arguments: Arguments, name: str = name) -> object:
                check(system, session, arguments)
                raise refusal(name)

            command(name, refuses=True)(handler)
        return check

    return register


@_refusing("xen-save-devices-state")
def _save_devices(system: System, session: Client, arguments: Arguments) -> None:
    _check_folder(system, cast("str", arguments["filename"]), "device-state-file")


@_refusing("xen-load-devices-state")
def _load_devices(system: System, session: Client, arguments: Arguments) -> None:
    if system.machine.state is RunState.RUNNING:
        raise Refusal("device-state-running")


def _check_folder(system: System, path: str, code: str) -> None:
    """Refuse to write a file where there is no folder for it."""
    try:
        system.computer.check_folder(path)
    except OSError as error:
        raise Refusal(code, path=path, reason=error.strerror) from None


@_refusing("trace-event-set-state", "trace-event-get-state")
def _trace_event(system: System, session: Client, arguments: Arguments) -> None:
    name, cpu = cast("str", arguments["name"]), cast("int | None", arguments.get("vcpu"))
    if cpu is not None and cpu not in cpus(system):
        raise Refusal("trace-cpu", index=cpu)
    known = system.release.command_line.choices("trace-events")
    if "*" not in name and known and name not in known:
        raise Refusal("trace-event-missing", name=name)
