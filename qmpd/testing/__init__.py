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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.control.clock import ClockKind
    from qmpd.control.errors import ControlError
    from qmpd.control.fault_list import FaultKind, GarbageMoment, ReplyMoment
    from qmpd.control.recorder import EntryKind
    from qmpd.machine import GuestAction, WakeupReason
    from qmpd.testing.asynchronous import AsyncVM, AsyncVMFactory
    from qmpd.testing.factory import VMFactory
    from qmpd.testing.names import UnknownNameError
    from qmpd.testing.patterns import Command, CommandPattern, Event, command
    from qmpd.testing.settings import StartError
    from qmpd.testing.starting import start
    from qmpd.testing.unittest import VMTestCase
    from qmpd.testing.vm import VM, WaitTimeoutError

__all__ = [
    "VM",
    "AsyncVM",
    "AsyncVMFactory",
    "ClockKind",
    "Command",
    "CommandPattern",
    "ControlError",
    "EntryKind",
    "Event",
    "FaultKind",
    "GarbageMoment",
    "GuestAction",
    "ReplyMoment",
    "StartError",
    "UnknownNameError",
    "VMFactory",
    "VMTestCase",
    "WaitTimeoutError",
    "WakeupReason",
    "command",
    "start",
]

_HOMES = {
    "VM": "qmpd.testing.vm",
    "AsyncVM": "qmpd.testing.asynchronous",
    "AsyncVMFactory": "qmpd.testing.asynchronous",
    "ClockKind": "qmpd.control.clock",
    "Command": "qmpd.testing.patterns",
    "CommandPattern": "qmpd.testing.patterns",
    "ControlError": "qmpd.control.errors",
    "EntryKind": "qmpd.control.recorder",
    "Event": "qmpd.testing.patterns",
    "FaultKind": "qmpd.control.fault_list",
    "GarbageMoment": "qmpd.control.fault_list",
    "GuestAction": "qmpd.machine",
    "ReplyMoment": "qmpd.control.fault_list",
    "StartError": "qmpd.testing.settings",
    "UnknownNameError": "qmpd.testing.names",
    "VMFactory": "qmpd.testing.factory",
    "VMTestCase": "qmpd.testing.unittest",
    "WaitTimeoutError": "qmpd.testing.vm",
    "WakeupReason": "qmpd.machine",
    "command": "qmpd.testing.patterns",
    "start": "qmpd.testing.starting",
}

# Type checkers see the imports above, and no other names.
if not TYPE_CHECKING:

    def __getattr__(name):
        """Import what is asked for: pytest loads this package at the start of every run, whether it is used or not."""
        home = _HOMES.get(name)
        if home is None:
            from qmpd.common.suggestions import suggestion

            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{suggestion(name, __all__)}")
        import importlib

        return getattr(importlib.import_module(home), name)

    def __dir__():
        return sorted(__all__)
