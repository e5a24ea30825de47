"""What a virtual machine is started with, in the words of QEMU's command line.

All of it is frozen: any number of machines may be made of the same settings, and what happens to one of them changes
nothing of the others.  Whoever wants other settings makes them with `dataclasses.replace`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qmpd.machine.boards import Board, board_of

if TYPE_CHECKING:
    from qmpd.machine.behaviour import CoreBehaviour


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


class Firmware(enum.StrEnum):
    """What runs first in a guest.

    `seabios` resets the machine once more by itself whenever it finds, after a reset, that it has run before;
    `once` does not; with `none` the operating system starts at once.
    """

    SEABIOS = "seabios"
    ONCE = "once"
    NONE = "none"


class GuestAction(enum.StrEnum):
    """What a guest can do when something happens to it.

    `panic` and `crash-load` need the device pvpanic, `watchdog` (it lets the watchdog expire) ib700 or i6300esb,
    `debug-exit` isa-debug-exit; without the device a panicked guest halts and the others have no effect.
    """

    NONE = "none"
    HALT = "halt"
    REBOOT = "reboot"
    TRIPLE_FAULT = "triple-fault"
    SHUTDOWN = "shutdown"
    SUSPEND = "suspend"
    HIBERNATE = "hibernate"
    PANIC = "panic"
    CRASH_LOAD = "crash-load"
    WATCHDOG = "watchdog"
    DEBUG_EXIT = "debug-exit"
    INTERNAL_ERROR = "internal-error"

    @classmethod
    def _missing_(cls, value: object) -> GuestAction | None:
        """`ignore` is another word for `none`."""
        return cls.NONE if value == "ignore" else None


class GuestWakeup(enum.StrEnum):
    """How a guest goes on when it is woken: where it slept, or, where it left the firmware no way back, by a reset."""

    RESUME = "resume"
    REBOOT = "reboot"


class GuestUnplug(enum.StrEnum):
    """What an operating system does that is asked to let go of a device: it does, it will not, or it does not hear."""

    RELEASE = "release"
    REFUSE = "refuse"
    IGNORE = "ignore"


# What tells of ways to sleep that a guest is not to be offered, of the board's power device.
_DISABLING = {GuestAction.SUSPEND: "disable_s3", GuestAction.HIBERNATE: "disable_s4"}


class AgentFault(enum.StrEnum):
    """What is wrong with a guest's agent.

    It hears nothing (`deaf`), since a reset or since file systems were frozen; it says something else before each
    reply (`garbage`), or half of it; or it ends where it is asked to execute a program, and is started again.
    """

    NONE = "none"
    DEAF = "deaf"
    DEAF_AFTER_RESET = "deaf-after-reset"
    DEAF_AFTER_FREEZE = "deaf-after-freeze"
    GARBAGE = "garbage"
    HALF_REPLY = "half-reply"
    CLOSE_IN_EXEC = "close-in-exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSettings:
    """What the virtual guest is like (`-guest`); times are in nanoseconds of the machine's own time.

    `firmware_resets` are the least and the greatest number of resets that SeaBIOS adds to one (on busy computers real
    ones add one more now and then); None: what the release most often shows.  Without
    `operating_system` the firmware finds nothing to boot.  `boot_time` passes between the firmware's end and
    `on_boot`, after which the operating system runs and heeds the power button (`on_powerdown`, after
    `powerdown_delay`), the sleep button (`on_sleep`) and NMIs (`on_nmi`).  `sleep_time` after it was suspended
    the guest's own alarm wakes it; None: it does not.  `debug_exit_value` is what `debug-exit` writes.  `on_unplug` is
    what `device_del` makes the operating system do, after `unplug_delay`; `balloon` whether it does with as much memory
    as the balloon leaves it, after `balloon_delay`; `balloon_stats` whether it tells the balloon's statistics.

    With `agent` the operating system has QEMU's guest agent, at the virtio-serial port of its name or at the device
    `agent_device`; it opens the port `agent_boot_time` after the operating system runs, and takes `agent_reply_delay`
    for each reply.  What is written to the port before waits for it, or is lost (`agent_early_lost`).  `agent_fault` is
    what is wrong with it.  The files of the guest begin with what is in the folder `agent_root` of the host's.

    `script` is the path of the file that says what the guest prints and answers, and `script_text` what is in it
    (`qmpd.guest.script`); `on_ctrl_alt_delete` is what these keys make the guest do.

    Of its memory `memory_used` bytes hold something, beside what was loaded there; while it runs it writes to
    `dirty_rate` bytes of them each second.  Migrations and `calc-dirty-rate` look at that.

    A guest with an `on_boot` action is a boot sector rather than an operating system: where not said otherwise
    it heeds no button and cannot resume, as the recorded guests.  Any other shuts down when the power button is
    pressed, is suspended by the sleep button, and resumes.
    """

    firmware: Firmware = Firmware.SEABIOS
    firmware_resets: tuple[int, int] | None = None
    operating_system: bool = True
    boot_time: int = 0
    on_boot: GuestAction = GuestAction.NONE
    on_powerdown: GuestAction | None = None
    powerdown_delay: int = 0
    on_sleep: GuestAction | None = None
    on_nmi: GuestAction = GuestAction.NONE
    on_wakeup: GuestWakeup | None = None
    sleep_time: int | None = None
    debug_exit_value: int = 5
    on_unplug: GuestUnplug | None = None
    unplug_delay: int = 0
    balloon: bool | None = None
    balloon_delay: int = 0
    balloon_stats: bool = False
    failover: bool | None = None
    agent: bool = False
    agent_device: str | None = None
    agent_boot_time: int = 0
    agent_reply_delay: int = 0
    agent_early_lost: bool = False
    agent_fault: AgentFault = AgentFault.NONE
    agent_root: str | None = None
    script: str | None = None
    script_text: str = ""
    on_ctrl_alt_delete: GuestAction | None = None
    memory_used: int = 0
    dirty_rate: int = 0

    def powerdown_action(self) -> GuestAction:
        """What the power button makes the operating system do."""
        if self.on_powerdown is not None:
            return self.on_powerdown
        return GuestAction.SHUTDOWN if self.on_boot is GuestAction.NONE else GuestAction.NONE

    def keys_action(self) -> GuestAction:
        """What Ctrl-Alt-Delete makes the operating system do."""
        if self.on_ctrl_alt_delete is not None:
            return self.on_ctrl_alt_delete
        return GuestAction.REBOOT if self.on_boot is GuestAction.NONE else GuestAction.NONE

    def sleep_action(self) -> GuestAction:
        """What the sleep button makes the operating system do."""
        if self.on_sleep is not None:
            return self.on_sleep
        return GuestAction.SUSPEND if self.on_boot is GuestAction.NONE else GuestAction.NONE

    def wakeup(self) -> GuestWakeup:
        """How the guest goes on when it is woken."""
        if self.on_wakeup is not None:
            return self.on_wakeup
        return GuestWakeup.RESUME if self.on_boot is GuestAction.NONE else GuestWakeup.REBOOT

    def unplug_answer(self) -> GuestUnplug:
        """What the operating system does that is asked to let go of a device."""
        if self.on_unplug is not None:
            return self.on_unplug
        return GuestUnplug.RELEASE if self.on_boot is GuestAction.NONE else GuestUnplug.IGNORE

    def takes_pairs(self) -> bool:
        """Whether the operating system's driver takes failover pairs of network cards."""
        return self.on_boot is GuestAction.NONE if self.failover is None else self.failover

    def heeds_balloon(self) -> bool:
        """Whether the operating system does with as much memory as it is asked to."""
        return self.on_boot is GuestAction.NONE if self.balloon is None else self.balloon


