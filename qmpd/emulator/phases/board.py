"""The machine's type: its properties, and what boards of its kind have and refuse.

(QEMU's hw/core/machine.c and hw/i386.)
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.refusals import Refusal
from qmpd.common.table_order import dictionary_order
from qmpd.emulator.machine_types import find_machine
from qmpd.emulator.phases import boot_files
from qmpd.emulator.phases.boot_files import FOLDERS, check_boot, check_kernel_options, load_firmware, load_kernel
from qmpd.machine import boot_order
from qmpd.machine.boards import ALWAYS, USUAL, board_of
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.property_values import check_member, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.emulator.command_line.machine import MachineOptions
    from qmpd.emulator.lists import Lists
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.boards import Board as BoardKind
    from qmpd.option_language.groups import Entry, OptionGroups
    from qmpd.qapi.release import Release

_MEMORY = ("size", "max-size", "slots")
# What `-machine` takes that is of no interest to the machine.
_NO_PROPERTIES = ("accel", "kernel-irqchip", "kvm-shadow-mem", "type")
_ID_SIZES = {"x-oem-id": 6, "x-oem-table-id": 8}
_MIB, _GIB = 1 << 20, 1 << 30
_MOST_FIRMWARE = 16 * _MIB
# Sizes that have bounds, or of which some are doubted.
_BOUNDS = ("max-fw-size", "max-ram-below-4g")
_SUBSTITUTES = {"smbios-entry-point-type": ("32", "64", "auto"), "x-south-bridge": ("PIIX3", "piix4-isa")}
_FIRMWARE_FILES = frozenset(
    ("etc/boot-menu-wait", "bootorder", "etc/e820", "etc/acpi/tables", "etc/smbios/smbios-tables")
)
_LARGEST_WAIT = 0xFFFF


class BoardOptions(Protocol):
    """What a command line says that concerns the board."""

    @property
    def release(self) -> Release:
        """The release that it is read for."""

    @property
    def machine(self) -> MachineOptions:
        """The machine's own options."""

    @property
    def lists(self) -> Lists:
        """What the release's program lists."""

    @property
    def values(self) -> Mapping[str, str]:
        """The arguments of options that are taken as they are, `cpu` among them."""

    @property
    def objects(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """The arguments of each `-object`, behind its place."""

    @property
    def blockdevs(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """The arguments of each `-blockdev`, behind its place."""

    @property
    def audio_backends(self) -> Mapping[str, str]:
        """The driver of each `-audiodev`, by its id."""

    def warn(self, text: str) -> None:
        """Tell of something that is not refused."""


class Board:
    """The board of a machine that is being put together."""

    def __init__(self, options: BoardOptions) -> None:
        self._options = options
        self._release = options.release
        self._sizes = options.release.behaviour.size_language
        self._name = ""
        self._kind = board_of(USUAL)
        self._cards: dict[str, bool] = {}
        # What `max-ram-below-4g` says.
        self._low_memory: int | None = None

    def choose(self, name: str) -> None:
        """Be the machine of this name."""
        self._name = name
        self._kind = board_of(name)
        self._type = f"{name}-machine"

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._name

    @property
    def _known(self) -> Mapping[str, Any]:
        """What the release tells of it."""
        return find_machine(self._release, self._name) or {}

    @cached_property
    def _properties(self) -> dict[str, str]:
        """The properties of its type and the type of each; none where they are not known."""
        return self._options.lists.properties(self._type)

    # What it has

    @property
    def kind(self) -> BoardKind:
        """What it has (`qmpd.machine.boards`)."""
        return self._kind

    @property
    def numa_takes_memory(self) -> bool:
        """Whether nodes may have memory by its size, as machines up to 5.0 take it."""
        return bool(self._known.get("numa-mem-supported"))

    @property
    def firmware_files(self) -> frozenset[str]:
        """The files that fw_cfg has by itself."""
        return _FIRMWARE_FILES

    def takes_drive(self, interface: str, bus: int, unit: int) -> bool:
        """Whether it has a place for a drive."""
        kind = self._kind
        places = {"ide": (bus, kind.ide_buses), "floppy": (unit, kind.floppies), "pflash": (unit, kind.flashes)}
        number, count = places.get(interface, (0, 0))
        return unit >= 0 and 0 <= number < count

    # Its properties

    def apply(self, tree: key_values.Tree) -> None:
        """Set its properties.

        :raise OptionError: there is no such property, or it does not take its value.
        """
        check_kernel_options(tree)
        machine = self._options.machine
        if not self._release.behaviour.keyval_options:
            machine.finish_topology()
            machine.finish_memory()
            self._apply_list(tree)
            return
        for key in tree:
            if "_" in key and key.replace("_", "-") in tree:
                raise OptionError(f"Conflict between '{key}' and '{key.replace('_', '-')}'", NOWHERE)
        if isinstance(tree.get("memory"), str):
            raise OptionError("Parameter 'memory' used inconsistently", NOWHERE)
        keys = [key.replace("_", "-") if key not in tree or "_" in key else key for key in tree if key != "type"]
        values = {key.replace("_", "-"): value for key, value in tree.items()}
        if "memory" not in values:
            keys.append("memory")
        done = {"smp": "smp" in values}
        for key in dictionary_order(keys):
            if key == "memory":
                self._check_memory(values.get("memory"))
                machine.finish_memory()
            elif key == "smp":
                machine.finish_topology()
            elif key == "boot":
                check_boot(values["boot"], self._sizes)
            else:
                self._check(key, values[key])
        if not done["smp"]:
            machine.finish_topology()

    def _apply_list(self, tree: key_values.Tree) -> None:
        """Set properties one after the other, as before they were a tree."""
        for key, value in tree.items():
            key = key.replace("_", "-")
            if key not in _NO_PROPERTIES:
                self._check(key, value)

    def _check(self, key: str, value: str | key_values.Tree) -> None:
        kind = self._properties.get(key)
        if kind is None:
            if self._properties:
                raise OptionError(f"Property '{self._type}.{key}' not found", NOWHERE)
            return
        if not isinstance(value, str):
            raise Refusal("keys-unexpected", path=key).at(NOWHERE)
        known = _SUBSTITUTES.get(key)
        if known is not None and value not in known:
            raise Refusal("enum-refusal", name=key, value=value).at(NOWHERE)
        try:
            if self._release.behaviour.keyval_options:
                check_member(kind, key, value, self._sizes)
            else:
                check_text("int64" if kind == "int" else kind, key, value, self._sizes)
        except Refusal as error:
            raise error.at(NOWHERE) from None
        if key in _BOUNDS:
            self._check_bound(key, key_values.size(key, value, self._sizes))
        limit = _ID_SIZES.get(key)
        if limit is not None and len(value) > limit:
            raise OptionError(f"User specified {key} value is bigger than {limit} bytes in size", NOWHERE)
        if kind.startswith("link<"):
            self._check_link(key, value, kind[len("link<") : -1])
        if key == "pcspk-audiodev" and value not in self._options.audio_backends:
            raise Refusal("audiodev-missing", owner="isa-pcspk.audiodev", id=value).at(NOWHERE)

    def _check_link(self, key: str, value: str, wanted: str) -> None:
        found = self._object_type(value)
        if found is None:
            raise OptionError(f"Device '{value}' not found", NOWHERE)
        if wanted not in self._release.object_types.is_a(found):
            raise OptionError(f"Invalid parameter type for '{key}', expected: {wanted}", NOWHERE)

    def _check_bound(self, key: str, size: int) -> None:
        if key == "max-fw-size" and size > _MOST_FIRMWARE:
            raise Refusal("firmware-size-limit", size=size).at(NOWHERE)
        if key == "max-ram-below-4g":
            if size > 4 * _GIB:
                text = f"Machine option 'max-ram-below-4g={size}' expects size less than or equal to 4G"
                raise OptionError(text, NOWHERE)
            self._low_memory = size
            if size < _MIB:
                self._warn_of(Refusal("low-memory-small", limit=size))

    def _warn_of(self, doubt: Refusal) -> None:
        self._options.warn(f"warning: {self._release.refusals.message(doubt)}")

    def warn_of_split(self, size: int) -> None:
        """Warn of memory of this size that is divided in an unlucky way."""
        limit, split = self._low_memory, self._kind.memory_split
        if limit is None:
            return
        if split == "gibibytes" and size >= limit and min(limit, 3 * _GIB) % _GIB:
            self._warn_of(Refusal("low-memory-odd", limit=limit))
        usual = 2 * _GIB if size >= 11 * _GIB // 4 else 11 * _GIB // 4
        if split == "halves" and usual > limit and size > 2 * limit and limit % _GIB:
            self._warn_of(Refusal("low-memory-half", size=size, limit=limit))

    def _has_object(self, name: str) -> bool:
        return self._object_type(name) is not None

    def _object_type(self, name: str) -> str | None:
        """The type of the object of this id."""
        return next((str(each["qom-type"]) for _, each in self._options.objects if each.get("id") == name), None)

    def _check_memory(self, value: str | key_values.Tree | None) -> None:
        if isinstance(value, str):
            raise OptionError("Invalid parameter type for 'memory', expected: object", NOWHERE)
        for key in _MEMORY:
            text = (value or {}).get(key)
            if isinstance(text, dict):
                raise Refusal("keys-unexpected", path=f"memory.{key}").at(NOWHERE)
            if isinstance(text, str):
                try:
                    check_member("uint64" if key == "slots" else "size", f"memory.{key}", text, self._sizes)
                except Refusal as error:
                    raise error.at(NOWHERE) from None
        for key in value or {}:
            if key not in _MEMORY:
                raise OptionError(f"Parameter 'memory.{key}' is unexpected", NOWHERE)

    # Accelerators

    def has_accelerator(self, name: str) -> bool:
        """Whether there is an accelerator of this name; the one for tests always is."""
        listed = self._options.lists.choices("accelerators")
        return name == "qtest" or name in (listed or ("tcg", "kvm"))

    def check_accelerator(self, name: str, entry: Entry) -> None:
        """Set the properties of an accelerator.

        :raise OptionError: there is no such property, or it does not take its value.
        """
        kind = f"{name}-accel"
        known = self._options.lists.properties(kind)
        for key, value in entry.pairs:
            if key == "accel" or not known:
                continue
            if key not in known:
                raise entry.error(f"Property '{kind}.{key}' not found")
            if key == "thread" and value not in ("single", "multi"):
                raise entry.error(f"Invalid 'thread' setting {value}")
            try:
                check_text(known[key], key, value, self._sizes)
            except Refusal as error:
                raise error.at(entry.location) from None

    def warn_of_age(self) -> None:
        """Warn of a machine that will be gone."""
        if self._name not in ALWAYS and self._known.get("deprecated"):
            said = self._release.refusals.message(Refusal("machine-deprecated", name=self._name))
            self._options.warn(f"warning: {said}")

    # Memory

    def check_memory(self, machine: MachineOptions) -> None:
        """See whether it can have the memory.

        :raise OptionError: it cannot.
        """
        if machine.wants_slots and not self._kind.takes_slots:
            raise OptionError(f"\"-memory 'slots|maxmem'\" is not supported by: {self._name}", NOWHERE)
        machine.check_slots()

    def check_memory_object(self, name: str | None, size_of: Any, memory: int) -> None:
        """See whether an object that is to hold all memory has the right size.

        :raise OptionError: it has another.
        """
        if name is None:
            return
        size = size_of(name)
        if size is not None and size != memory and self._kind.memory:
            raise Refusal("memory-backend-size").at(NOWHERE)

    # -global

    def apply_globals(self, entries: list[Entry], kind: str, location: str) -> None:
        """Set what `-global` says of a type of device.

        :raise OptionError: one of its properties is wrong.
        """
        if not entries:
            return
        alias = self._release.hardware.find("alias", kind)
        kind = kind if alias is None else str(alias["type"])
        ancestors = self._release.object_types.is_a(kind)
        for entry in entries:
            if entry.get("driver") not in ancestors or "device" not in ancestors:
                continue
            name, value = entry.get("property") or "", entry.get("value") or ""
            fault = self._global_fault(kind, name, value)
            if fault is not None:
                driver = entry.get("driver")
                raise Refusal("global-failed", driver=driver, name=name, value=value, reason=fault).at(location)

    def _global_fault(self, kind: str, name: str, value: str) -> Refusal | None:
        known = self._options.lists.properties(kind)
        if not known:
            return None
        if name not in known:
            return Refusal("property-missing", type=kind, name=name)
        if name == "mac" and not _is_mac(value):
            return Refusal("property-value", type=kind, name=name, value=value)
        try:
            check_text(known[name], name, value, self._sizes)
        except Refusal as error:
            return error
        return None

    def check_globals(self, entries: list[Entry]) -> None:
        """Warn of those of no type of device."""
        types = self._release.object_types
        for entry in entries:
            driver = entry.get("driver") or ""
            if "device" not in types.is_a(driver):
                self._options.warn(
                    f"warning: global {driver}.{entry.get('property')} has invalid class name"
                )

    # The board itself

    def init(self, tree: key_values.Tree, entries: list[Entry], inventory: Inventory) -> None:
        """Make the board.

        :raise OptionError: it cannot be made.
        """
        self.apply_globals(entries, "migration", NOWHERE)
        if not self._kind.has_cpus:
            return
        if entries:
            seen: set[str] = set()
            for node in inventory.tree.root.below():
                if node.type not in seen and not node.type.endswith("-cpu"):
                    seen.add(node.type)
                    self.apply_globals(entries, node.type, NOWHERE)
        self.check_parts(tree)

    def check_parts(self, tree: key_values.Tree) -> None:
        """Look at what the properties refer to: objects, nodes and files.

        :raise OptionError: there is no such thing, or it is of no use.
        """
        if not self._kind.has_cpus:
            return
        self._check_encryption(tree.get("memory-encryption"))
        load_kernel(tree.get("kernel"))
        load_firmware(tree.get("firmware"))
        for number in (0, 1):
            flash = tree.get(f"pflash{number}")
            nodes = {arguments.get("node-name") for _, arguments in self._options.blockdevs}
            if isinstance(flash, str) and flash not in nodes:
                raise OptionError(f"Property 'cfi.pflash01.drive' can't find value '{flash}'", NOWHERE)

    def _check_encryption(self, name: str | key_values.Tree | None) -> None:
        use = self._release.behaviour.memory_encryption
        if not isinstance(name, str) or use == "unused":
            return
        if use == "deprecated":
            self._options.warn(f"warning: {self._release.refusals.message(Refusal('memory-encryption-deprecated'))}")
        if not self._has_object(name):
            raise OptionError(f"No such memory encryption object '{name}'", NOWHERE)

    def _boot(self, tree: key_values.Tree, groups: OptionGroups) -> key_values.Tree | str | None:
        """What `-boot` says."""
        if self._release.behaviour.keyval_options:
            return tree.get("boot")
        entry = groups.merged("boot-opts")
        return None if entry is None else dict(entry.pairs)

    def boot_choice(self, tree: key_values.Tree, groups: OptionGroups) -> dict[str, Any]:
        """What the machine is to start from, which the board has to be able to, as members of `MachineSettings`.

        :raise OptionError: it cannot.
        """
        boot = self._boot(tree, groups)
        if not isinstance(boot, dict):
            return {}
        if not self._release.behaviour.keyval_options:
            check_boot(boot, self._sizes)
        for key in ("order", "once"):
            order = boot.get(key)
            if isinstance(order, str):
                try:
                    boot_order.check_board(order, self._kind)
                except Refusal as refusal:
                    raise refusal.at(NOWHERE) from None
        return boot_files.boot_choice(boot)

    def check_boot_files(self, tree: key_values.Tree, groups: OptionGroups) -> None:
        """Look at what the firmware would be given.

        :raise OptionError: it would not take it.
        """
        boot = self._boot(tree, groups)
        if isinstance(boot, dict) and self._kind.has_cpus:
            self._check_waits(boot)
        names: set[str] = set()
        for entry in groups.find("option-rom"):
            path = entry.get("romfile") or ""
            name = f"genroms/{os.path.basename(path)}"
            if name in names and os.path.exists(path):
                raise Refusal("firmware-file-twice", path=name).at(NOWHERE)
            names.add(name)
            if not self._kind.has_cpus or os.path.exists(path) or self._is_known_rom(path):
                continue
            self._complain_of_rom(path)

    @staticmethod
    def _is_known_rom(path: str) -> bool:
        return any(os.path.exists(os.path.join(folder, path)) for folder in FOLDERS)

    def _complain_of_rom(self, path: str) -> None:
        import sys

        sys.stderr.write(self._release.refusals.message(Refusal("rom-missing", path=path)) + "\n")

    def _check_waits(self, boot: key_values.Tree) -> None:
        splash = boot.get("splash-time")
        if isinstance(splash, str) and not 0 <= key_values.signed_integer("", splash) <= _LARGEST_WAIT:
            raise OptionError("splash-time is invalid,it should be a value between 0 and 65535", NOWHERE)
        reboot = boot.get("reboot-timeout")
        if isinstance(reboot, str) and not -1 <= key_values.signed_integer("", reboot) <= _LARGEST_WAIT:
            raise OptionError("reboot timeout is invalid,it should be a value between -1 and 65535", NOWHERE)
        path = boot.get("splash")
        if isinstance(path, str):
            self._check_splash(path)

    def _check_splash(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                start = file.read(2)
        except OSError:
            self._options.warn(f"failed to find file '{path}'")
            return
        if start not in (b"\xff\xd8", b"BM"):
            self._options.warn(f"splash file '{path}' format not recognized; must be JPEG or 24 bit BMP")

    # Devices

    def is_card(self, driver: str) -> bool:
        """Whether a driver is one of a network card's."""
        known = self._cards.get(driver)
        if known is None:
            alias = self._release.hardware.find("alias", driver)
            names = self._options.lists.properties(driver if alias is None else alias["type"])
            known = self._cards[driver] = "netdev" in names and "mac" in names
        return known


def _is_mac(text: str) -> bool:
    return re.fullmatch(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", text) is not None
