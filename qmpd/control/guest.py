"""Playing the guest: what runs on the vCPUs does what it is told."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from qmpd.common.refusals import NotModelled
from qmpd.control.addresses import Address, number
from qmpd.control.declaration import command
from qmpd.control.errors import ControlError
from qmpd.control.guest_disks import DiskGuest
from qmpd.control.guest_options import GuestOptions, changes, options
from qmpd.control.times import Time, nanoseconds, seconds
from qmpd.control.values import MISSING
from qmpd.guest.phases import GuestPhase
from qmpd.machine import GuestAction, RunState, WakeupReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.nodes import Drive
    from qmpd.debugger.target import Target
    from qmpd.guest.course import Guest
    from qmpd.guest.side import GuestSide


_LARGEST_ACCESS = 4096
"""Bytes that a CPU may read or write at once, for `guest-access-memory`."""


class IoOperation(enum.StrEnum):
    """What went wrong (QAPI `IoOperationType`)."""

    READ = "read"
    WRITE = "write"


class ErrorAction(enum.StrEnum):
    """What becomes of it (QAPI `BlockErrorAction`): the drive's `werror` or `rerror`."""

    IGNORE = "ignore"
    REPORT = "report"
    STOP = "stop"


class RxState(enum.StrEnum):
    """What a network card lets through of one kind (QAPI `RxState`)."""

    NORMAL = "normal"
    NONE = "none"
    ALL = "all"


class MemoryAccess(enum.StrEnum):
    """What a CPU does with memory."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class DebuggerStop:
    """Whether a breakpoint or watchpoint of a debugger's has stopped the machine."""

    stopped: bool


@dataclass(frozen=True, slots=True)
class ScreenText:
    """What is on the guest's screen: its lines as far as there is something, and where the cursor is.

    `lit`: somebody has set the screen's mode; until then there is nothing.
    """

    lit: bool
    lines: list[str]
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class GuestStep:
    """A step of the guest's course that a timer stands for: its name, and the seconds until it is due."""

    step: str
    remaining: float


@dataclass(frozen=True, slots=True)
class GuestState:
    """Where the guest is: `steps` are those that are under way, `options` what it is like.

    `wakeup_reason` is what last woke it, if anything has.
    """

    phase: GuestPhase
    run_state: RunState
    firmware_has_run: bool
    steps: list[GuestStep]
    options: GuestOptions
    wakeup_reason: WakeupReason | None = None


