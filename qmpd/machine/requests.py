"""What has been asked of the main loop and not been served yet.

QEMU's commands, devices and signal handlers do not act: they leave a note (`reset_requested`,
`shutdown_requested`, ...) and wake the main loop, whose next turn serves the notes in a fixed order.  A
second note of one kind before the turn replaces the first: two resets in one turn are one reset, with the
later cause.
"""

from __future__ import annotations

import enum

from qmpd.machine.run_state import RunState


class ShutdownCause(enum.StrEnum):
    """Why a machine is reset or shut down (QAPI `ShutdownCause`): the `reason` in RESET and SHUTDOWN."""

    NONE = "none"
    HOST_ERROR = "host-error"
    HOST_QMP_QUIT = "host-qmp-quit"
    HOST_QMP_SYSTEM_RESET = "host-qmp-system-reset"
    HOST_SIGNAL = "host-signal"
    HOST_UI = "host-ui"
    GUEST_SHUTDOWN = "guest-shutdown"
    GUEST_RESET = "guest-reset"
    GUEST_PANIC = "guest-panic"
    SUBSYSTEM_RESET = "subsystem-reset"
    SNAPSHOT_LOAD = "snapshot-load"

    @property
    def by_guest(self) -> bool:
        """Whether the guest brought it about: `guest` in the event's data."""
        return self in BY_GUEST


BY_GUEST = frozenset({
    ShutdownCause.GUEST_SHUTDOWN, ShutdownCause.GUEST_RESET, ShutdownCause.GUEST_PANIC,
    ShutdownCause.SUBSYSTEM_RESET, ShutdownCause.SNAPSHOT_LOAD,
})
"""QEMU counts every cause from `guest-shutdown` on as the guest's (`shutdown_caused_by_guest`)."""

SILENT_RESETS = frozenset({ShutdownCause.NONE, ShutdownCause.SUBSYSTEM_RESET, ShutdownCause.SNAPSHOT_LOAD})
"""The causes for which a reset emits no event (`qemu_system_reset`)."""


class WakeupReason(enum.StrEnum):
    """What woke a suspended guest (QEMU's `WakeupReason`); it is told to the guest alone, WAKEUP has no data."""

    RTC = "rtc"
    PMTIMER = "pmtimer"
    OTHER = "other"


class Requests:
    """The requests that wait for a turn, each with its cause.

    `reset_is_shutdown`: the next shutdown is announced as RESET (`reboot-reset`).  It is set by each reset that
    becomes a shutdown, and cleared where one is announced as RESET; other requests leave it as it is.
    `reset_time` is when a reset was last asked for, in microseconds since the epoch; None before the first.
    `signal` is the number of a signal and the sender's pid (0 where it is not known).
    """

    __slots__ = (
        "debug", "exit_preconfig", "powerdown", "reset", "reset_is_shutdown", "reset_time", "shutdown", "signal",
        "sleep", "suspend", "vmstop", "wakeup",
    )

    def __init__(self) -> None:
        self.debug = False
        self.suspend = False
        self.shutdown: ShutdownCause | None = None
        self.reset: ShutdownCause | None = None
        self.wakeup: WakeupReason | None = None
        self.powerdown = False
        self.sleep = False
        self.vmstop: RunState | None = None
        self.exit_preconfig = False
        self.reset_is_shutdown = False
        self.reset_time: int | None = None
        self.signal: tuple[int, int] | None = None

    def snapshot(self) -> dict[str, object]:
        """The requests as plain data: of those members that are set."""
        state: dict[str, object] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value is not False:
                state[name] = str(value) if isinstance(value, enum.StrEnum) else value
        return state

    @classmethod
    def restore(cls, state: dict[str, object]) -> Requests:
        """The requests that `snapshot` made this of."""
        requests = cls()
        for name, value in state.items():
            kind = _KINDS.get(name)
            if kind is not None:
                value = kind(str(value))
            elif name == "signal":
                value = tuple(value)  # type: ignore[arg-type]
            setattr(requests, name, value)
        return requests


_KINDS: dict[str, type[enum.StrEnum]] = {
    "shutdown": ShutdownCause,
    "reset": ShutdownCause,
    "wakeup": WakeupReason,
    "vmstop": RunState,
}
