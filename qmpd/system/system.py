"""One virtual machine whole, without input or output: what every door is given.

A door (QMP, the human monitor, qtest, the control socket, the command line) reads what is asked in its own language
and calls what is here.  What it shares with the others is here too: the run-state core, the inventory of objects and
devices, the character devices, the open files, and how the machine's main loop ended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from qmpd.machine import Machine, MachineError
from qmpd.machine.machine import ignore_event, ignore_report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qmpd.hardware.devices import Devices
    from qmpd.hardware.inventory import Inventory
    from qmpd.hardware.user_objects import Objects
    from qmpd.machine import Clock, MachineSettings
    from qmpd.qapi import Release
    from qmpd.qom.tree import ObjectTree
    from qmpd.system.chardev import Chardev, ChardevHost
    from qmpd.system.descriptors import Descriptors
    from qmpd.system.live_update import Updater
    from qmpd.system.threads import Threads

_CPU_THREAD = "CPU {}/{}"
_OBJECT_THREAD = "IO {}"


class Client(Protocol):
    """Who is connected to a character device of the machine."""

    label: str

    def sever(self, reason: str) -> None:
        """Close the connection at once."""


class System:
    """One machine.  `wake` is called when its main loop has something to do, `report` with what goes to standard error.

    `clients` are those that are connected, `exit_status` is set once the main loop has ended.  What only a server has
    is None where there is none: `chardev_host` opens character devices, `threads` stand behind CPUs, `updater` carries
    out live updates.
    """

    __slots__ = (
        "chardev_host",
        "chardevs",
        "clients",
        "clock",
        "descriptors",
        "exit_status",
        "machine",
        "migration_capabilities",
        "modules_loaded",
        "release",
        "report_defect",
        "settings",
        "threads",
        "updater",
    )

    def __init__(
        self,
        release: Release,
        settings: MachineSettings,
        clock: Clock,
        wake: Callable[[], None],
        chardevs: list[Chardev] | None = None,
        report: Callable[[str], None] = ignore_report,
    ) -> None:
        self.release = release
        self.settings = settings
        self.clock = clock
        self.chardevs = chardevs if chardevs is not None else []
        self.clients: Collection[Client] = ()
        self.chardev_host: ChardevHost | None = None
        self.threads: Threads | None = None
        self.updater: Updater | None = None
        # The open files that clients have handed over; None where none was.
        self.descriptors: Descriptors | None = None
        # The capabilities of migration that were set; None where none was.
        self.migration_capabilities: dict[str, bool] | None = None
        # Whether some command has made QEMU load all its modules; a process that takes over has not.
        self.modules_loaded = False
        self.exit_status: int | None = None
        # Who is told what qmpd itself fails at.
        self.report_defect = report
        self.machine = Machine(settings, release.behaviour, clock, ignore_event, wake, report)

    # The main loop

    def turn(self) -> None:
        """Let the main loop look at what is pending, once."""
        status = self.machine.turn()
        if status is not None and self.exit_status is None:
            self.exit_status = status

    # What the machine is made of

    @property
    def inventory(self) -> Inventory:
        """The machine's inventory; built when it is first asked for, with what the command line gave the machine.

        What cannot be had is left out: whoever reads a command line refuses it before (`qmpd.system.build.check`).
        """
        inventory = self.machine.inventory
        if inventory is None:
            from qmpd.system.build import build

            inventory = build(self.release, self.machine, self.chardevs, self.is_connected)
        return inventory

    @property
    def built(self) -> Inventory | None:
        """The machine's inventory, where somebody has asked for it."""
        return self.machine.inventory

    @property
    def is_bare(self) -> bool:
        """Whether the machine has nothing but what it is made of, and nobody has asked for its objects."""
        from qmpd.system.build import has_parts

        return self.built is None and not has_parts(self.settings)

    @property
    def has_known_objects(self) -> bool:
        """Whether anything is known of the objects of machines of this type; where not, none can be added either."""
        try:
            _ = self.tree
        except MachineError:
            return False
        return True

    @property
    def tree(self) -> ObjectTree:
        """The tree of the machine's objects.

        :raise MachineError: nothing is known of the objects of machines of this type.
        """
        from qmpd.system.build import show_chardevs

        inventory = self.inventory
        try:
            tree = inventory.tree
        except LookupError as error:
            if not self.release.hardware:
                raise MachineError(
                    f"qmpd does not know what the machines of release {self.release.name} are made of: "
                    "qmpd capture --hardware finds out"
                ) from None
            raise MachineError(f"qmpd does not know the objects of machine {error.args[0]}") from None
        show_chardevs(inventory, self.chardevs, self.is_connected)
        return tree

    @property
    def devices(self) -> Devices:
        """The machine's devices.

        :raise MachineError: nothing is known of the objects of machines of this type.
        """
        _ = self.tree
        return self.inventory.devices

    @property
    def objects(self) -> Objects:
        """The objects that users made.

        :raise MachineError: nothing is known of the objects of machines of this type.
        """
        _ = self.tree
        return self.inventory.objects

    def is_connected(self, label: str) -> bool:
        """Whether somebody is connected to the character device of this name."""
        return any(client.label == label for client in self.clients)

    # Threads of the host: their numbers are told to clients, who pin them

    def cpu_thread(self, index: int) -> int:
        """The thread of CPU number `index`; where there are none, numbers follow the process's own."""
        if self.threads is None:
            return os.getpid() + 1 + index
        return self.threads.number(_CPU_THREAD.format(index, "KVM" if self.settings.kvm else "TCG"))

    def iothread(self, name: str, index: int) -> int:
        """The thread of an iothread; where there are none, numbers follow those of the CPUs."""
        if self.threads is None:
            return os.getpid() + 1 + self.settings.topology.maximum + index
        return self.threads.number(_OBJECT_THREAD.format(name))

    def end_iothread(self, name: str) -> None:
        """An object is gone, which may have been an iothread."""
        if self.threads is not None:
            self.threads.end(_OBJECT_THREAD.format(name))
