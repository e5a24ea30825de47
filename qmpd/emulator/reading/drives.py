"""`-drive` and its like, when the machine is put together: what QEMU's blockdev.c makes of the keys."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from qmpd.block import drive_rules
from qmpd.block import values as block_values
from qmpd.block.drivers.table import DRIVERS, MODULES
from qmpd.block.file_sets import number_of_set
from qmpd.block.filenames import NBD, check_null, probe_bytes
from qmpd.common.refusals import Refusal
from qmpd.option_language.errors import OptionError, OptionList
from qmpd.option_language.groups import HELP
from qmpd.server.computer import ThisComputer

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from qmpd.block.graph import BlockGraph
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.machine.boards import Board as BoardKind
    from qmpd.option_language.groups import Entry

_FLASH_UNIT, _MOST_FLASH = 0x1000, 8 << 20
# So many bytes of a file tell its format.
_HEAD = 512
# The interfaces that boards have places for, and where the CD is that there is by default.
_OF_BOARD = frozenset({"ide", "floppy", "pflash"})
_CD_INDEX = 2
# The devices that make the machine do without those that there are by default.
_CD_MAKES_VAIN = ("ide-cd", "ide-hd", "scsi-cd", "scsi-hd")
_FLOPPY_MAKES_VAIN = ("isa-fdc", "floppy")


class Drives:
    """The drives of a machine that is being put together; `default` is the interface that is meant where none is
    said, and `units` how many units each of its buses has."""

    def __init__(self, options: EmulatorOptions, default: str, units: int) -> None:
        self._options = options
        self._default = default
        self._units = {**drive_rules.UNITS, "ide": units}
        # For each: the interface, the bus and the unit, what has asked for it, and its id.
        self.places: list[tuple[str, int, int, Entry, str]] = []
        # Each flash, by its number, and its id.
        self.flash: list[tuple[int, str]] = []

    def create(self, entry: Entry, add: Callable[[dict[str, str]], None]) -> None:
        """Make a drive; `add` puts what the machine's settings have of it into the machine.

        :raise OptionError: it cannot be had.
        """
        whole = drive_rules.renamed(entry.pairs)
        if "snapshot" in self._options.given:
            whole.setdefault("snapshot", "on")
        drive, interface = drive_rules.divide(whole, self._default)
        own, values, read_only = *drive, drive.read_only
        if drive.copies_in_vain:
            self._warn(entry, "disabling copy-on-read on read-only drive")
        bus, unit = self._place(interface, own)
        drive_rules.check_actions_known(own, interface)
        file = own.get("file") or None
        drive_rules.take_common(values)
        driver = self._driver(values)
        drive_rules.check_actions(own)
        is_empty = file is None and not values and driver is None
        media = own.get("media", "disk")
        name = entry.identifier or self._name(interface, bus, unit, media)
        settings = {"if": interface, "id": name}
        if interface in _OF_BOARD:
            settings |= {"bus": str(bus), "unit": str(unit), "media": media}
        settings["place"] = f"{bus},{unit}"
        settings |= {name: own[name] for name in ("werror", "rerror") if name in own}
        if not is_empty:
            keeps = read_only or block_values.is_on(whole.get("snapshot", "off"))
            opened = {**self._open(entry, file, driver, values, keeps), "readonly": "on" if read_only else "off"}
            kept = {name for name in drive_rules.OWN if name != "copy-on-read"} | {"format"}
            passed = {key: value for key, value in whole.items() if key not in kept}
            settings |= {**passed, **opened}
            if file is not None:
                settings["file"] = file
        if interface == "virtio":
            device = self._options.groups.create("device", None, entry.location)
            device.pairs = [("driver", "virtio-blk"), ("drive", name)]
        add(settings)
        if interface == "pflash":
            if is_empty:
                raise OptionError(f"can't get size of block device pflash{unit}: No medium found", "")
            self.flash.append((unit, name))
        self.places.append((interface, bus, unit, entry, name))

    def _name(self, interface: str, bus: int, unit: int, media: str) -> str:
        """The id of a drive that got none."""
        kind = {"cdrom": "-cd", "disk": "-hd"}[media] if interface in ("ide", "scsi") else ""
        return f"{interface}{bus if self._units.get(interface) else ''}{kind}{unit}"

    def defaults(self, board: BoardKind, drivers: Container[object], *, with_sd: bool) -> list[dict[str, str]]:
        """The drives that a machine has by default; `drivers` are the types of devices that were asked for."""
        taken = {place[:3] for place in self.places}
        found: list[dict[str, str]] = []

        def add(interface: str, bus: int, unit: int, media: str = "disk") -> None:
            if (interface, bus, unit) not in taken:
                name = self._name(interface, bus, unit, media)
                place = {"bus": str(bus), "unit": str(unit), "media": media} if interface in _OF_BOARD else {}
                found.append({"if": interface, "id": name, **place})

        if board.ide_buses and not any(name in drivers for name in _CD_MAKES_VAIN):
            add("ide", *divmod(_CD_INDEX, self._units["ide"]), media="cdrom")
        if board.has_floppy and not any(name in drivers for name in _FLOPPY_MAKES_VAIN):
            add("floppy", 0, 0)
        if board.has_cpus and board.interface == "none" and not any(name in drivers for name in _CD_MAKES_VAIN):
            # It belongs to no device; the number is that of a place that there is not.
            found.append({"if": "none", "id": f"none{_CD_INDEX}0"})
        if with_sd and board.has_cpus:
            add("sd", 0, 0)
        return found

    def _warn(self, entry: Entry, text: str) -> None:
        self._options.complaints.line(f"{entry.location}: warning: {text}")

    def _place(self, interface: str, own: dict[str, str]) -> tuple[int, int]:
        taken = {(place[1], place[2]) for place in self.places if place[0] == interface}
        return drive_rules.take_place(own, self._units.get(interface, 0), taken)

    def _driver(self, values: dict[str, str]) -> str | None:
        if values.get("format") in HELP:
            raise OptionList(self._options.lists.text("-drive", "format=help") or "", 0)
        return drive_rules.take_driver(values)

    # Opening

    def _open(
        self, entry: Entry, file: str | None, driver: str | None, values: dict[str, str], read_only: bool
    ) -> dict[str, str]:
        if file is not None and file.startswith("json:"):
            driver, file = self._pseudo_protocol(file)
        if driver is not None and driver not in self._drivers():
            raise Refusal("driver-unknown", driver=driver)
        drive_rules.check_discard(values)
        name = values.pop("node-name", None)
        settings = {"readonly": "on" if read_only else "off"}
        if name is not None:
            settings["node-name"] = name
        below = {key.removeprefix("file."): values.pop(key) for key in list(values) if key.startswith("file.")}
        if below.pop("locking", "auto") not in ("on", "off", "auto"):
            raise OptionError(f"invalid parameter value: {entry.get('file.locking')}")
        if file is None and driver is None and not below:
            raise OptionError("Must specify either driver or file")
        plain = file is None
        if plain:
            file = below.pop("filename", None) or None
        inner = below.get("driver")
        if inner is not None and inner not in self._drivers():
            raise Refusal("driver-unknown", driver=inner)
        if file is None and driver is not None:
            self._check_left(driver, values)
            return {**settings, "driver": driver, **values}
        if file is not None:
            settings |= self._open_file(entry, file, driver, read_only, plain=plain)
        self._check_left(settings.get("format", "raw"), values)
        return settings

    def _drivers(self) -> set[str]:
        return set(self._options.lists.choices("block-drivers")) | set(drive_rules.FILE_PROTOCOLS)

    def _pseudo_protocol(self, file: str) -> tuple[str | None, str | None]:
        from qmpd.wire.json_text import parse

        try:
            value = parse(file.removeprefix("json:"), self._options.release.behaviour.json_parser)
        except ValueError as error:
            raise OptionError(f"Could not parse the JSON options: {error}") from None
        if not isinstance(value, dict):
            raise OptionError("Invalid JSON object given")
        inner = value.get("file")
        name = inner.get("filename") if isinstance(inner, dict) else value.get("filename")
        return str(value["driver"]) if "driver" in value else None, None if name is None else str(name)

    def _open_file(
        self, entry: Entry, file: str, driver: str | None, read_only: bool, *, plain: bool
    ) -> dict[str, str]:
        """What is to be opened; `plain`: no protocol is looked for in the name."""
        if driver is not None:
            check_null(driver, file)
        if drive_rules.has_protocol(file) and not plain:
            protocol = file.partition(":")[0]
            if protocol in MODULES and protocol in self._drivers():
                self._tell_of_module(entry, MODULES[protocol])
            drive_rules.check_protocol(file, self._drivers(), ThisComputer())
            if protocol in ("null-co", "null-aio"):
                check_null(protocol, file)
                if driver is None and not read_only:
                    _warn_of_probing(file)
                return {"file": file, "path": file, "format": driver or "raw"}
            if protocol in NBD:
                from qmpd.block.drivers.nbd import parse_name

                parse_name(file)
                return {"file": file, "path": file, **({} if driver is None else {"format": driver})}
            if driver is None and protocol in DRIVERS:
                # The format is looked for where it is opened.
                return {"file": file, "path": file}
            return {"driver": driver or "raw"}
        path = file
        number = number_of_set(file)
        if number is not None:
            found = self._options.process.descriptor(number)
            if found is None:
                raise Refusal("fdset-missing", file=file, number=number, way="0", reason=os.strerror(errno.ENOENT))
            path = f"/proc/self/fd/{found}"
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                raise Refusal("file-not-regular", driver="file", file=file)
            with open(path, "rb") as opened:
                start = b"" if stat.S_ISCHR(mode) else opened.read(_HEAD)
        except OSError as error:
            raise OptionError(f"Could not open '{file}': {error.strerror}") from None
        if driver is None:
            driver = probe_bytes(start)
            if driver == "raw" and not read_only:
                _warn_of_probing(file)
        elif driver == "qcow2" and probe_bytes(start) != driver:
            raise OptionError("Image is not in qcow2 format")
        special = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        return {"file": file, "path": path, "format": driver, "protocol": "host_device" if special else "file"}

    def _tell_of_module(self, entry: Entry, module: str) -> None:
        release = self._options.release
        text = release.refusals.message(Refusal("module-missing", module=module))
        if release.behaviour.module_faults_bare:
            sys.stderr.write(f"{text}\n")
        elif text:
            self._options.complaints.line(f"{entry.location}: {text}")

    def _check_left(self, driver: str, values: dict[str, str]) -> None:
        """Refuse what a driver does not know; those that are modelled do so when they are opened."""
        if driver in DRIVERS:
            return
        known = self._options.release.introspection.branch_members("blockdev-add", driver)
        drive_rules.check_left(driver, values, known)

    # When the machine is complete

    def check_flash(self, graph: BlockGraph) -> None:
        """See that what the firmware is in has a size that it can have.

        :raise OptionError: it has not.
        """
        flashes = [(number, graph.drive(name)) for number, name in sorted(self.flash)]
        sizes = [(number, drive.node.virtual_size) for number, drive in flashes if drive is not None and drive.node]
        for number, size in sizes:
            if not size or size % _FLASH_UNIT:
                text = f"system firmware block device pflash{number} has invalid size {size}"
                raise OptionError(f"{text}\ninfo: its size must be a non-zero multiple of 0x{_FLASH_UNIT:x}", "")
        if sum(size for _, size in sizes) > _MOST_FLASH:
            raise OptionError(f"combined size of system firmware exceeds {_MOST_FLASH} bytes", "")

    def check_orphans(self, supported: Callable[[str, int, int], bool]) -> None:
        """See that the machine has a place for each.

        :raise OptionError: it has none for one.
        """
        complaint: OptionError | None = None
        for interface, bus, unit, entry, _ in self.places:
            if interface in ("none", "virtio"):
                continue
            if not supported(interface, bus, unit):
                if complaint is not None:
                    self._options.complaints.error(complaint)
                text = f"machine type does not support if={interface},bus={bus},unit={unit}"
                complaint = OptionError(text, entry.location)
        if complaint is not None:
            raise complaint


def of_machine(settings: dict[str, str]) -> dict[str, str]:
    """What the machine's settings have of a drive: not what was found out while it was read.

    The path of an NBD server's socket is the node's own.
    """
    if settings.get("driver") == "nbd":
        return settings
    return {key: value for key, value in settings.items() if key not in ("path", "protocol")}


def _warn_of_probing(file: str) -> None:
    from qmpd.block.making import warn_of_probing

    warn_of_probing(file, lambda line: print(line, file=sys.stderr))
