"""The run-state core: run states, pending requests and the main loop's turn."""

from __future__ import annotations

from qmpd.machine.behaviour import CoreBehaviour
from qmpd.machine.blueprint import (
    CPUTopology,
    Device,
    Firmware,
    GuestAction,
    GuestSettings,
    GuestUnplug,
    GuestWakeup,
    MachineSettings,
    PanicAction,
    RebootAction,
    ShutdownAction,
    WatchdogAction,
)
from qmpd.machine.errors import InvalidTransition, MachineError
from qmpd.machine.events import Event
from qmpd.machine.machine import Machine
from qmpd.machine.requests import ShutdownCause, WakeupReason
from qmpd.machine.run_state import RunState, transitions
from qmpd.schedule.clock import Clock, ScaledClock, SystemClock, VirtualClock

__all__ = [
    "CPUTopology",
    "Clock",
    "CoreBehaviour",
    "Device",
    "Event",
    "Firmware",
    "GuestAction",
    "GuestSettings",
    "GuestUnplug",
    "GuestWakeup",
    "InvalidTransition",
    "Machine",
    "MachineError",
    "MachineSettings",
    "PanicAction",
    "RebootAction",
    "RunState",
    "ScaledClock",
    "ShutdownAction",
    "ShutdownCause",
    "SystemClock",
    "VirtualClock",
    "WakeupReason",
    "WatchdogAction",
    "transitions",
]
