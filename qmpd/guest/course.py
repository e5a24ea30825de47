"""The virtual guest: what runs on the vCPUs of a machine that has a guest.

Its course is a walk through phases.  A reset puts it back to `reset`; when the vCPUs run, the firmware runs,
then the operating system boots, if there is one, and then it runs until something happens to it.  Each
step that takes time is a timer on the machine's own time, so a stopped guest makes no progress and goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmpd.guest import effects as devices
from qmpd.guest import keeping, keyboard, seabios
from qmpd.guest.parts import WithParts
from qmpd.guest.phases import BEFORE_DISKS, CLOSES_PORTS, DEVICES, FOUND, PHASE_AFTER, GuestPhase
from qmpd.machine.blueprint import (
    FIRMWARE_ALONE,
    Firmware,
    GuestAction,
    GuestSettings,
    GuestUnplug,
    GuestWakeup,
)
from qmpd.machine.errors import NOT_SUSPENDED, MachineError
from qmpd.machine.requests import ShutdownCause, WakeupReason
from qmpd.machine.run_state import LIVE, RunState

if TYPE_CHECKING:
    from qmpd.machine.machine import Machine

MILLISECOND = 1_000_000

START = 1 * MILLISECOND
"""What a start takes without firmware, and a way back out of S3, in nanoseconds."""

NOT_RUNNING = "the guest does not run"
# What a timer's name begins with that ends with a device's path.
_UNPLUG, _STANDBY = "unplug ", "failover "


class Guest(WithParts):
    """The guest of one machine.

    The machine calls the methods of the first part when something happens to the guest; those of the second
    make the guest do something and are for whoever plays it.  `settings` may be replaced at any time with
    `configure`.
    """

    __slots__ = ("_machine", "resets_due", "wakeup_reason")

    def __init__(self, machine: Machine, settings: GuestSettings | None) -> None:
        super().__init__(FIRMWARE_ALONE if settings is None else settings)
        self._machine = machine
        # How many resets SeaBIOS is still going to add to the last one.
        self.resets_due = 0
        # What last woke it out of S3; None: nothing has.
        self.wakeup_reason: WakeupReason | None = None

    # What happens to the guest.

    def vcpus_run(self) -> None:
        """The vCPUs are set going; after a reset the firmware starts."""
        if self.phase is GuestPhase.RESET:
            self._start()

    def reset(self) -> None:
        """The machine has been reset."""
        self._machine.schedule.clear(self)
        self.phase = GuestPhase.RESET
        self.keys_held.clear()
        self._tell("reset")
        if self.agent is not None:
            self.agent.reset()

    def suspended(self) -> None:
        """The machine has entered S3."""
        self._machine.schedule.clear(self)
        self.phase = GuestPhase.SUSPENDED
        self._tell("suspended")
        if self.settings.sleep_time is not None:
            self._set("alarm", self.settings.sleep_time)

    def woken(self, reason: WakeupReason) -> None:
        """The machine has left S3: the firmware runs, and hands over to the operating system if that left it a way."""
        self.wakeup_reason = reason
        self._machine.schedule.clear(self)
        if self.phase is not GuestPhase.SUSPENDED:
            return
        if self.settings.wakeup() is GuestWakeup.RESUME:
            self.phase = GuestPhase.RESUMING
            self._set("resumed", START)
        else:
            self.phase = GuestPhase.RESET

    def power_button(self) -> None:
        """The power button was pressed; only an operating system that runs heeds it."""
        self._tell("power-button")
        if self.phase is GuestPhase.RUNNING and self.settings.powerdown_action() is not GuestAction.NONE:
            self.phase = GuestPhase.SHUTTING_DOWN
            self._set("power-button", self.settings.powerdown_delay)

    def sleep_button(self) -> None:
        """The sleep button was pressed; only an operating system that runs heeds it."""
        self._tell("sleep-button")
        if self.phase is GuestPhase.RUNNING and self.settings.sleep_action() is not GuestAction.NONE:
            self._set("sleep-button", 0)

    def nmi(self) -> None:
        """A non-maskable interrupt has come."""
        self._tell("nmi")
        heeded = self.settings.on_nmi is not GuestAction.NONE
        if heeded and self.phase in (GuestPhase.RUNNING, GuestPhase.SHUTTING_DOWN):
            self._set("nmi", 0)

    def keys_pressed(self, keys: Sequence[str]) -> None:
        """These keys (QAPI QKeyCode) were pressed together and let go; a machine that is stopped loses them."""
        if self._machine.state in LIVE:
            self._observe(f"keys {'-'.join(keys)}")
            self._heed(self.keys_held.union(keys))

    def key_moved(self, key: str, *, down: bool) -> None:
        """A key was pressed, or let go."""
        self._observe(f"key {key} {'down' if down else 'up'}")
        if down:
            self.keys_held.add(key)
            self._heed(self.keys_held)
        else:
            self.keys_held.discard(key)

    def pointer_moved(self, what: str) -> None:
        """A pointing device has told of something."""
        self._observe(f"pointer {what}")

    def _observe(self, step: str) -> None:
        if self._machine.observer is not None:
            self._machine.observer.guest_step(step)

    def _heed(self, keys: Collection[str]) -> None:
        if keyboard.reboots(keys) and self.phase is GuestPhase.RUNNING:
            self._tell("ctrl-alt-delete")
            if self.settings.keys_action() is not GuestAction.NONE:
                self._set("keys", 0)
                self._machine.notify()

    @property
    def listens(self) -> bool:
        """Whether an operating system runs."""
        return self.phase is GuestPhase.RUNNING

    @property
    def uses_acpi(self) -> bool:
        """Whether what runs is an operating system, rather than a boot sector that does its one thing."""
        return self.settings.on_boot is GuestAction.NONE

    @property
    def all_cpus_run(self) -> bool:
        """Whether the first virtual CPU has set the others going: an operating system does, once it runs."""
        return self.phase in {GuestPhase.RUNNING, GuestPhase.SHUTTING_DOWN}

    def unplug_asked(self, path: str) -> None:
        """It is asked to let go of the device at this path; an operating system that does not run yet hears it then."""
        self._tell("unplug")
        if self.phase is GuestPhase.RUNNING and self.settings.unplug_answer() is not GuestUnplug.IGNORE:
            self._set(f"{_UNPLUG}{path}", self.settings.unplug_delay)

    def balloon_asked(self) -> None:
        """It is asked to do with another amount of memory; an operating system that does not run yet hears it then."""
        self._tell("balloon")
        if self.phase is GuestPhase.RUNNING and self.settings.heeds_balloon():
            self._set("balloon", self.settings.balloon_delay)

    def standby_added(self, path: str) -> None:
        """There is a card at this path that stands in for another: its driver takes the pair at once."""
        if self.phase is GuestPhase.RUNNING and self.settings.takes_pairs():
            self._set(f"{_STANDBY}{path}", 0)

    def statistics_asked(self, delay: int) -> None:
        """Its balloon asks for statistics so many nanoseconds from now."""
        if self.phase is GuestPhase.RUNNING and self.settings.balloon_stats:
            self._set("balloon-stats", delay)

    def _hear(self) -> None:
        """It runs from now on, and hears what it was asked before."""
        self.phase = GuestPhase.RUNNING
        if self._machine.parts is not None:
            self._machine.parts.ask_again()
        if self.settings.agent:
            self.have_agent()
        if self.agent is not None:
            self.agent.booted()

    def timer_due(self, name: Hashable) -> None:
        """Take a step (`qmpd.schedule.schedule.Owner`)."""
        self._step(str(name))

    def _set(self, name: str, delay: int) -> None:
        self._machine.schedule.set(self, name, delay)

    def _remaining(self) -> dict[str, int]:
        return {str(name): left for name, left in self._machine.schedule.remaining(self).items()}

    # What whoever plays the guest makes it do.

    def act(self, action: GuestAction) -> None:
        """Do what `action` says.

        :raise MachineError: the guest does not run, or the machine lacks the device.
        """
        self.require_running()
        self._require_device(action)
        self._act(action)

    def reboot(self) -> None:
        """Reset the machine by the keyboard controller.

        :raise MachineError: the guest does not run.
        """
        self.act(GuestAction.REBOOT)

    def shut_down(self) -> None:
        """Power off (ACPI S5).

        :raise MachineError: the guest does not run.
        """
        self.act(GuestAction.SHUTDOWN)

    def hibernate(self) -> None:
        """Save itself to disk and power off (ACPI S4).

        :raise MachineError: the guest does not run.
        """
        self.act(GuestAction.HIBERNATE)

    def suspend(self) -> None:
        """Sleep (ACPI S3).

        :raise MachineError: the guest does not run.
        """
        self.act(GuestAction.SUSPEND)

    def wake(self, reason: WakeupReason = WakeupReason.OTHER) -> None:
        """Be woken by a device.

        :raise MachineError: the guest is not suspended.
        """
        sleeps = self._machine.state is RunState.SUSPENDED
        self._machine.system_wakeup(reason)
        if not sleeps:
            raise MachineError(NOT_SUSPENDED)

    def panic(self, info: dict[str, object] | None = None) -> None:
        """Panic, with QAPI's `GuestPanicInformation` where there is some.

        :raise MachineError: the guest does not run, or the machine lacks pvpanic.
        """
        self.require_running()
        self._require_device(GuestAction.PANIC)
        self._stop(GuestPhase.HALTED)
        devices.guest_panicked(self._machine, info)

    def crash_load(self, info: dict[str, object] | None = None) -> None:
        """Panic, and go on in the crash kernel.

        :raise MachineError: the guest does not run, or the machine lacks pvpanic.
        """
        self.require_running()
        self._require_device(GuestAction.CRASH_LOAD)
        devices.guest_crashloaded(self._machine, info)

    def watchdog_expire(self) -> None:
        """Let the watchdog expire; it does not count while the guest sleeps or is stopped.

        :raise MachineError: the guest does not run, or the machine lacks a watchdog.
        """
        self.act(GuestAction.WATCHDOG)

    def debug_exit(self, value: int) -> None:
        """Write `value` (0 to 255) to isa-debug-exit.

        :raise MachineError: the guest does not run, or the machine lacks the device.
        """
        self.require_running()
        self._require_device(GuestAction.DEBUG_EXIT)
        self._stop(GuestPhase.STOPPING)
        devices.debug_exit(self._machine, value)

    def internal_error(self) -> None:
        """Do what a vCPU cannot execute.

        :raise MachineError: the guest does not run.
        """
        self.act(GuestAction.INTERNAL_ERROR)

    def io_error(self, data: dict[str, object]) -> None:
        """Meet an I/O error; `data` is BLOCK_IO_ERROR's, whose `action` says whether the machine stops."""
        devices.block_io_error(self._machine, data)

    def proceed(self) -> None:
        """Let the next step of the guest's course (firmware, boot, power off, ...) be due now.

        :raise MachineError: the guest does not run, or waits for nothing.
        """
        if self._machine.state not in LIVE:
            raise MachineError(NOT_RUNNING)
        remaining = self._remaining()
        if not remaining:
            raise MachineError("the guest waits for nothing")
        self._set(min(remaining, key=remaining.__getitem__), 0)
        self._machine.notify()

    def configure(self, **changes: object) -> None:
        """Change settings, by the names of `GuestSettings`; what is under way goes on as it began.

        :raise TypeError: there is no such setting.
        """
        reported = self.settings.balloon_stats
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        if not reported:
            self.statistics_asked(0)
        if "script" in changes:
            self.replace_script(self.settings.script_text)
        if self.settings.agent and self.phase is GuestPhase.RUNNING:
            self.have_agent().booted()
        elif self.agent is not None and not self.settings.agent:
            self.agent.end()

    def query(self) -> dict[str, object]:
        """The guest's state: its phase, whether the firmware has run, its steps to come and the nanoseconds to each."""
        return {
            "phase": str(self.phase),
            "firmware-has-run": self.firmware_has_run,
            "steps": self._remaining(),
        }

    def snapshot(self) -> dict[str, object]:
        """The guest as plain data."""
        return keeping.take(self, self._remaining())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the guest that `snapshot` made this of; its time stands still until the machine sets it going."""
        keeping.put(self, state)
        # A boot sector that does its one thing leaves the disks to the firmware.
        if self.phase in (GuestPhase.NOTHING_TO_BOOT, GuestPhase.BOOTING) or not (
            self.uses_acpi or self.phase in BEFORE_DISKS
        ):
            self._drive(by_firmware=self.settings.firmware is Firmware.SEABIOS)
        self._machine.schedule.clear(self)
        for name, remaining in state["timers"].items():
            self._set(name, remaining)

    def found(self, state: RunState) -> None:
        """Be the guest of a machine that is found in this run state; one that could go on starts anew."""
        phase = FOUND.get(state)
        if phase is not None:
            self.phase = phase
            self.firmware_has_run = True
            self.starts = 1

    # The course.

    def _start(self) -> None:
        self.starts += 1
        if self.settings.firmware is Firmware.NONE:
            self._boot(START)
        elif self._firmware_restarts():
            self.phase = GuestPhase.FIRMWARE_RESTART
            self._set("firmware-reset", seabios.RESET)
        elif self.resets_due > 0:
            self.phase = GuestPhase.FIRMWARE_RESTART
            self._set("firmware-reset", seabios.RESET_AGAIN)
        else:
            self.phase = GuestPhase.FIRMWARE
            self._tell(self.phase)
            self._set("firmware-note", seabios.note(self.starts))

    def _firmware_restarts(self) -> bool:
        """Whether SeaBIOS finds that it has run before, and then adds resets."""
        if not self.firmware_has_run or self.settings.firmware is not Firmware.SEABIOS:
            return False
        if not self._machine.settings.board.resets_twice:
            return False
        usual = self._machine.behaviour.firmware_resets
        self.resets_due = seabios.resets(self.settings.firmware_resets or (usual, usual), self.starts)
        return self.resets_due > 0

    def _boot(self, after: int = 0) -> None:
        self._drive(by_firmware=self.settings.firmware is Firmware.SEABIOS)
        if self.settings.operating_system:
            self.phase = GuestPhase.BOOTING
            self._tell(self.phase)
            self._set("booted", after + self.settings.boot_time)
        else:
            self.phase = GuestPhase.NOTHING_TO_BOOT
            self._tell(self.phase)

    def _drive(self, *, by_firmware: bool) -> None:
        if self._machine.parts is not None:
            self._machine.parts.driven(by_firmware=by_firmware)

    def _step(self, name: str) -> None:
        """What happens when the timer of this name is due."""
        self._observe(name)
        if name == "firmware-reset":
            self.firmware_has_run = False
            self.resets_due -= 1
            self._act(GuestAction.REBOOT)
        elif name == "firmware-note":
            self.firmware_has_run = True
            self._set("firmware-end", seabios.END - seabios.note(self.starts))
        elif name == "firmware-end":
            self._boot()
        elif name == "booted":
            if self.settings.on_boot is GuestAction.NONE:
                self._drive(by_firmware=False)
            self._hear()
            self._tell("running")
            self._act(self.settings.on_boot)
        elif name == "resumed":
            self._hear()
            self._tell("resumed")
        elif name == "power-button":
            self._hear()
            self._act(self.settings.powerdown_action())
        elif name == "sleep-button":
            self._act(self.settings.sleep_action())
        elif name == "keys":
            self._act(self.settings.keys_action())
        elif name == "nmi":
            self._act(self.settings.on_nmi)
        elif name == "balloon-stats" and self._machine.parts is not None:
            self._machine.parts.balloon_polled()
        elif name == "balloon" and self._machine.parts is not None:
            self._machine.parts.balloon_followed()
        elif name.startswith(_UNPLUG) and self._machine.parts is not None:
            releases = self.settings.unplug_answer() is GuestUnplug.RELEASE
            self._machine.parts.guest_answers(name.removeprefix(_UNPLUG), releases=releases)
        elif name.startswith(_STANDBY) and self._machine.parts is not None:
            self._machine.parts.standby_driven(name.removeprefix(_STANDBY))
        elif name == "alarm" and self._machine.state is RunState.SUSPENDED:
            self._machine.system_wakeup(WakeupReason.RTC)

    def _act(self, action: GuestAction) -> None:
        """Do what `action` says; without the device that it takes nothing comes of it."""
        machine = self._machine
        if not machine.settings.offers(action):
            return
        if (phase := PHASE_AFTER.get(action)) is not None:
            self._stop(phase)
        if self.agent is not None and action in CLOSES_PORTS:
            self.agent.leave(for_good=action is not GuestAction.SUSPEND)
        if action in DEVICES and not devices.has_device(machine, DEVICES[action]):
            return
        if action is GuestAction.REBOOT or action is GuestAction.TRIPLE_FAULT:
            machine.system_reset(ShutdownCause.GUEST_RESET)
        elif action is GuestAction.SHUTDOWN:
            machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
        elif action is GuestAction.HIBERNATE:
            devices.hibernate(machine)
        elif action is GuestAction.SUSPEND:
            machine.system_suspend()
        elif action is GuestAction.PANIC:
            devices.guest_panicked(machine)
        elif action is GuestAction.CRASH_LOAD:
            devices.guest_crashloaded(machine)
        elif action is GuestAction.WATCHDOG:
            devices.watchdog_expired(machine)
        elif action is GuestAction.DEBUG_EXIT:
            devices.debug_exit(machine, self.settings.debug_exit_value)
        elif action is GuestAction.INTERNAL_ERROR:
            devices.internal_error(machine)

    def _stop(self, phase: GuestPhase) -> None:
        """Do nothing more until something happens to the guest."""
        self._machine.schedule.clear(self)
        self.phase = phase

    def require_running(self) -> None:
        """:raise MachineError: the vCPUs do not run."""
        if self._machine.state is not RunState.RUNNING:
            raise MachineError(NOT_RUNNING)

    def _require_device(self, action: GuestAction) -> None:
        if not self._machine.settings.offers(action):
            raise MachineError(f"'{action}' is not offered to the guest by the firmware")
        if (drivers := DEVICES.get(action)) is not None and not devices.has_device(self._machine, drivers):
            raise MachineError(f"'{action}' takes a device: {' or '.join(sorted(drivers))}")