class GuestControl(DiskGuest):
    """The guest's actions.  All but `wake`, `query` and `set` take a guest that runs, as in a real machine.

    Each raises ControlError where the machine has no guest, and MachineError where the guest cannot.
    """

    __slots__ = ()

    @property
    def _guest(self) -> Guest:
        guest = self._stage.host.system.guest
        if guest is None:
            raise ControlError("the machine has no guest")
        return guest

    @command("guest-reboot")
    def reboot(self) -> None:
        """Reset the machine by the keyboard controller, as a guest that reboots."""
        self._guest.reboot()

    @command("guest-triple-fault")
    def triple_fault(self) -> None:
        """Reset the machine by a triple fault."""
        self._guest.act(GuestAction.TRIPLE_FAULT)

    @command("guest-shut-down")
    def shut_down(self) -> None:
        """Power off (ACPI S5)."""
        self._guest.shut_down()

    @command("guest-hibernate")
    def hibernate(self) -> None:
        """Save to disk and power off (ACPI S4)."""
        self._guest.hibernate()

    @command("guest-suspend")
    def suspend(self) -> None:
        """Sleep (ACPI S3)."""
        self._guest.suspend()

    @command("guest-wake")
    def wake(self, reason: WakeupReason | str = WakeupReason.OTHER) -> None:
        """Wake a suspended guest, as a device does; the reason is told to the guest alone."""
        self._guest.wake(WakeupReason(reason))

    @command("guest-halt")
    def halt(self) -> None:
        """Halt for good: the guest runs on and heeds nothing any more."""
        self._guest.act(GuestAction.HALT)

    @command("guest-panic")
    def panic(self, info: Any = MISSING) -> None:
        """Panic; takes the device pvpanic, `info` is QAPI's GuestPanicInformation."""
        self._guest.panic(_panic_information(info))

    @command("guest-crash-load")
    def crash_load(self, info: Any = MISSING) -> None:
        """Panic and go on in the crash kernel; takes the device pvpanic."""
        self._guest.crash_load(_panic_information(info))

    @command("guest-expire-watchdog")
    def expire_watchdog(self) -> None:
        """Let the watchdog expire; takes the device ib700 or i6300esb."""
        self._guest.watchdog_expire()

    @command("guest-debug-exit")
    def debug_exit(self, value: int) -> None:
        """Write `value` (0 to 255) to isa-debug-exit."""
        if not 0 <= value <= 255:
            raise ControlError("'value' is a number from 0 to 255")
        self._guest.debug_exit(value)

    @command("guest-internal-error")
    def internal_error(self) -> None:
        """Stop with an internal error of the accelerator."""
        self._guest.internal_error()

    @command("guest-io-error")
    def io_error(
        self,
        device: str,
        operation: IoOperation | str = IoOperation.WRITE,
        action: ErrorAction | str = ErrorAction.STOP,
        reason: str = "Input/output error",
        nospace: bool = False,
        node_name: str | None = None,
        qom_path: str | None = None,
    ) -> None:
        """Meet an I/O error of a drive: BLOCK_IO_ERROR, and a stop in `io-error` where the action says so.

        `device` is the drive's name; a release whose event has the path of the drive's device gets `qom_path`,
        `/machine/peripheral/` and the name by default.
        """
        release = self._stage.release
        event = release.introspection.event("BLOCK_IO_ERROR")
        members = {member.name for member in release.introspection.object(event.data).members}
        data: dict[str, object] = {
            "device": device,
            "node-name": node_name,
            "operation": str(operation),
            "action": str(action),
            "nospace": nospace,
            "reason": reason,
            "qom-path": qom_path or f"/machine/peripheral/{device}",
        }
        disk = next((each for each in self._drives() if device and device in (each.name, each.qdev)), None)
        if disk is not None and action == ErrorAction.STOP and disk.io_status == "ok":
            disk.io_status = "nospace" if nospace else "failed"
        self._guest.io_error({name: data[name] for name in data if name in members and data[name] is not None})

    def _drives(self) -> list[Drive]:
        system = self._stage.host.system
        return [] if system.is_bare else system.inventory.backends.block.drives

    # A debugger's breakpoints

    @property
    def _target(self) -> Target:
        from qmpd.debugger.session import stub_of

        self._guest.require_running()
        stub = stub_of(self._stage.host.system)
        if stub is None:
            raise ControlError("no debugger can connect to the machine: that takes -gdb or -s")
        return stub.target

    @command("guest-reach-address")
    def reach_address(self, address: Address, cpu: int = 0) -> DebuggerStop:
        """Come to an address; where a debugger has a breakpoint there the machine stops in `debug`.

        The CPU's program counter is `address` then. Beyond 4 GiB it runs 64-bit code from now on.
        """
        return self._stop(lambda target: target.arrive(cpu, number(address)))

    @command("guest-access-memory")
    def access_memory(
        self, address: Address, access: MemoryAccess | str = MemoryAccess.WRITE, size: int = 1, cpu: int = 0
    ) -> DebuggerStop:
        """Read or write `size` bytes; where a debugger watches one of them the machine stops in `debug`."""
        from qmpd.debugger.breakpoints import Access

        if not 1 <= size <= _LARGEST_ACCESS:
            raise ControlError(f"'size' is a number from 1 to {_LARGEST_ACCESS}")
        return self._stop(lambda target: target.touch(cpu, Access(access), number(address), size))

    def _stop(self, happen: Callable[[Target], bool]) -> DebuggerStop:
        try:
            return DebuggerStop(happen(self._target))
        except LookupError as error:
            raise ControlError(f"there is no CPU {error.args[0]}") from None
        except ValueError as error:
            raise ControlError(str(error)) from None

    # Hot plug, media and cards

    @property
    def _side(self) -> GuestSide:
        from qmpd.guest.side import GuestSide

        system = self._stage.host.system
        self._guest.require_running()
        try:
            _ = system.tree
        except NotModelled as error:
            raise ControlError(error.message) from None
        return GuestSide(system.machine, system.inventory)

    @command("guest-release-device")
    def release_device(self, device: str) -> None:
        """Let go of a device, asked by device_del or unasked; `device` is its id or path."""
        self._side.release(device)

    @command("guest-refuse-device")
    def refuse_device(self, device: str, reason: str = "") -> None:
        """Refuse to let go of a device that device_del has asked for; with `reason` the machine fails at memory."""
        self._side.refuse(device, reason)

    @command("guest-negotiate-failover")
    def negotiate_failover(self, device: str) -> None:
        """Take the failover pair of a network card with `failover=on`: FAILOVER_NEGOTIATED, and its primary comes."""
        self._side.negotiate_failover(device)

    @command("guest-set-balloon")
    def set_balloon(self, size: int) -> None:
        """Do with `size` bytes of memory from now on, whatever the balloon asks for; takes a balloon."""
        self._side.set_balloon(size)

    @command("guest-report-stats")
    def report_stats(self, stats: Any) -> None:
        """Tell the balloon's statistics, and no others: `stats` is an object of numbers, such as `stat-free-memory`."""
        if not isinstance(stats, dict) or not all(type(each) is int and each >= 0 for each in stats.values()):
            raise ControlError("'stats' is an object whose members are numbers")
        self._side.report_statistics(stats)

    @command("guest-move-tray")
    def move_tray(self, device: str, open_: bool) -> None:
        """Open or close the tray of a drive."""
        self._side.move_tray(device, opened=open_)

    @command("guest-lock-tray")
    def lock_tray(self, device: str, locked: bool) -> None:
        """Keep the host from opening the tray of a drive, or no more."""
        self._side.lock_tray(device, locked=locked)

    @command("guest-set-filter")
    def set_filter(
        self,
        device: str,
        promiscuous: bool | None = None,
        broadcast_allowed: bool | None = None,
        multicast: RxState | str | None = None,
        unicast: RxState | str | None = None,
        vlan: RxState | str | None = None,
        main_mac: str | None = None,
        multicast_table: list[str] | None = None,
        unicast_table: list[str] | None = None,
        vlan_table: list[int] | None = None,
    ) -> None:
        """Change what a network card lets through (QAPI RxFilterInfo); takes a virtio card."""
        changes = {
            "promiscuous": promiscuous,
            "broadcast-allowed": broadcast_allowed,
            "multicast": multicast,
            "unicast": unicast,
            "vlan": vlan,
            "main-mac": main_mac,
            "multicast-table": multicast_table,
            "unicast-table": unicast_table,
            "vlan-table": vlan_table,
        }
        given = {name: str(value) if isinstance(value, RxState) else value for name, value in changes.items()}
        self._side.set_filter(device, {name: value for name, value in given.items() if value is not None})

    @command("guest-open-port")
    def open_port(self, device: str, open_: bool = True) -> None:
        """Open or close a virtio-serial port, as the guest's agent does."""
        self._side.open_port(device, opened=open_)

    @command("guest-set-clock")
    def set_clock(self, offset: int) -> None:
        """Set the real-time clock so many seconds off the time that it has had: RTC_CHANGE, at most one a second."""
        from qmpd.system.agent import facts_of

        self._guest.require_running()
        nanoseconds_off = offset * 1_000_000_000
        facts_of(self._stage.host.system).set_clock(nanoseconds_off)
        if self._guest.agent is not None:
            self._guest.agent.agent.model.offset = nanoseconds_off

    # Its consoles

    @command("console-expect")
    def expect(
        self,
        match: str,
        say: str = "",
        chardev: str = "",
        after: Time = 0,
        do: GuestAction | str = GuestAction.NONE,
        once: bool = False,
        expand: bool = False,
        show: str = "",
    ) -> None:
        """Answer from now on to what is typed at a character device and has this regular expression in it."""
        from qmpd.guest.script import Step, expectation

        try:
            delay = nanoseconds(after)
        except ValueError as error:
            raise ControlError(f"'after': {error}") from None
        try:
            step = Step(chardev, say.encode(), delay, GuestAction(do), show.encode())
            rule = expectation(step, match, once=once, expand=expand)
        except ValueError as error:
            raise ControlError(str(error)) from None
        self._guest.have_console().expect(rule)

    @command("guest-show")
    def show(self, text: str) -> None:
        """Print something on the guest's screen, which `screendump` takes a picture of."""
        self._guest.require_running()
        self._require_screen()
        self._guest.have_screen().say(text.encode())

    @command("query-screen")
    def screen(self) -> ScreenText:
        """Tell what is on the guest's screen."""
        guest = self._guest
        self._require_screen()
        shown = guest.have_screen().show()
        lines = shown.lines if guest.screen_is_lit else []
        while lines and not lines[-1]:
            lines.pop()
        return ScreenText(guest.screen_is_lit, lines, shown.row, shown.column)

    def _require_screen(self) -> None:
        from qmpd.system.screens import has_lit_screen

        if not has_lit_screen(self._stage.host.system):
            raise ControlError("the machine has no screen with text on it")

    @command("guest-inject-nmi")
    def inject_nmi(self) -> None:
        """Inject a non-maskable interrupt; what comes of it is the guest's option `on-nmi`."""
        self._stage.machine.inject_nmi()

    @command("guest-proceed")
    def proceed(self) -> None:
        """Let the next step of the guest's course (firmware, boot, power off, ...) be due now."""
        self._guest.proceed()

    @command("guest-set")
    def set(self, **changed: Unpack[GuestOptions]) -> None:
        """Change the guest's options, as `-guest` has them; what is under way goes on as it began."""
        try:
            self._guest.configure(**changes(changed))
        except ValueError as error:
            raise ControlError(str(error)) from None

    @command("query-guest")
    def query(self) -> GuestState:
        """Tell what the guest is doing, its next steps and its options."""
        guest = self._guest
        state: Any = guest.query()
        return GuestState(
            phase=guest.phase,
            run_state=self._stage.machine.state,
            firmware_has_run=guest.firmware_has_run,
            steps=[GuestStep(step, seconds(remaining)) for step, remaining in state["steps"].items()],
            options=options(guest.settings),
            wakeup_reason=guest.wakeup_reason,
        )


def _panic_information(info: Any) -> dict[str, object] | None:
    if info is MISSING:
        return None
    if not isinstance(info, dict):
        raise ControlError("'info' is an object (QAPI's GuestPanicInformation)")
    return info
