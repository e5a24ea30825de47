"""qmpd in tests: VMs in the test's own process or in one of their own, and assertions about what was sent to them.

    from qmpd.testing import start

    with start(guest="boot-time=2s", clock="virtual") as vm:
        watcher = MyWatcher(vm.qmp_path)
        vm.clock.advance(2)
        vm.guest.reboot()
        vm.assert_sent("query-status")

The pytest fixture `qmpd` (`qmpd.testing.plugin`) does the same and closes the VMs by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmpd.control.errors import ControlError
    from qmpd.testing.factory import VMFactory
    from qmpd.testing.patterns import Command, CommandPattern, Event, command
    from qmpd.testing.settings import StartError
    from qmpd.testing.starting import start
    from qmpd.testing.vm import VM, WaitTimeoutError

__all__ = [
    "VM",
    "Command",
    "CommandPattern",
    "ControlError",
    "Event",
    "StartError",
    "VMFactory",
    "WaitTimeoutError",
    "command",
    "start",
]

_HOMES = {
    "VM": "qmpd.testing.vm",
    "VMFactory": "qmpd.testing.factory",
    "Command": "qmpd.testing.patterns",
    "CommandPattern": "qmpd.testing.patterns",
    "ControlError": "qmpd.control.errors",
    "Event": "qmpd.testing.patterns",
    "StartError": "qmpd.testing.settings",
    "WaitTimeoutError": "qmpd.testing.vm",
    "command": "qmpd.testing.patterns",
    "start": "qmpd.testing.starting",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: pytest loads this package at the start of every run, whether it is used or not."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
