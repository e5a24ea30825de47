"""What a virtual machine is started with, in the words of QEMU's command line."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class RebootAction(enum.StrEnum):
    """What a reset does (`-action reboot=`, `-no-reboot`; QAPI `RebootAction`)."""

    RESET = "reset"
    SHUTDOWN = "shutdown"


class ShutdownAction(enum.StrEnum):
    """What a shutdown does (`-action shutdown=`, `-no-shutdown`; QAPI `ShutdownAction`)."""

    POWEROFF = "poweroff"
    PAUSE = "pause"


class PanicAction(enum.StrEnum):
    """What a guest's panic does (`-action panic=`; QAPI `PanicAction`)."""

    PAUSE = "pause"
    SHUTDOWN = "shutdown"
    EXIT_FAILURE = "exit-failure"
    NONE = "none"


class WatchdogAction(enum.StrEnum):
    """What an expired watchdog does (`-watchdog-action`; QAPI `WatchdogAction`)."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    DEBUG = "debug"
    NONE = "none"
    INJECT_NMI = "inject-nmi"


@dataclass(slots=True, kw_only=True)
class CPUTopology:
    """`-smp`: how many virtual CPUs there are and how they are arranged; all counts, no unit."""

    cpus: int = 1
    maximum: int = 1
    sockets: int = 1
    dies: int = 1
    clusters: int = 1
    cores: int = 1
    threads: int = 1


@dataclass(slots=True, kw_only=True)
class Device:
    """One `-device`: the driver and its properties, as they were spelled."""

    driver: str
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MachineSettings:
    """Everything about a virtual machine that its command line decides.

    `memory` is in bytes.  `incoming` is the URI of `-incoming` (`defer` for one that
    `migrate-incoming` will give) or None.  `reboot_reset` turns a reset into a shutdown that is announced as
    RESET (the live-update line's `reboot-reset`).
    """

    machine_type: str = "pc"
    memory: int = 128 << 20
    topology: CPUTopology = field(default_factory=CPUTopology)
    name: str | None = None
    uuid: str | None = None
    start_paused: bool = False
    preconfig: bool = False
    incoming: str | None = None
    reboot: RebootAction = RebootAction.RESET
    shutdown: ShutdownAction = ShutdownAction.POWEROFF
    panic: PanicAction = PanicAction.SHUTDOWN
    watchdog: WatchdogAction = WatchdogAction.RESET
    reboot_reset: bool = False
    devices: list[Device] = field(default_factory=list)
