"""QAPI module `run-state`, and the commands that ask the main loop for something."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.machine import RunState, ShutdownCause
from qmpd.machine.blueprint import PanicAction, RebootAction, ShutdownAction, WatchdogAction
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.wire import Encoded, encode

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _status(state: RunState, singlestep: bool) -> Encoded:
    # In the order of StatusInfo: two of the names share a bucket of QEMU's dictionary.
    value: dict[str, object] = {"running": state is RunState.RUNNING}
    if singlestep:
        value["singlestep"] = False
    value["status"] = str(state)
    return Encoded(encode(value))


_STATUS = {singlestep: {state: _status(state, singlestep) for state in RunState} for singlestep in (False, True)}


# Looking a value up is four times as fast as calling its class.
_REBOOT = {str(action): action for action in RebootAction}
_SHUTDOWN = {str(action): action for action in ShutdownAction}
_PANIC = {str(action): action for action in PanicAction}
_WATCHDOG = {str(action): action for action in WatchdogAction}


@command("query-status")
def query_status(system: System, session: Client, arguments: Arguments) -> object:
    return _STATUS[system.release.behaviour.singlestep_in_status][system.machine.state]


@command("stop")
def stop(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.stop()
    return EMPTY


@command("cont")
def cont(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.cont()
    return EMPTY


@command("system_reset")
def system_reset(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.system_reset(ShutdownCause.HOST_QMP_SYSTEM_RESET)
    return EMPTY


@command("system_powerdown")
def system_powerdown(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.system_powerdown()
    return EMPTY


@command("system_wakeup")
def system_wakeup(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.system_wakeup()
    return EMPTY


@command("inject-nmi")
def inject_nmi(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.inject_nmi()
    return EMPTY


@command("set-action")
def set_action(system: System, session: Client, arguments: Arguments) -> object:
    actions = cast("dict[str, str]", arguments)
    system.machine.set_action(
        reboot=_REBOOT[actions["reboot"]] if "reboot" in actions else None,
        shutdown=_SHUTDOWN[actions["shutdown"]] if "shutdown" in actions else None,
        panic=_PANIC[actions["panic"]] if "panic" in actions else None,
        watchdog=_WATCHDOG[actions["watchdog"]] if "watchdog" in actions else None,
    )
    return EMPTY


@command("watchdog-set-action")
def watchdog_set_action(system: System, session: Client, arguments: Arguments) -> object:
    system.machine.watchdog_set_action(_WATCHDOG[cast("str", arguments["action"])])
    return EMPTY
