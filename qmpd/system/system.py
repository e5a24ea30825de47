"""One virtual machine whole, without input or output: what every door is given.

A door (QMP, the human monitor, qtest, the control socket, the command line) reads what is asked in its own language
and calls what is here.  What it shares with the others is here too: the run-state core, the inventory of objects and
devices, the character devices, the open files, and how the machine's main loop ended.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.chardev.facts import ChardevFacts
from qmpd.common.computer import NoComputer
from qmpd.common.file_sets import set_number
from qmpd.common.refusals import NotModelled
from qmpd.guest.making import make_machine
from qmpd.machine import RunState, main_loop
from qmpd.machine.machine import ignore_event, ignore_report
from qmpd.system import ending
from qmpd.system.guest_parts import give_parts, unread_by_guest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qmpd.block.executor import Executor
    from qmpd.block.exports.exports import Exports
    from qmpd.block.jobs.jobs import Faults, Jobs
    from qmpd.chardev.device import Chardev
    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.common.computer import Computer
    from qmpd.common.refusals import Refusal
    from qmpd.guest.agent.agent import Agent
    from qmpd.guest.agent.port import Dialect
    from qmpd.hardware.devices import Devices
    from qmpd.hardware.inventory import Inventory
    from qmpd.hardware.user_objects import Objects
    from qmpd.machine import Clock, MachineSettings
    from qmpd.migration.dirty_rate import DirtyRate, Writing
    from qmpd.migration.settings import MigrationSettings
    from qmpd.qapi import Release
    from qmpd.qom.tree import ObjectTree
    from qmpd.schedule.activity import Activities
    from qmpd.system.deferred import Deferred
    from qmpd.system.descriptors import Descriptors
    from qmpd.system.disks import Disks
    from qmpd.system.dumps.dump import Dumps
    from qmpd.system.live_update import Updater
    from qmpd.system.migrations import Migrations
    from qmpd.system.ports import Host
    from qmpd.system.threads import Threads

_CPU_THREAD = "CPU {}/{}"
_OBJECT_THREAD = "IO {}"
_PATIENCE = 0.5
"""Seconds that replies and events have to be written before something else is printed."""


class Client(Protocol):
    """Who is connected to a character device of the machine: a client of a monitor, or something else."""

    label: str
    is_monitor: bool

    def sever(self, reason: str) -> None:
        """Close the connection at once."""


class System:
    """One machine.  `wake` is called when its main loop has something to do, `report` with what goes to standard error.

    `clients` are those that are connected, `exit_status` is set once the main loop has ended.  What only a server has
    is None where there is none: `host` has files and sockets, `threads` stand behind CPUs, `updater` carries
    out live updates.
    """

    __slots__ = (
        "_dirty_rate",
        "_disks",
        "_dumps",
        "_exports",
        "_front_ends",
        "_job_faults",
        "_jobs",
        "_memory_pages",
        "_migrations",
        "built",
        "chardevs",
        "clients",
        "clock",
        "computer",
        "descriptors",
        "disk_pace",
        "exit_status",
        "guest",
        "host",
        "human",
        "last_status",
        "machine",
        "migration",
        "modules_loaded",
        "monitor_choices",
        "release",
        "report_defect",
        "speak_as_agent",
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
        inventory: Inventory | None = None,
        computer: Computer | None = None,
    ) -> None:
        """`inventory` is what was built for the machine; None where that is left until it is needed.

        `computer` is that whose files the machine may use; None where there is none.
        """
        self.computer = computer if computer is not None else NoComputer()
        self.release = release
        self.clock = clock
        self.chardevs = chardevs if chardevs is not None else []
        self.clients: Collection[Client] = ()
        self.host: Host | None = None
        # What executes a line of the human monitor for a client, and gives what it prints, be it later.
        self.human: Callable[[str, Any, int | None], str | Deferred] | None = None
        # What knows the dialect of guest agents; None where nobody speaks it.
        self.speak_as_agent: Callable[[Release, Agent, Executor, Callable[[bytes, str], None]], Dialect] | None = None
        self.threads: Threads | None = None
        self.updater: Updater | None = None
        # The open files that clients have handed over, and where it goes or comes from; None where nothing of that is.
        self.descriptors: Descriptors | None = None
        self._migrations: Migrations | None = None
        # What was set for migrations; None where nothing was.
        self.migration: MigrationSettings | None = None
        # How much the guest writes; None until somebody asks.
        self._dirty_rate: DirtyRate | None = None
        # Whether some command has made QEMU load all its modules; a process that takes over has not.
        self.modules_loaded = False
        # What was chosen at each human monitor (the CPU that it looks at), by the labels of their devices.
        self.monitor_choices: dict[str, dict[str, int]] = {}
        self.exit_status: int | None = None
        # The same, from the moment on from which nothing but the end is waited for.
        self.last_status: int | None = None
        # Who reads and writes the disks, and its jobs; None until somebody asks for them.
        self._disks: Disks | None = None
        self._jobs: Jobs | None = None
        self._job_faults: Faults | None = None
        # How many bytes disks move in a second, as far as jobs are concerned; 0: as many as they can.
        self.disk_pace = 0
        # What others read and write of them; None until something is exported.
        self._exports: Exports | None = None
        # The machine's ends of character devices that somebody listens to; None until somebody does.
        self._front_ends: dict[str, FrontEnd] | None = None
        # Its dumps, and what a debugger has written to the guest's memory; None until somebody asks for them.
        self._dumps: Dumps | None = None
        self._memory_pages: dict[int, bytearray] | None = None
        # Who is told what qmpd itself fails at.
        self.report_defect = report
        self.machine, self.guest = make_machine(settings, release.behaviour, clock, ignore_event, wake, report)
        # Its objects and devices, where they were built or somebody has asked for them.
        self.built: Inventory | None = None
        if inventory is not None:
            self.keep(inventory)
        if self.guest is not None:
            give_parts(self.guest, self)

    @property
    def settings(self) -> MachineSettings:
        """What the machine was started with, and what clients have decided since that was still open then."""
        return self.machine.settings

    # The main loop

    @property
    def activities(self) -> Activities:
        """The machine's long work: what a command begins and does not finish at once (`qmpd.schedule.activity`)."""
        return self.machine.activities

    def turn(self) -> None:
        """Let the main loop look at what is pending, once; nothing any more where the machine waits for its end."""
        if self.last_status is not None:
            return
        # Who has ended the process by exit() has said nothing to anybody.
        silent = self.machine.exit_status is not None
        status = main_loop.turn(self.machine)
        if status is not None and self.exit_status is None:
            self.last_status = status
            if silent:
                self.exit_status = status
            elif ending.are_disks_quiet(self.built):
                self.end()

    @property
    def is_ending(self) -> bool:
        """Whether the main loop goes round no more."""
        return self.last_status is not None or self.exit_status is not None

    def end(self) -> None:
        """The main loop has ended: end what goes on beside it.  Once is enough."""
        if self.exit_status is None:
            ending.end_work(self.release, self._migrations, self._exports, self._jobs, self.built)
            self.exit_status = self.last_status

    # What the machine is made of

    @property
    def inventory(self) -> Inventory:
        """The machine's inventory; built when it is first asked for, with what the machine's settings say.

        They have been tried out by then (`qmpd.system.build.build`), so what cannot be had any more is told.
        """
        return self.build(self._leave_out) if self.built is None else self.built

    def build(self, refuse: Callable[[Refusal], None]) -> Inventory:
        """Build what the machine's settings say; `refuse` is told of each part that is refused, and may raise that."""
        from qmpd.system.build import furnish, make_inventory

        inventory = make_inventory(self.release, self.machine, self.computer)
        inventory.backends.chardevs = self.chardev_facts
        furnish(inventory, refuse)
        self.keep(inventory)
        return inventory

    def keep(self, inventory: Inventory) -> None:
        """Have this inventory from now on."""
        self.built = self.machine.parts = inventory
        inventory.move_to(self.machine)
        inventory.backends.block.open_set = self._open_of_set
        inventory.backends.block.json_parser = self.release.behaviour.json_parser
        inventory.backends.block.servers.is_by_name = True
        self._disks = self._jobs = None

    @property
    def migration_settings(self) -> MigrationSettings:
        """What was set for the machine's migrations."""
        if self.migration is None:
            from qmpd.migration.settings import MigrationSettings

            self.migration = MigrationSettings()
        return self.migration

    @property
    def dirty_rate(self) -> DirtyRate:
        """How much of its memory the guest writes to."""
        if self._dirty_rate is None:
            from qmpd.migration.dirty_rate import DirtyRate

            machine = self.machine
            self._dirty_rate = DirtyRate(self.activities, machine.schedule, self.clock, self._writing)
        return self._dirty_rate

    @property
    def has_dirty_rate(self) -> bool:
        """Whether somebody has asked for it."""
        return self._dirty_rate is not None

    def _writing(self) -> Writing:
        """How the guest writes now: to what it uses of the memory, or to all where nothing is said of that."""
        from qmpd.migration.dirty_rate import Writing

        memory = self.settings.memory
        if self.guest is None:
            return Writing(0, memory)
        guest = self.guest.settings
        return Writing(guest.dirty_rate, min(guest.memory_used or memory, memory))

    @property
    def migrations(self) -> Migrations:
        """Where the machine goes, or comes from."""
        if self._migrations is None:
            from qmpd.system.migrations import Migrations

            self._migrations = Migrations(self)
        return self._migrations

    @property
    def is_migrating(self) -> bool:
        """Whether the machine is on its way to somewhere else."""
        return self._migrations is not None and self._migrations.is_under_way

    def front_end(self, label: str) -> FrontEnd | None:
        """The machine's end of a character device; None where nobody listens to it."""
        if self.guest is not None:
            self.guest.prepare_ends()
        return None if self._front_ends is None else self._front_ends.get(label)

    def make_front_end(self, label: str) -> FrontEnd:
        """The machine's end of a character device, for one who listens to it."""
        from qmpd.chardev.front_ends import FrontEnd

        if self._front_ends is None:
            self._front_ends = {}
        return self._front_ends.setdefault(label, FrontEnd(unread_by_guest(self, label)))

    @property
    def disks(self) -> Disks:
        """The machine's disks, for those who read and write them."""
        if self._disks is None:
            from qmpd.system.disks import Disks

            self._disks = Disks(self.machine, self.release.introspection, self.inventory, self.host)
        return self._disks

    @property
    def jobs(self) -> Jobs:
        """The machine's jobs."""
        if self._jobs is None:
            from qmpd.block.jobs.jobs import Jobs

            release, disks, graph = self.release, self.disks, self.inventory.backends.block
            self._jobs = graph.blockers = Jobs(
                self.machine, graph, disks.executor, release.behaviour, release.refusals.message, disks.requests,
                disks.apart.do, self.disk_pace,
            )  # fmt: skip
            self._jobs.faults = self._job_faults
        return self._jobs

    @property
    def exports(self) -> Exports:
        """What others read and write of the machine's disks."""
        if self._exports is None:
            from qmpd.system.exports import make_exports

            self._exports = make_exports(self)
        return self._exports

    def close_exports(self) -> None:
        """Whoever serves the machine lets go of it: nothing is exported any more, and nobody is told."""
        if self._exports is not None:
            self._exports.close()

    @property
    def has_exports(self) -> bool:
        """Whether there is something that others read and write, or could."""
        return self._exports is not None and not self._exports.is_idle

    def have_job_faults(self, faults: Faults) -> None:
        """Have jobs meet these faults from now on."""
        self._job_faults = faults
        if self._jobs is not None:
            self._jobs.faults = faults

    @property
    def dumps(self) -> Dumps:
        """The dumps of the guest's memory."""
        if self._dumps is None:
            from qmpd.system.dumps.dump import Dumps

            self._dumps = Dumps(self.machine, self.activities, self.host)
        return self._dumps

    @property
    def memory_pages(self) -> dict[int, bytearray]:
        """The pages of the guest's memory that hold something, by their numbers: a debugger has written it."""
        if self._memory_pages is None:
            self._memory_pages = {}
        return self._memory_pages

    def _open_of_set(self, identifier: int, way: int) -> int:
        """A copy of a file that a client has handed over.

        :raise OSError: there is no such set, or no such file in it.
        """
        if self.descriptors is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.descriptors.open(identifier, way, is_counted=False)

    def _leave_out(self, refusal: Refusal) -> None:
        if not isinstance(refusal, NotModelled):
            message = self.release.refusals.message(refusal)
            self.machine.report(f"{refusal.location}: warning: {message}; it is left out")

    @property
    def is_bare(self) -> bool:
        """Whether the machine has nothing but what it is made of, and nobody has asked for its objects."""
        return self.built is None and not self.settings.has_parts

    @property
    def has_known_objects(self) -> bool:
        """Whether anything is known of the objects of machines of this type; where not, none can be added either."""
        try:
            _ = self.tree
        except NotModelled:
            return False
        return True

    @property
    def tree(self) -> ObjectTree:
        """The tree of the machine's objects.

        :raise NotModelled: nothing is known of the objects of machines of this type.
        """
        from qmpd.system.build import show_chardevs

        inventory = self.inventory
        tree = inventory.tree
        inventory.backends.chardevs = self.chardev_facts
        show_chardevs(inventory, self.chardevs, self.is_connected)
        return tree

    @property
    def devices(self) -> Devices:
        """The machine's devices.

        :raise NotModelled: nothing is known of the objects of machines of this type.
        """
        _ = self.tree
        return self.inventory.devices

    @property
    def objects(self) -> Objects:
        """The objects that users made.

        :raise NotModelled: nothing is known of the objects of machines of this type.
        """
        _ = self.tree
        return self.inventory.objects

    @property
    def chardev_facts(self) -> dict[str, ChardevFacts]:
        """What those who use character devices may ask of each."""
        return {
            each.label: ChardevFacts(each.kind, each.address.startswith("unix:"), each.frontend_open)
            for each in self.chardevs
        }

    def is_connected(self, label: str) -> bool:
        """Whether somebody is connected to the character device of this name."""
        return any(client.label == label for client in self.clients)

    # The files that clients have handed over

    @property
    def removed_files_close(self) -> bool:
        """Whether files that were removed from their sets are closed now."""
        return self.release.behaviour.removed_files_close_at_once or self.machine.state is RunState.RUNNING

    def monitor_left(self) -> None:
        """A client of a monitor has left, with which files that it has handed over may have no more use."""
        if (
            self.descriptors is not None
            and self.release.behaviour.unused_files_close
            and self.machine.state is RunState.RUNNING
        ):
            last = not any(client.is_monitor for client in self.clients)
            self.descriptors.clean_up(last, self.sets_of_nodes())

    def sets_of_nodes(self) -> list[int]:
        """The sets of files that disks are in."""
        nodes = self.built.backends.block.nodes.values() if self.built is not None else ()
        return [number for node in nodes if (number := set_number(node.location)) is not None]

    # Standard output

    def when_output_is_out(self, then: Callable[[], None]) -> None:
        """Do something in the main loop once all is written that monitors on standard output have said."""
        until = time.monotonic() + _PATIENCE

        def look() -> None:
            if self.host is not None and time.monotonic() < until and not self.host.is_output_out():
                self.machine.later(look)
            else:
                then()

        self.machine.later(look)

    def print(self, text: str) -> None:
        """Print something to the program's standard output; from any thread."""
        if self.host is not None:
            self.host.print(text)

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
