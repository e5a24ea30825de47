"""Putting the machine together: QEMU's phases after it has read its command line (`qemu_init` in system/vl.c).

Each phase looks at what it needs and ends the program at the first fault, so of two faults it is the phase that decides
which one is told of.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.emulator.complaints import as_error
from qmpd.emulator.phases import displays, monitor_objects
from qmpd.emulator.phases.accelerators import choose_accelerator
from qmpd.emulator.phases.before import Before
from qmpd.emulator.phases.board import Board
from qmpd.emulator.phases.checks import EntryChecks
from qmpd.emulator.phases.cpu_features import CPUs
from qmpd.emulator.phases.defaults import Defaults
from qmpd.emulator.phases.usb_devices import usb_driver
from qmpd.emulator.reading import numa as numa_options
from qmpd.emulator.reading.drives import Drives, of_machine
from qmpd.emulator.reading.incoming import take_incoming
from qmpd.emulator.reading.networks import Networks
from qmpd.guest.effects import ACTING
from qmpd.hardware.home import Workbench
from qmpd.hardware.inventory import NotCaptured
from qmpd.hardware.numa import Numa
from qmpd.machine.blueprint import Device, Firmware, GuestSettings, Preset
from qmpd.option_language.errors import NOWHERE, BareError, OptionError
from qmpd.qom.reader import size_of
from qmpd.server.computer import ThisComputer
from qmpd.server.settings import VMSettings
from qmpd.system import monitors
from qmpd.system.askers import CommandLineAsker
from qmpd.system.build import Building, make_inventory

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.emulator.reading.options import EmulatorOptions, Values
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.option_language.groups import Entry

# Objects that are made when the character devices, the network and the accelerator are there.
_LATE = re.compile(r"rng-egd|qtest|cryptodev-vhost-user|vhost-user-blk-.*|colo-.*|(filter|memory-backend|monitor)-.*")


class Start:
    """Puts a machine together."""

    def __init__(self, options: EmulatorOptions) -> None:
        self._options = options
        self._release = options.release
        self._groups = options.groups
        self._settings = VMSettings()
        self._bench = Workbench(options.machine.settings)
        self._building = Building(make_inventory(options.release, self._bench, ThisComputer()))
        self._tree = options.machine.machine
        self._warn = options.complaints.line
        self._networks = Networks(options, self._warn, self._add_netdev)
        self._board = Board(options)
        self._checks = EntryChecks(options, self._board)
        self._accelerator = ""
        self._location_of_numa = ""

    @property
    def _machine(self) -> MachineSettings:
        """What has been found out about the machine by now."""
        return self._options.machine.settings

    def _change(self, **changes: Any) -> None:
        """Find out more."""
        self._options.machine.settings = replace(self._machine, **changes)

    @property
    def inventory(self) -> Inventory:
        """The parts that the machine has been given."""
        return self._building.inventory

    def before(self) -> None:
        """What affects everything else, or lists what there is.

        :raise OptionError: a fault.
        :raise OptionList: something is to be listed.
        """
        Before(self._options).look()

    # The machine

    def finish(self) -> VMSettings:
        """The settings.

        :raise OptionError: a fault.
        """
        options = self._options
        self._checks.check_icount_recording()
        self._change(**self._checks.choose_clock())
        options.machine.begin()
        settings = self._settings
        given = {name: value for name, value in self._tree.items() if isinstance(value, str)}
        self._change(machine_options=given)
        settings.pid_file = options.process.pid_file
        settings.thread_names = options.process.debug_threads
        settings.descriptors = options.process.descriptors
        self._board.choose(options.machine.machine_name)
        self._create_defaults()
        self._change(usb=self._board.kind.has_pci and self._tree.get("usb") in ("on", "yes", "true", "y"))
        self._bench.settings = self._machine
        self._early_backends()
        accelerators = self._tree.pop("accel", None)
        self._check_memory_backend()
        for key in ("igd-passthru", "kvm-shadow-mem", "kernel-irqchip"):
            self._tree.pop(key, None)
            self._tree.pop(key.replace("-", "_"), None)
        self._board.apply(self._tree)
        self._choose_accelerator(accelerators if isinstance(accelerators, str) else None)
        self._change(kvm=self._accelerator == "kvm")
        self._board.warn_of_age()
        self._late_backends()
        cpus = CPUs(options, self._board)
        cpus.parse()
        self._resolve_memory()
        numa = self._numa()
        for entry in self._groups.find("numa"):
            self._location_of_numa = f"{entry.location}: "
            taken = numa_options.take(self._release, numa, entry)
            self._change(numa=(*self._machine.numa, taken))
        self._location_of_numa = ""
        self._checks.write_states(self._machine)
        self._board_init(cpus, numa)
        self._devices()
        self._complete()
        self._change(chardev_ids=tuple(sorted(self._groups.identifiers("chardev"))))
        settings.machine = self._machine
        options.chardevs.finish(settings, self.inventory.backends.chardev_users, options.escape)
        self._set_test_clock()
        settings.machine = self._bench.settings = self._machine
        return settings

    def _create_defaults(self) -> None:
        self._defaults = Defaults(self._options, self._board.kind)
        self._defaults.create_monitor()
        displays.check_display(self._options)
        displays.select_card(self._options)

    def _choose_accelerator(self, listed: str | None) -> None:
        icount = self._groups.merged("icount")
        if icount is not None:
            self._checks.check_icount(icount)
        self._accelerator = choose_accelerator(self._options, self._board, listed)
        if icount is not None and self._accelerator == "kvm" and icount.has("shift"):
            raise OptionError("-icount is not allowed with hardware virtualization", NOWHERE)

    # Back ends

    def _add(self, add: Callable[[], None], what: str, location: str) -> bool:
        """Give the machine a part, unless it is one that qmpd does not model, which is told; whether it has it.

        :raise OptionError: it is refused.
        """
        try:
            add()
        except NotModelled as refusal:
            self._leave_out(refusal, what, location)
            return False
        except Refusal as refusal:
            raise as_error(self._release.refusals, refusal, location) from None
        return True

    def _leave_out(self, refusal: NotModelled, what: str, location: str) -> None:
        place = f"{location}: " if location else ""
        self._warn(f"{place}warning: {refusal.message}; {what} is left out")

    def _early_backends(self) -> None:
        options = self._options
        if options.values.get("display-window-close") and options.singles.display_type not in ("gtk", "sdl"):
            self._warn("window-close is only valid for GTK and SDL, ignoring option")
        if options.values.get("display-gl") == "on" and options.singles.display_type == "none":
            raise Refusal("display-without-gl").at(NOWHERE)
        if options.objects:
            self._add(self._building.begin_objects, "-object", NOWHERE)
        for location, arguments in options.objects:
            if _LATE.fullmatch(str(arguments["qom-type"])) is None:
                self._add_object(location, arguments)
        options.chardevs.create()
        self.inventory.backends.chardevs = options.chardevs.facts
        for entry in self._groups.find("fsdev"):
            self._checks.check_file_system(entry)
            self._building.add_file_system(entry.identifier or "")
        self._blockdevs()
        if options.singles.audio_id_twice is not None and self._release.behaviour.audio_backends_are_objects:
            raise Refusal("object-duplicate", id=options.singles.audio_id_twice).at(NOWHERE)
        listed = options.lists.choices("audio-drivers")
        for driver in options.singles.audio_backends.values():
            if listed and driver not in listed:
                refusal = Refusal("audio-driver-missing", driver=driver)
                if self._release.behaviour.audio_faults_bare:
                    raise BareError(self._release.refusals.message(refusal), NOWHERE)
                raise refusal.at(NOWHERE)

    def _add_object(self, location: str, arguments: Values) -> None:
        if self._release.behaviour.keyval_options:
            location = NOWHERE  # QEMU has forgotten it by then
        elif "id" not in arguments:
            raise OptionError("Parameter 'id' is missing", location)
        if self._add(partial(self._building.add_object, arguments), str(arguments["id"]), location):
            self._change(objects=(*self._machine.objects, arguments))
            self._lend_monitor(str(arguments["id"]))

    def _lend_monitor(self, identifier: str) -> None:
        """Where an object is a monitor, have it on its character device."""
        node = self.inventory.objects.find(identifier)
        if node is not None and node.type in monitors.MODES:
            self._options.chardevs.lend_to_object(monitors.settings_of(node))
            self.inventory.backends.chardevs = self._options.chardevs.facts

    def _blockdevs(self) -> None:
        options = self._options
        block = self._building.inventory.backends.block
        block.open_set, block.json_parser = options.process.open_of_set, options.release.behaviour.json_parser
        block.inactive = options.machine.incoming is not None
        for location, arguments in options.blockdevs:
            if "node-name" not in arguments:
                raise OptionError("'node-name' must be specified for the root node", location)
            if self._add(partial(self._building.add_node, arguments), str(arguments["node-name"]), location):
                self._change(blockdevs=(*self._machine.blockdevs, arguments))
        self._drives = Drives(options, self._board.kind.interface, self._board.kind.ide_units)
        for entry in self._groups.find("drive"):

            def add(values: dict[str, str], entry: Entry = entry) -> None:
                told = of_machine(values)
                name = told.get("id", "the drive")
                # Where what is in it is left out the drive is there, so that its device is.
                self._add(partial(self._building.add_drive, told), f"what is in {name}", entry.location)
                self._change(drives=(*self._machine.drives, told))

            try:
                self._drives.create(entry, add)
            except Refusal as error:
                raise error.at(entry.location) from None
        with_sd, drivers = self._release.behaviour.sd_drive_made, self._defaults.drivers
        usual = self._drives.defaults(self._board.kind, drivers, with_sd=with_sd)
        for drive in usual if self._defaults.wanted else ():
            self._building.add_drive(drive)
            self._change(drives=(*self._machine.drives, drive))
        self._bench.settings = self._machine

    def _check_memory_backend(self) -> None:
        value = self._tree.pop("memory-backend", None) or self._tree.pop("memory_backend", None)
        self._memory_backend = value if isinstance(value, str) else None
        if self._memory_backend is not None and "mem-path" in self._options.values:
            raise OptionError("'-mem-path' can't be used together with'-machine memory-backend'", NOWHERE)

    def _add_netdev(self, arguments: Values) -> None:
        self._building.add_netdev(arguments, CommandLineAsker())

    def _late_backends(self) -> None:
        options = self._options
        for given in options.given.get("qtest", ()):
            options.chardevs.make_qtest(given)
        backends = self.inventory.backends
        backends.chardevs = options.chardevs.facts
        backends.audiodevs = list(options.singles.audio_backends)
        backends.tpmdevs = [entry.identifier for entry in self._groups.find("tpmdev") if entry.identifier]
        if self._defaults.wanted and not self._networks.is_asked_for:
            self._networks.create_default()
        self._networks.create()
        for arguments in self._networks.backends:
            if not str(arguments["id"]).startswith("#"):
                self._change(netdevs=(*self._machine.netdevs, arguments))
        for location, arguments in options.objects:
            if _LATE.fullmatch(str(arguments["qom-type"])) is not None:
                self._add_object(location, arguments)
        self._building.end_objects()
        for entry in self._groups.find("tpmdev"):
            self._checks.check_tpm(entry)
        users = {str(arguments["id"]) for arguments in self._machine.objects}
        options.chardevs.create_monitors(monitor_objects.maker(options, self.inventory, users))
        self._parts = self._defaults.make_ports()
        for given in options.given.get("debugcon", ()):
            self._make_debug_console(given.value, given.location)
        self.inventory.backends.chardevs = options.chardevs.facts

    def _make_debug_console(self, text: str, location: str) -> None:
        try:
            self._options.chardevs.make("debugcon", text, location, taken=False)
        except Refusal as error:
            raise Refusal("debug-console-unconnected", text=text, reason=error).at(location) from None
        device = self._groups.create("device", "debugcon", location)
        device.pairs = [("driver", "isa-debugcon"), ("chardev", "debugcon")]

    # The board

    def _object_size(self, name: str) -> int | None:
        """The size of an object that holds memory; None where there is none of this name."""
        for arguments in self._machine.objects:
            if arguments["id"] == name and str(arguments["qom-type"]).startswith("memory-backend"):
                return size_of(arguments.get("size")) or 0
        return None

    def _resolve_memory(self) -> None:
        name = self._memory_backend
        if name is None:
            return
        size = self._object_size(name)
        if size is None:
            raise OptionError(f"Memory backend '{name}' not found", NOWHERE)
        if not self._options.machine.has_memory_size:
            self._change(memory=size)

    def _numa(self) -> Numa:
        return Numa(
            self._machine.topology,
            lambda text: self._warn(f"{self._location_of_numa}warning: {text}"),
            hmat=self._tree.get("hmat") in ("on", "yes", "true", "y"),
            supported=self._board.kind.has_cpus,
            takes_memory=self._board.numa_takes_memory,
            memory_backend=self._object_size,
        )

    def _board_init(self, cpus: CPUs, numa: Numa) -> None:
        options, board = self._options, self._board
        for path in options.singles.plugins:
            self._checks.load_plugin(path)
        board.check_memory(options.machine)
        if not self._machine.preconfig:
            numa_options.check(lambda: numa.check(self._machine.memory))
        if numa.has_backends and self._memory_backend is not None:
            text = "'-machine memory-backend' and '-numa memdev' properties are mutually exclusive"
            raise OptionError(text, NOWHERE)
        board.check_memory_object(self._memory_backend, self._object_size, self._machine.memory)
        store = options.values.get("mem-path")
        if self._memory_backend is None and (store is None or board.kind.memory):
            self._checks.check_store(store, self._machine)
        board.warn_of_split(self._machine.memory)
        cpus.create(self._globals())
        numa_options.check(numa.check_cpus)
        self._change(cpu_nodes=tuple(numa.nodes_of_cpus()), node_memory=tuple(numa.memory_of_nodes()))
        self._change(memory_path=store, memory_prealloc="mem-prealloc" in options.values)
        self._bench.settings = self._machine
        self._change(**board.boot_choice(self._tree, self._groups))
        board.init(self._tree, self._globals(), self.inventory)
        self._change(presets=tuple(map(_preset_of, self._globals())))
        self._bench.settings = self._machine
        if board.kind.has_cpus:
            self._building.preset_board()
        if board.kind.has_pci and self._release.behaviour.cards_listed_always and self._globals():
            for kind in options.lists.network_cards("pci-device"):
                self._apply_globals(kind, NOWHERE)
        self._add_parts()
        self._building.add_flashes()
        self._drives.check_orphans(board.takes_drive)
        self._add_board_drives()
        if board.kind.has_pci:
            self._drives.check_flash(self.inventory.backends.block)

    def _add_parts(self) -> None:
        """Let the board make its screen, its ports and its network cards."""
        kind = self._board.kind
        cards = []
        if self._networks.has_cards:
            models = self._options.lists.network_cards("pci-device" if kind.has_pci else None)
            cards = self._networks.create_cards([*models, *kind.cards], kind.default_card)
        self._change(board_parts=(*self._defaults.screen(), *self._parts, *cards))
        self._bench.settings = self._machine
        if kind.has_cpus:
            self._add(self._building.add_board_parts, "what the board makes for itself", NOWHERE)

    def _add_board_drives(self) -> None:
        try:
            self._building.add_board_drives()
        except NotModelled as refusal:
            self._leave_out(refusal, "what is for drives of the board", NOWHERE)
        except Refusal as refusal:
            raise as_error(self._release.refusals, refusal, NOWHERE) from None

    # Devices

    def _globals(self) -> list[Entry]:
        return self._groups.find("global")

    def _apply_globals(self, kind: str, location: str) -> None:
        self._board.apply_globals(self._globals(), kind, location)

    def _devices(self) -> None:
        options = self._options
        self._checks.firmware_files()
        if self._machine.usb:
            self._add(self._building.add_usb, "the USB controller", NOWHERE)
        if self._tree.get("usb") in ("on", "yes", "true", "y"):
            for given in options.given.get("usbdevice", ()):
                self._add_usb(given.value, given.location)
        for entry in self._groups.find("device"):
            values: dict[str, object] = dict(entry.pairs)
            if entry.identifier is not None:
                values["id"] = entry.identifier
            self._add_device(values, entry.location, is_text=True)
        for location, values in options.devices:
            self._add_device(values, location, is_text=False)
        consoles = partial(self._building.add_text_consoles, options.chardevs.consoles)
        self._add(consoles, "what character devices show text on", NOWHERE)
        self._building.settle()

    def _add_device(self, values: Values, location: str, *, is_text: bool) -> None:
        driver = values.get("driver")
        if not isinstance(driver, str):
            raise OptionError("Parameter 'driver' is missing", location)
        arguments = dict(values)
        self._check_connected(arguments.get("drive"), location)
        self._apply_globals(driver, location)
        missing: NotModelled | None = None
        try:
            self._building.add_device(arguments, text=is_text)
        except NotModelled as refusal:
            missing = refusal
        except Refusal as refusal:
            raise as_error(self._release.refusals, refusal, location) from None
        properties = {
            name: _as_text(value) for name, value in values.items() if name != "driver" and value is not None
        }
        identifier = properties.get("id")
        if identifier is not None and not isinstance(values.get("id"), str):
            properties.pop("id")
        self._check_media(driver, properties, location)
        if missing is not None and not (isinstance(missing, NotCaptured) and driver in ACTING):
            self._leave_out(missing, str(values.get("id") or driver), location)
        device = Device(driver=driver, properties=properties, location=location)
        self._change(devices=(*self._machine.devices, device))

    def _check_connected(self, wanted: object, location: str) -> None:
        """Refuse a drive that has a device of its own."""
        for interface, _, _, entry, name in self._drives.places:
            if wanted and name == wanted and interface != "none":
                at = entry.location if interface == "virtio" else location
                if at == location and interface == "virtio":
                    continue  # this is that device
                text = "because it has been automatically connected to another device"
                why = "(did you need 'if=none' in the drive options?)"
                raise OptionError(f"Drive '{wanted}' is already in use {text} {why}", at)

    def _check_media(self, driver: str, properties: dict[str, str], location: str) -> None:
        wanted = properties.get("drive")
        if not wanted or driver.endswith("-cd") or driver in ("floppy", "sd-card", "usb-storage"):
            return
        for drive in self._machine.drives:
            if drive.get("id") == wanted and not {"file", "format", "driver", "readonly"} & set(drive):
                raise OptionError("Device needs media, but drive is empty", location)

    def _add_usb(self, name: str, location: str) -> None:
        kind = usb_driver(self._options, self._board, name, location)
        self._add(partial(self._building.add_usb_device, kind), name, location)

    # The end

    def _complete(self) -> None:
        options, machine = self._options, self._machine
        if self._networks.is_asked_for or any(self._board.is_card(device.driver) for device in machine.devices):
            self._networks.plug(machine.devices, self._board.is_card)
        if not (self._accelerator == "qtest" and "nodefaults" in options.values):
            self._networks.check()
        self._board.check_globals(self._globals())
        self._checks.check_slots()
        displays.warn_of_card(options, self._board)
        self._board.check_boot_files(self._tree, self._groups)
        if options.given.get("gdb") or options.given.get("s"):
            # The stub knows the human monitor, and almost no machine has one.
            from qmpd.emulator.phases.debuggers import take_debuggers

            take_debuggers(options, self._settings)
        self._change(load_snapshot=self._checks.check_snapshot(self._building.inventory.backends.block))
        incoming = options.machine.incoming
        if incoming is not None and incoming != "defer":
            take_incoming(self._release, incoming, self._warn)
        for entry in self._groups.find("vnc"):
            self._checks.check_vnc(entry)
            display = entry.identifier or "default", entry.flag("password")
            self._change(vnc=(*self._machine.vnc, display))

    def _set_test_clock(self) -> None:
        if self._accelerator == "qtest":
            # No CPU runs, so there is no firmware either, and time passes when the test program says so.
            self._settings.clock = "stepped"
            guest = GuestSettings(firmware=Firmware.NONE, operating_system=False)
            self._change(guest=guest, qtest_log=self._options.values.get("qtest-log"))


def _preset_of(entry: Entry) -> Preset:
    driver, name, value = (entry.get(key) or "" for key in ("driver", "property", "value"))
    return Preset(driver=driver, name=name, value=value)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