FIRMWARE_ALONE = GuestSettings(operating_system=False)
"""The guest of a machine that has nothing to boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CPUTopology:
    """`-smp`: how many virtual CPUs there are and how they are arranged; all counts, no unit."""

    cpus: int = 1
    maximum: int = 1
    sockets: int = 1
    dies: int = 1
    clusters: int = 1
    modules: int = 1
    cores: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One `-device`: the driver and its properties, as they were spelled.

    `location` is the option that asked for it (`-device e1000,addr=5`), for messages; it may be empty.
    """

    driver: str
    properties: Mapping[str, str] = field(default_factory=dict)
    location: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One `-global`: what a property of all devices of the type `driver`, or of one derived from it, begins with."""

    driver: str
    name: str
    value: str


class Place(enum.StrEnum):
    """What a board's own device is to the board, in the order in which boards make them."""

    SCREEN = "screen"
    PORT = "port"
    CARD = "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPart:
    """A device that the board makes for itself because of `-vga`, `-serial`, `-nic` and the like, or by default."""

    place: Place
    driver: str
    properties: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """Everything about a virtual machine that its command line decides.

    `machine_type` is `none`, or `pc` for each machine that has CPUs; `machine_name` is the type's full name
    (`pc-i440fx-7.2`), empty where the release's own is meant.  `objects`, `netdevs` and `blockdevs` are what the
    commands object-add, netdev_add and blockdev-add would be given, in the line's order; `drives` the pairs of each
    `-drive`.  `kvm` says whether the machine claims to be accelerated by KVM, `usb` whether
    the board has a USB controller (`-usb`).  `qtest_log` is the
    file that the qtest protocol is logged to, None for standard error.

    `memory` is in bytes, and so is `memory_limit`, which it may become when memory is plugged into the `memory_slots`
    (0 where none may).  `cpu_model` is the model of `-cpu`, without its features.  `incoming` is the URI of
    `-incoming` (`defer` for one that `migrate-incoming` will give) or None.  `run_state` is the one that the machine is
    found in when it begins, as a copy of another; None where it begins as any other does.  `reboot_reset` turns a
    reset into a shutdown that is announced as RESET (the live-update line's `reboot-reset`).  `guest` is None where
    there is nothing to boot; machine `none` has no guest at all.
    """

    machine_type: str = "pc"
    memory: int = 128 << 20
    memory_slots: int = 0
    memory_limit: int = 0
    # The file that the memory is in (`-mem-path`), and whether all of it is had at once (`-mem-prealloc`).
    memory_path: str | None = None
    memory_prealloc: bool = False
    cpu_model: str = "qemu64"
    topology: CPUTopology = field(default_factory=CPUTopology)
    name: str | None = None
    uuid: str | None = None
    start_paused: bool = False
    preconfig: bool = False
    incoming: str | None = None
    # Nothing that hinders a migration may be in it (`-only-migratable`).
    only_migratable: bool = False
    run_state: str | None = None
    reboot: RebootAction = RebootAction.RESET
    shutdown: ShutdownAction = ShutdownAction.POWEROFF
    panic: PanicAction = PanicAction.SHUTDOWN
    watchdog: WatchdogAction = WatchdogAction.RESET
    reboot_reset: bool = False
    guest: GuestSettings | None = None
    devices: tuple[Device, ...] = ()
    presets: tuple[Preset, ...] = ()
    board_parts: tuple[BoardPart, ...] = ()
    machine_name: str = ""
    objects: tuple[Mapping[str, object], ...] = ()
    netdevs: tuple[Mapping[str, object], ...] = ()
    blockdevs: tuple[Mapping[str, object], ...] = ()
    drives: tuple[Mapping[str, str], ...] = ()
    kvm: bool = False
    usb: bool = False
    qtest_log: str | None = None
    # The snapshot that it begins with; None for none.
    load_snapshot: str | None = None
    # The NUMA node of each CPU that may be there, None for none; empty where there are no nodes.
    cpu_nodes: tuple[int | None, ...] = ()
    # What `-cpu` sets of the model's properties, as it was spelled; and the features of the model and of these that the
    # accelerator lacks, in QEMU's order, None where they are the model's own.
    cpu_properties: Mapping[str, str] = field(default_factory=dict)
    cpu_unavailable: tuple[str, ...] | None = None
    # Properties that `-machine` gives, as they were spelled.
    machine_options: Mapping[str, str] = field(default_factory=dict)
    # The letters of `-boot order=` and `once=`, and whether the firmware offers a menu.
    boot_order: str = ""
    boot_once: str = ""
    boot_menu: bool = False
    # All that `-boot` says, as the machine's property of that name has it.
    boot: Mapping[str, object] = field(default_factory=dict)
    # What the guest's clock shows as the machine begins, in microseconds since the epoch; None for the computer's time.
    clock_start: int | None = None
    # How many microseconds it is ahead of the computer's from then on, and of that since the guest has set it.
    clock_base: int = 0
    clock_change: int = 0
    # The id of each VNC display, and whether it asks for a password.
    vnc: tuple[tuple[str, bool], ...] = ()
    # The ids that lists of options for character devices have; the human monitor takes none of them again.
    chardev_ids: tuple[str, ...] = ()

    # What each `-numa` and `set-numa-node` said, in the order in which they did.
    numa: tuple[Mapping[str, object], ...] = ()
    # How much memory each NUMA node has, in bytes.
    node_memory: tuple[int, ...] = ()

    def begun_at(self, now: int) -> MachineSettings:
        """The same for a machine that begins at this time of day, in microseconds since the epoch."""
        if self.clock_start is None:
            return self
        return replace(self, clock_start=None, clock_base=self.clock_start - now)

    @property
    def board(self) -> Board:
        """What kind of board it has."""
        return board_of(self.machine_name or self.machine_type)

    @property
    def has_parts(self) -> bool:
        """Whether anything is given to it beside what it is made of."""
        given = (self.devices, self.objects, self.netdevs, self.blockdevs, self.drives)
        return self.usb or any(given)

    def has_seabios(self, behaviour: CoreBehaviour) -> bool:
        """Whether its firmware is SeaBIOS."""
        own = "firmware" in self.machine_options or any(each.get("if") == "pflash" for each in self.drives)
        board = self.board
        return (board.has_seabios or (board.may_have_seabios and behaviour.microvm_has_seabios)) and not own

    def prints_on_port(self, behaviour: CoreBehaviour) -> bool:
        """Whether SeaBIOS prints on the first serial port, too, as if there were no screen."""
        return self.machine_options.get("graphics") in ("off", "no", "n", "false") and self.has_seabios(behaviour)

    @property
    def acpi(self) -> bool:
        """Whether the board has an ACPI device; q35's chipset has it whatever `acpi=off` says (measured)."""
        return self.board.has_acpi and (self.board.keeps_acpi or self.acpi_tables)

    @property
    def acpi_tables(self) -> bool:
        """Whether the guest finds ACPI's tables, where the board has any: `acpi=off` takes them away."""
        return self.machine_options.get("acpi") not in ("off", "no", "n", "false")

    @property
    def wakes(self) -> bool:
        """Whether a suspended guest could be woken: microvm's ACPI device knows nothing of sleep."""
        return self.board.wakes and self.acpi

    def offers(self, action: GuestAction) -> bool:
        """Whether the firmware lets a guest do that: its tables need not offer ACPI's S3 and S4."""
        name = _DISABLING.get(action)
        return name is None or not self._is_disabled(name)

    def _is_disabled(self, name: str) -> bool:
        """Whether a number of the board's power device was set to another than 0, the last time that it was."""
        values = [each.value for each in self.presets if (each.driver, each.name) == (self.board.power_device, name)]
        try:
            return bool(values) and int(values[-1], 0) != 0
        except ValueError:
            return False

    def node_of_cpu(self, index: int) -> int | None:
        """The NUMA node that CPU number `index` is in, if any."""
        if self.cpu_nodes:
            return self.cpu_nodes[index]
        # Memory that is plugged in takes a node, and so there is one.
        return 0 if self.memory_slots else None
