"""QEMU's whole command line, as it is read: each option by itself, in the line's order (`qemu_init` in system/vl.c).

What an option says is kept here and looked at again when the machine is put together (`qmpd.emulator.phases.start`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.emulator.command_line.machine_options import OPTIONS as MACHINE_OPTIONS
from qmpd.emulator.reading import config_files
from qmpd.emulator.reading.chardevs import ChardevOptions
from qmpd.emulator.reading.firmware_tables import FirmwareTables
from qmpd.emulator.reading.kept import KeptOptions
from qmpd.emulator.reading.singles import Singles
from qmpd.option_language import key_values, typed_values
from qmpd.option_language.errors import OptionError, OptionList
from qmpd.option_language.groups import HELP, Entry
from qmpd.option_language.options import Given, Option
from qmpd.server.chardevs.probing import probe_writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.emulator.complaints import Complaints
    from qmpd.qapi.release import Release

    Values = dict[str, object]

_MACHINE = frozenset(option.name for option in MACHINE_OPTIONS) - {"display", "drive", "device", "accel"}
_PROCESS = frozenset({"daemonize", "pidfile", "runas", "chroot", "D"})
# Options whose argument is a list of a group's keys, which is looked at when its turn comes.
_GROUPS = {
    "add-fd": "add-fd",
    "chardev": "chardev",
    "drive": "drive",
    "fsdev": "fsdev",
    "fw_cfg": "fw_cfg",
    "icount": "icount",
    "iscsi": "iscsi",
    "mon": "mon",
    "net": "net",
    "nic": "nic",
    "numa": "numa",
    "rtc": "rtc",
    "sandbox": "sandbox",
}
_OTHER_TARGETS = frozenset(
    ("semihosting", "semihosting-config", "prom-env", "old-param", "xen-attach", "xen-domid", "xen-domid-restrict", "g")
)
_XEN = "xen-domid"
# Options that are properties of the machine.
_SWITCHES = {"usb": ("usb", "on"), "no-acpi": ("acpi", "off"), "no-hpet": ("hpet", "off")}
_LINES = ("append", "bios", "initrd", "kernel", "dtb", "shim")
# What is kept for the time when the machine is put together.
_KEPT = frozenset(("vga", "loadvm", "mem-path", "mem-prealloc", "nodefaults", "nographic", "qtest-log", "d"))
_DRIVES = {
    "hda": 0,
    "hdb": 1,
    "hdc": 2,
    "hdd": 3,
    "fda": 0,
    "fdb": 1,
    "cdrom": 2,
    **dict.fromkeys(("mtdblock", "sd", "pflash"), -1),
}
_INTERFACES = {"fda": "floppy", "fdb": "floppy", "mtdblock": "mtd", "sd": "sd", "pflash": "pflash"}
_MON_IS_OLD = "warning: '-mon' is deprecated, use '-object' with 'monitor-hmp' or 'monitor-qmp' types instead"
_STREAMS = ("stream", "dgram")


class EmulatorOptions(KeptOptions):
    """Takes all options of a command line."""

    def __init__(self, release: Release, complaints: Complaints) -> None:
        super().__init__(release, complaints)
        self.chardevs = ChardevOptions(release, self.groups, complaints.line, self._object_type)
        self.singles = Singles(self)
        self.tables = FirmwareTables(self)
        self._handlers: dict[str, Callable[[Given], None]] = {
            "help": self._take_help,
            "h": self._take_help,
            "version": self._take_help,
            "qmp": lambda given: self.chardevs.take_short(given, "control"),
            "qmp-pretty": lambda given: self.chardevs.take_short(given, "control"),
            "monitor": lambda given: self.chardevs.take_short(given, "readline"),
            "qtest": self._keep_for_later,
            "dump-vmstate": self._take_states,
            "object": self._take_object,
            "netdev": self._take_netdev,
            "blockdev": self._take_blockdev,
            "device": self._take_device,
            "boot": self._take_boot,
            "action": self._take_action,
            "no-reboot": self._take_action,
            "no-shutdown": self._take_action,
            "watchdog-action": self._take_action,
            "incoming": self._take_incoming,
            "only-migratable": self._take_only_migratable,
            "tpmdev": self._take_tpm,
            "accel": self._take_accelerator,
            "enable-kvm": self._take_kvm,
            "name": self._take_name,
            "msg": self._take_message,
            "audiodev": self.singles.audio_backend,
            "audio": self.singles.audio,
            "display": self.singles.display,
            "vnc": self.singles.vnc,
            "spice": self.singles.spice,
            "compat": self.singles.compat,
            "trace": self.singles.trace,
            "plugin": self.singles.plugin,
            "dfilter": self.singles.ranges,
            "seed": self.singles.seed,
            "smbios": self.tables.smbios,
            "acpitable": self.tables.acpi_table,
            "option-rom": self.tables.option_rom,
            "virtfs": self.singles.virtfs,
            "overcommit": self.singles.overcommit,
            "run-with": self.singles.run_with,
            "echr": self.singles.escape_character,
            "rotate": self.singles.rotation,
            "usbdevice": self._take_usb,
            "watchdog": self._take_watchdog,
            "writeconfig": self._take_config_to_write,
            "realtime": self._take_realtime,
            "global": self._take_global,
            "set": lambda given: self.groups.set(given.value),
            "readconfig": lambda given: config_files.take(self, given),
            "L": self._take_folder,
        }

    @property
    def audio_backends(self) -> dict[str, str]:
        """The driver of each `-audiodev`, by its id."""
        return self.singles.audio_backends

    def warn(self, text: str) -> None:
        """Tell of something that is not refused."""
        self.complaints.line(text)

    def _object_type(self, name: str) -> str | None:
        """The type of an object of this name."""
        return next((str(each["qom-type"]) for _, each in self.objects if each.get("id") == name), None)

    def take(self, given: Given) -> None:
        """Take one option.

        :raise OptionError: its argument is wrong.
        """
        name = given.option.name
        try:
            if name in _OTHER_TARGETS and not (name == _XEN and self.release.behaviour.xen_domain_known):
                raise OptionError("Option not supported for this target")
            handler = self._handlers.get(name)
            if handler is not None:
                handler(given)
            elif name in _PROCESS:
                self.process.take(given)
            elif name in _GROUPS:
                if name == "mon" and self.release.behaviour.mon_deprecated and not self.groups.find("mon"):
                    self.complaints.line(f"{given.location}: {_MON_IS_OLD}")
                self.groups.parse(given, _GROUPS[name])
            elif name in _DRIVES:
                self._take_disk(given)
            elif name in _LINES:
                self._take_line(given)
            elif name in _KEPT:
                self.values[name] = given.value
                if name == "nographic":
                    self.values["display"] = "none"
                    self.machine.machine["graphics"] = "off"
            elif name in _MACHINE:
                self._take_machine(given)
            elif name in _SWITCHES:
                self.machine.machine.update([_SWITCHES[name]])
            elif given.option.argument is not None or name in ("s", "snapshot"):
                self._keep_for_later(given)
        except Refusal as error:
            raise error.at(given.location) from None

    def _take_action(self, given: Given) -> None:
        """`-action` and its like: one list in the end, whose values are looked at then."""
        if not self.release.behaviour.keyval_options:
            self.machine.take(given)
            return
        pairs = {"no-reboot": ("reboot", "shutdown"), "no-shutdown": ("shutdown", "pause")}
        pair = pairs.get(given.option.name)
        if given.option.name == "action":
            self.groups.parse(given, "action")
        else:
            entry = self.groups.create("action", None, given.location)
            entry.pairs.append(pair or ("watchdog", given.value))

    def take_image(self, path: str) -> None:
        """Take an argument that is no option: the image of the first disk."""
        option = Option("hda", "FILE", "", None)
        self._take_disk(Given(option, path, path), path)

    def _keep_for_later(self, given: Given) -> None:
        self.given.setdefault(given.option.name, []).append(given)

    def _take_states(self, given: Given) -> None:
        if "dump-vmstate" in self.values:
            raise OptionError("only one '-dump-vmstate' option may be given")
        probe_writing(given.value, "states-file")
        self.values["dump-vmstate"] = given.value

    def _take_help(self, given: Given) -> None:
        word = "-version" if given.option.name == "version" else "-help"
        raise self.lists.program(word)

    # The machine

    def _take_machine(self, given: Given) -> None:
        if given.option.name in ("machine", "M") and self.release.behaviour.keyval_options:
            pieces = key_values.split_flat_list(given.value)
            if any(piece in HELP for piece in pieces):
                text = ",".join(piece for piece in key_values.split_flat_list(given.value) if piece not in HELP)
                self.machine.take(given._replace(value=text))
                name = self.machine.machine.get("type")
                raise self.lists.machine(name if isinstance(name, str) else None)
        elif given.option.name in ("machine", "M"):
            name, *rest = given.value.split(",")
            if name in HELP:
                raise self.lists.machine(None)
            if any(piece in HELP for piece in rest):
                raise self.lists.machine(name)
        if given.option.name == "smp" and given.value.split(",")[0] in HELP:
            raise self.lists.group("smp-opts", self.groups)
        if given.option.name == "cpu":
            self.values["cpu"] = given.value
            if given.value in HELP or not given.value:
                return
        self.machine.take(given)

    def _take_line(self, given: Given) -> None:
        name = "firmware" if given.option.name == "bios" else given.option.name
        self.machine.machine[name] = given.value

    def _take_boot(self, given: Given) -> None:
        if not self.release.behaviour.keyval_options:
            self.groups.parse(given, "boot-opts")
            return
        if any(piece in HELP for piece in key_values.split_flat_list(given.value)):
            raise self.lists.group("boot-opts", self.groups)
        self.machine.merge({"boot": key_values.tree(given.value, "order")})

    def _take_accelerator(self, given: Given) -> None:
        entry = self.groups.parse(given, "accel")
        name = entry.get("accel")
        if not name or name in HELP:
            raise self.lists.listed("-accel")

    def _take_incoming(self, given: Given) -> None:
        self.singles.check_incoming(given.value)
        self.machine.set_incoming(given.value)

    def _take_only_migratable(self, _given: Given) -> None:
        self.machine.be_only_migratable()

    def _take_kvm(self, _given: Given) -> None:
        self.machine.machine["accel"] = "kvm"

    def _take_name(self, given: Given) -> None:
        entry = self.groups.parse(given, "name")
        self.machine.set_name(entry.get("guest"))
        self.complaints.guest = entry.get("guest") or ""
        self.process.name = entry.get("process")
        self.process.debug_threads = entry.flag("debug-threads")

    def _take_message(self, given: Given) -> None:
        entry = self.groups.parse(given, "msg")
        self.complaints.timestamp = entry.flag("timestamp")
        self.complaints.names_guest = entry.flag("guest-name")

    def _take_usb(self, given: Given) -> None:
        self.machine.machine["usb"] = "on"
        self._keep_for_later(given)

    def _take_watchdog(self, given: Given) -> None:
        if "watchdog" in self.given:
            raise OptionError("only one watchdog option may be given")
        self._keep_for_later(given)

    def _take_config_to_write(self, given: Given) -> None:
        """It is seen whether the file can be written, and no more."""
        if given.value != "-":
            probe_writing(given.value, "config-written")
        self.complaints.line(f"{given.location}: warning: qmpd writes no configuration")

    def _take_realtime(self, given: Given) -> None:
        if self.groups.parse(given, "realtime").has("mlock"):
            said = self.release.refusals.message(Refusal("memory-lock-deprecated"))
            self.complaints.line(f"{given.location}: warning: {said}")

    def _take_folder(self, given: Given) -> None:
        if given.value in HELP:
            self.values["L"] = "help"

    # Its parts

    def _take_object(self, given: Given) -> None:
        if given.value.startswith("{") and self.release.behaviour.keyval_options:
            declared = typed_values.argument_type(self.release, "object-add")
            self.objects.append((given.location, typed_values.from_json(self.release, declared, given.value)))
            return
        entry = self.groups.parse(given, "object")
        kind = entry.get("qom-type")
        if kind is None:
            raise OptionError("Parameter 'qom-type' is missing")
        if kind in HELP:
            raise self.lists.listed("-object")
        if any(key in HELP for key, _ in entry.pairs):
            listed = self.lists.object(kind)
            if listed is not None:
                raise listed
        self.add_object(entry)

    def _take_netdev(self, given: Given) -> None:
        declared = typed_values.argument_type(self.release, "netdev_add")
        if given.value.startswith("{") and self.release.behaviour.keyval_options:
            values = typed_values.from_json(self.release, declared, given.value)
        elif self.release.behaviour.streams_are_trees and _is_stream(given.value):
            values = typed_values.from_tree(self.release, declared, key_values.tree(given.value, "type"))
        else:
            self.groups.parse(given, "netdev")
            return
        self.netdevs.append((given.location, values))

    def _take_blockdev(self, given: Given) -> None:
        declared = typed_values.argument_type(self.release, "blockdev-add")
        if given.value.startswith("{"):
            values = typed_values.from_json(self.release, declared, given.value)
        else:
            tree = key_values.tree(given.value, "driver")
            values = typed_values.from_tree(self.release, declared, tree)
        self.blockdevs.append((given.location, values))

    def _take_device(self, given: Given) -> None:
        if not (given.value.startswith("{") and self.release.behaviour.keyval_options):
            self.groups.parse(given, "device")
            return
        from qmpd.wire.json_text import parse

        try:
            value = parse(given.value, self.release.behaviour.json_parser)
        except ValueError as error:
            raise OptionError(str(error)) from None
        assert isinstance(value, dict)
        self.devices.append((given.location, value))

    def _take_disk(self, given: Given, location: str | None = None) -> None:
        name = given.option.name
        entry = Entry("drive", None, given.location if location is None else location)
        entry.pairs.append(("media", "cdrom" if name == "cdrom" else "disk"))
        if name in _INTERFACES:
            entry.pairs = [("if", _INTERFACES[name])]
        if _DRIVES[name] >= 0:
            entry.pairs.append(("index", str(_DRIVES[name])))
        if given.value:
            entry.pairs.append(("file", given.value))
        self.groups.add(entry)

    def _take_tpm(self, given: Given) -> None:
        if given.value in HELP:
            raise OptionList("", 1, self.lists.tpm_types())
        self.groups.parse(given, "tpmdev")

    def _take_global(self, given: Given) -> None:
        driver, dot, rest = given.value.partition(".")
        name, equals, value = rest.partition("=")
        if driver and dot and equals and name and "=" not in driver and len(driver) < 64 and len(name) < 64:
            entry = Entry("global", None, given.location)
            entry.pairs = [("driver", driver), ("property", name), ("value", value)]
            self.groups.add(entry)
            return
        entry = self.groups.parse(given, "global")
        if not self.release.behaviour.keyval_options:
            return  # what lacks something sets nothing
        if not all(entry.has(key) for key in ("driver", "property", "value")):
            raise OptionError("options 'driver', 'property', and 'value' are required")


def _is_stream(text: str) -> bool:
    return dict(key_values.flat_list(text, "type")).get("type") in _STREAMS
