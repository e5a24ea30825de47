"""QEMU's whole command line: what qmpd models takes effect, what it does not is read and checked as QEMU does it.

The order is QEMU's: the syntax of each option as it stands on the line, then the machine's type, its properties and its
memory, then its back ends, its CPUs and its devices.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import orjson

from qmpd.cli import key_values, typed_values
from qmpd.cli.chardev_options import ChardevOptions
from qmpd.cli.errors import NOWHERE, OptionError, OptionList
from qmpd.cli.machine_options import OPTIONS as MACHINE_OPTIONS
from qmpd.cli.machine_options import MachineOptions
from qmpd.cli.option_groups import OptionGroups
from qmpd.cli.options import Given, Option
from qmpd.cli.process_options import ProcessOptions
from qmpd.machine.settings import Firmware, GuestSettings
from qmpd.server.settings import VMSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.cli.emulator import Complaints
    from qmpd.machine.settings import Device
    from qmpd.qapi.release import Release

_MACHINE = frozenset(option.name for option in MACHINE_OPTIONS) - {"display", "nographic", "drive", "cpu", "accel"}
_PROCESS = frozenset({"daemonize", "pidfile", "runas", "chroot", "D"})
# Options whose argument is a list of a group's keys, and nothing else here looks at it.
_GROUPS = {
    "acpitable": "acpi",
    "add-fd": "add-fd",
    "fsdev": "fsdev",
    "fw_cfg": "fw_cfg",
    "icount": "icount",
    "iscsi": "iscsi",
    "option-rom": "option-rom",
    "overcommit": "overcommit",
    "sandbox": "sandbox",
    "smbios": "smbios",
    "spice": "spice",
    "trace": "trace",
}
_SANDBOX = {
    "obsolete": ("allow", "deny"),
    "elevateprivileges": ("allow", "deny", "children"),
    "spawn": ("allow", "deny"),
    "resourcecontrol": ("allow", "deny"),
}
_OTHER_TARGETS = frozenset({"semihosting", "semihosting-config", "prom-env", "old-param", "xen-attach", "xen-domid"})
_AUDIO = frozenset(
    ("none", "alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl", "sndio", "spice", "wav")
)
_VGA = ("none", "std", "cirrus", "vmware", "xenfb", "qxl", "virtio", "tcx", "cg3")
_DRIVE_INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
# What of a device for PCI is the device proper, where messages tell.
_INNER = {"virtio-blk-pci": "virtio-blk-device", "virtio-blk": "virtio-blk-device"}
_BOOT = ("order", "once", "menu", "splash", "splash-time", "reboot-timeout", "strict")
_NUMA = ("node", "dist", "cpu", "hmat-lb", "hmat-cache")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?\Z")
_BACKENDS = {"object": "object-add", "netdev": "netdev_add", "blockdev": "blockdev-add"}


class EmulatorOptions:
    """Takes all options of a command line and makes a machine's settings of them."""

    def __init__(self, release: Release, complaints: Complaints) -> None:
        self._release = release
        self._complaints = complaints
        self._groups = OptionGroups(release, complaints.line)
        self.machine = MachineOptions(release, complaints.line)
        self.process = ProcessOptions()
        self._chardevs = ChardevOptions(self._groups)
        self._settings = VMSettings()
        self._machine_settings = self._settings.machine
        self._backends: list[tuple[str, Given, dict[str, object]]] = []
        self._drives: list[tuple[Given, dict[str, str]]] = []
        self._devices: list[Given] = []
        self._checks = MachineChecks(release)
        self._cpu: Given | None = None
        self._boot: dict[str, str] = {}
        self._rtc: dict[str, str] = {}
        self._accelerators: list[tuple[Given, dict[str, str]]] = []
        self._nographic = False
        self._nodefaults = False
        self._ports_given: set[str] = set()
        self._vga = ""
        self._values: dict[str, str] = {}
        self._handlers: dict[str, Callable[[Given], None]] = {
            "chardev": self._chardevs.take_chardev,
            "mon": self._chardevs.take_mon,
            "qmp": lambda given: self._chardevs.take_short(given, "control"),
            "qmp-pretty": lambda given: self._chardevs.take_short(given, "control"),
            "monitor": lambda given: self._chardevs.take_short(given, "readline"),
            "serial": self._take_port,
            "parallel": self._take_port,
            "object": self._take_backend,
            "netdev": self._take_backend,
            "blockdev": self._take_backend,
            "drive": self._take_drive,
            "boot": self._take_boot,
            "numa": self._take_numa,
            "nic": self._take_network,
            "net": self._take_network,
            "rtc": self._take_rtc,
            "tpmdev": self._take_tpm,
            "cpu": self._take_cpu,
            "accel": self._take_accelerator,
            "enable-kvm": self._take_kvm,
            "name": self._take_name,
            "msg": self._take_message,
            "sandbox": self._take_sandbox,
            "display": self._take_display,
            "vga": self._take_vga,
            "nographic": self._take_nographic,
            "nodefaults": self._take_nodefaults,
            "audiodev": self._take_audio,
            "global": self._take_global,
            "set": self._take_set,
            "d": self._take_log,
            "qtest": self._take_qtest,
            "seed": self._take_seed,
            "qtest-log": self._keep,
            "kernel": self._keep,
            "initrd": self._keep,
            "append": self._keep,
            "fda": self._take_disk,
            "fdb": self._take_disk,
            "hda": self._take_disk,
            "hdb": self._take_disk,
            "hdc": self._take_disk,
            "hdd": self._take_disk,
            "cdrom": self._take_disk,
            "readconfig": self._take_configuration,
        }

    # The first look: each option by itself

    def take(self, given: Given) -> None:
        """Take one option.

        :raise OptionError: its argument is wrong.
        """
        name = given.option.name
        try:
            if name in _OTHER_TARGETS:
                raise OptionError("Option not supported for this target")
            handler = self._handlers.get(name)
            if handler is not None:
                handler(given)
            elif name in _PROCESS:
                self.process.take(given)
            elif name in _MACHINE:
                self._take_machine(given)
            elif name in _GROUPS:
                self._groups.read(given, _GROUPS[name])
        except OptionError as error:
            raise error.at(given.location) from None

    def take_image(self, path: str) -> None:
        """Take an argument that is no option: the image of the first disk.

        :raise OptionError: it cannot be opened.
        """
        self._drives.append((Given(Option("hda", "FILE", "", None), path, ""), {"file": path}))

    def check_actions(self) -> None:
        """Look at `-action` and its like, which come before any list is printed.

        :raise OptionError: there is no such action.
        """
        self.machine.check_actions()

    def _take_machine(self, given: Given) -> None:
        if given.option.name == "device":
            self._devices.append(given)
            if given.value.startswith("{") and self._release.behaviour.keyval_options:
                # Read once more below, by then as something that is known to be a JSON object.
                self._json(given.value)
        self.machine.take(given)

    def _json(self, text: str) -> dict[str, object]:
        from qmpd.monitor.json_text import parse

        try:
            value = parse(text, self._release.behaviour.json_parser)
        except ValueError as error:
            raise OptionError(str(error)) from None
        if not isinstance(value, dict):
            raise OptionError("Invalid parameter type for 'null', expected: object")
        return value

    def _take_port(self, given: Given) -> None:
        self._ports_given.add(given.option.name)
        self._chardevs.take_port(given, given.option.name)

    def _take_backend(self, given: Given) -> None:
        name = given.option.name
        command = _BACKENDS[name]
        if given.value.startswith("{"):
            values = typed_values.from_json(self._release, command, given.value)
        elif name == "blockdev":
            values = typed_values.from_tree(self._release, command, key_values.tree(given.value, "driver"))
        else:
            pairs = self._groups.pairs(given, name)
            values = typed_values.from_pairs(self._release, command, pairs)
        if name == "blockdev":
            if "node-name" not in values:
                raise OptionError("'node-name' must be specified for the root node")
        else:
            self._groups.claim(name, str(values["id"]))
        self._backends.append((name, given, values))

    def _take_drive(self, given: Given) -> None:
        pairs = self._groups.pairs(given, "drive")
        values = dict(pairs)
        if "id" in values:
            self._groups.claim("drive", values["id"])
        self._drives.append((given, values))

    def _take_disk(self, given: Given) -> None:
        self._drives.append((given, {"file": given.value}))

    def _take_boot(self, given: Given) -> None:
        if not self._release.behaviour.keyval_options:
            self._boot = self._groups.read(given, "boot-opts")
            return
        for key, value in key_values.tree(given.value, "order").items():
            self._boot[key] = value if isinstance(value, str) else ""

    def _take_numa(self, given: Given) -> None:
        kind = dict(self._groups.pairs(given, "numa")).get("type")
        if kind is None:
            raise OptionError("Parameter 'type' is missing")
        if kind not in _NUMA:
            raise OptionError(f"Parameter 'type' does not accept value '{kind}'")

    def _take_network(self, given: Given) -> None:
        kind = dict(self._groups.pairs(given, given.option.name)).get("type", "")
        if kind not in ("none", "nic", *self._network_types()):
            raise OptionError(f"Parameter 'type' does not accept value '{kind}'")

    def _network_types(self) -> list[str]:
        listed = self._release.command_line.text("-netdev", "help", program="")
        return listed[0].splitlines()[1:] if listed is not None else []

    def _take_rtc(self, given: Given) -> None:
        values = self._groups.read(given, "rtc")
        self._rtc |= values

    def _take_tpm(self, given: Given) -> None:
        if "id" not in dict(self._groups.pairs(given, "tpmdev")):
            raise OptionError("Parameter 'id' is missing")
        self._groups.read(given, "tpmdev")

    def _take_cpu(self, given: Given) -> None:
        self._cpu = given
        self.machine.take(given)

    def _take_accelerator(self, given: Given) -> None:
        values = dict(self._groups.pairs(given, "accel"))
        if values.get("accel") != "help":
            self.machine.take(given)
        self._accelerators.append((given, values))

    def _take_kvm(self, given: Given) -> None:
        self._accelerators.append((given, {"accel": "kvm"}))

    def _take_name(self, given: Given) -> None:
        self.machine.take(given)
        self.process.name = dict(self._groups.pairs(given, "name")).get("process")

    def _take_message(self, given: Given) -> None:
        values = self._groups.read(given, "msg")
        if "timestamp" in values:
            self._complaints.timestamp = key_values.boolean("timestamp", values["timestamp"])

    def _take_sandbox(self, given: Given) -> None:
        values = self._groups.read(given, "sandbox")
        if not key_values.boolean("enable", values.get("enable", "off")):
            return
        for name, known in _SANDBOX.items():
            if name in values and values[name] not in known:
                raise OptionError(f"invalid argument for {name}")

    def _take_display(self, given: Given) -> None:
        kind = given.value.split(",")[0]
        listed = self._release.command_line.text("-display", "help", program="")
        if listed is not None and kind != "help" and kind not in listed[0].split("\n"):
            # Those of modules that the release's reference program did not have are known by name.
            known = self._display_types()
            if known and kind not in known:
                raise OptionError(f"Parameter 'type' does not accept value '{kind}'")

    def _display_types(self) -> tuple[str, ...]:
        from qmpd.qapi.introspection import Enumeration, Object

        introspection = self._release.introspection
        options = introspection.type(introspection.command("query-display-options").returns)
        if not isinstance(options, Object):
            return ()
        found = introspection.type(options.member("type").type)
        return found.values if isinstance(found, Enumeration) else ()

    def _take_vga(self, given: Given) -> None:
        self._vga = given.value.split(",")[0]

    def _take_nographic(self, _given: Given) -> None:
        self._nographic = True

    def _take_nodefaults(self, _given: Given) -> None:
        self._nodefaults = True

    def _take_audio(self, given: Given) -> None:
        values = self._json(given.value) if given.value.startswith("{") else dict(self._groups.pairs(given, "audiodev"))
        for name in ("id", "driver"):
            if name not in values:
                raise OptionError(f"Parameter '{name}' is missing")
        if values["driver"] not in _AUDIO:
            raise OptionError(f"Parameter 'driver' does not accept value '{values['driver']}'")

    def _take_global(self, given: Given) -> None:
        driver, dot, rest = given.value.partition(".")
        if dot and "=" in rest and "=" not in driver:
            return
        self._groups.read(given, "global")

    def _take_set(self, given: Given) -> None:
        parts = given.value.partition("=")[0].split(".", 2)
        if len(parts) != 3 or "=" not in given.value:
            raise OptionError(f'can\'t parse: "{given.value}"')
        group, identifier, _ = parts
        raise OptionError(f'there is no {group} "{identifier}" defined')

    def _take_log(self, given: Given) -> None:
        self.process.logs = True
        listed = self._release.command_line.text("-d", "help", program="")
        if listed is None:
            return
        known = {line.split(" ", 1)[0] for line in listed[0].splitlines()[1:]}
        if not all(item in known or item.startswith("trace:") for item in given.value.split(",")):
            raise OptionList(*listed)

    def _take_seed(self, given: Given) -> None:
        try:
            key_values.number("seed", given.value)
        except OptionError:
            raise OptionError(f"Invalid seed number: {given.value}") from None

    def _keep(self, given: Given) -> None:
        self._values[given.option.name] = given.value

    def _take_qtest(self, given: Given) -> None:
        self._chardevs.take_short(given, "qtest")

    def _take_configuration(self, given: Given) -> None:
        try:
            with open(given.value, encoding="utf-8"):
                pass
        except OSError as error:
            raise OptionError(f"Could not open '{given.value}': {error.strerror}") from None
        raise OptionError("qmpd does not read configuration files of QEMU")

    # The second look: the options together

    def finish(self) -> VMSettings:
        """The settings, once every option has been taken.

        :raise OptionError: the options are wrong together.
        """
        settings = self._settings
        machine = settings.machine = self._machine_settings = self.machine.finish()
        settings.pid_file = self.process.pid_file
        checks = self._checks
        for given, values in self._accelerators:
            checks.accelerator(given, values)
        machine.kvm = self._wants_kvm()
        if self._accelerator() == "qtest":
            # No CPU runs, so there is no firmware either, and time passes when the test program says so.
            settings.clock = "stepped"
            machine.guest = GuestSettings(firmware=Firmware.NONE, operating_system=False)
            machine.qtest_log = self._values.get("qtest-log")
        if self._release.behaviour.keyval_options:
            checks.machine(self.machine.machine_name, self.machine.machine)
        self._check_clock()
        checks.boot(self._boot)
        if self._vga and self._vga not in _VGA:
            raise OptionError(f"unknown vga type: {self._vga}", NOWHERE)
        for name in ("initrd", "append"):
            if name in self._values and "kernel" not in self._values:
                raise OptionError(f"-{name} only allowed with -kernel option", NOWHERE)
        self._finish_chardevs()
        nodes: set[str] = set()
        for name, given, arguments in self._backends:
            if name == "object":
                machine.objects.append(arguments)
            elif name == "netdev":
                machine.netdevs.append(arguments)
            else:
                node = str(arguments["node-name"])
                if node in nodes:
                    raise OptionError(f"Duplicate nodes with node-name='{node}'", given.location)
                nodes.add(node)
                checks.file(given, str(arguments.get("filename", "")))
                machine.blockdevs.append(arguments)
        memory = self.machine.machine.get("memory-backend")
        if isinstance(memory, str) and all(each["id"] != memory for each in machine.objects):
            raise OptionError(f"Memory backend '{memory}' not found", NOWHERE)
        if self._cpu is not None and machine.machine_type != "none":
            if self._cpu.value.split(",")[0] == "host" and not machine.kvm:
                raise OptionError("CPU model 'host' requires KVM or HVF", NOWHERE)
            checks.cpu(self._cpu.value)
        for given, drive in self._drives:
            checks.drive(given, drive)
            machine.drives.append(drive)
        for given, device in zip(self._devices, machine.devices, strict=True):
            checks.device(given, device)
            self._check_links(given, device)
        self._check_peers()
        return settings

    def _check_links(self, given: Given, device: Device) -> None:
        """Whether the back ends that a device names are there."""
        settings = self._machine_settings
        known = {
            "netdev": {str(each["id"]) for each in settings.netdevs},
            "chardev": set(self._chardevs.labels),
            "drive": {str(each["node-name"]) for each in settings.blockdevs}
            | {drive["id"] for drive in settings.drives if "id" in drive},
        }
        for name, labels in known.items():
            value = device.properties.get(name)
            if value is not None and value not in labels:
                owner = _INNER.get(device.driver, device.driver) if name == "drive" else device.driver
                raise OptionError(f"Property '{owner}.{name}' can't find value '{value}'", given.location)

    def _check_peers(self) -> None:
        """Warn of what is connected to nothing."""
        settings = self._machine_settings
        used = {device.properties.get("netdev") for device in settings.devices}
        for each in settings.netdevs:
            if each["id"] not in used and each["type"] != "hubport":
                self._complaints.line(f"warning: netdev {each['id']} has no peer")
        counts: dict[str, int] = {}
        for device in settings.devices:
            if not self._checks.is_nic(device.driver):
                continue
            number = counts.setdefault(device.driver, 0)
            counts[device.driver] += 1
            if "netdev" not in device.properties:
                name = device.properties.get("id", f"{device.driver}.{number}")
                self._complaints.line(f"warning: nic {name} has no peer")

    def _check_clock(self) -> None:
        base = self._rtc.get("base", "utc")
        if base not in ("utc", "localtime") and _DATE.match(base) is None:
            hint = "valid formats: '2006-06-17T16:01:21' or '2006-06-17'"
            raise OptionError("invalid datetime format", NOWHERE, (hint,))
        for key, known in (("clock", ("host", "rt", "vm")), ("driftfix", ("slew", "none"))):
            value = self._rtc.get(key, known[0])
            if value not in known:
                raise OptionError(f"invalid option value '{value}'", NOWHERE)

    def _accelerators_wanted(self) -> list[str]:
        listed = self.machine.machine.get("accel")
        names = listed.split(":") if isinstance(listed, str) else [values["accel"] for _, values in self._accelerators]
        return [name for name in names if name in ("kvm", "tcg", "qtest")]

    def _accelerator(self) -> str:
        return next(iter(self._accelerators_wanted()), "tcg")

    def _wants_kvm(self) -> bool:
        """Whether KVM would accelerate the machine.

        Nothing is accelerated here, so KVM does not have to be there where nothing else would do.
        """
        wanted = self._accelerators_wanted()
        return wanted[:1] == ["kvm"] and (len(wanted) == 1 or os.access("/dev/kvm", os.R_OK | os.W_OK))

    def _finish_chardevs(self) -> None:
        if not self._nodefaults and not self._chardevs.monitor_given:
            self._chardevs.default_monitor(self._nographic)
        self._chardevs.finish(self._settings)


class MachineChecks:
    """What a release's types and lists say about options."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def _properties(self, type_name: str) -> dict[str, str] | None:
        """The properties of a QOM type and their types; None where it is not known."""
        reply = self._release.captured("qom-list-properties", {"typename": type_name}, "none", {})
        if not isinstance(reply, bytes):
            return None
        return {entry["name"]: entry["type"] for entry in orjson.loads(reply)}

    def machine(self, name: str, tree: key_values.Tree) -> None:
        """Check the properties of `-machine`.

        :raise OptionError: there is no such property, or its value does not fit.
        """
        known = self._properties(f"{name}-machine")
        if known is None:
            return
        own = ("type", "accel", "smp", "memory-backend", "memory", "boot")
        for key, value in tree.items():
            if key not in own and known.get(key) == "bool" and isinstance(value, str):
                key_values.boolean(key, value)
        for key in tree:
            if key not in own and key not in known:
                raise OptionError(f"Property '{name}-machine.{key}' not found", NOWHERE)

    def accelerator(self, given: Given, values: dict[str, str]) -> None:
        """Check the properties of `-accel`.

        :raise OptionError: there is no such property.
        """
        known = self._properties(f"{values['accel']}-accel")
        for key in values:
            if known is not None and key not in ("accel", "id") and key not in known:
                raise OptionError(f"Property '{values['accel']}-accel.{key}' not found", given.location)

    def is_nic(self, driver: str) -> bool:
        """Whether a driver is one of a network card's."""
        known = self._properties(self._aliases().get(driver, driver)) or {}
        return "netdev" in known and "mac" in known

    def boot(self, values: dict[str, str]) -> None:
        """Check `-boot`.

        :raise OptionError: there is no such key, or its value does not fit.
        """
        for key in ("menu", "strict"):
            if key in values:
                key_values.boolean(f"boot.{key}", values[key])
        for key in values:
            if key not in _BOOT:
                raise OptionError(f"Parameter 'boot.{key}' is unexpected", NOWHERE)
        for key in ("order", "once"):
            for number, letter in enumerate(values.get(key, "")):
                if not "a" <= letter <= "p":
                    raise OptionError(f"Invalid boot device '{letter}'", NOWHERE)
                if letter in values[key][:number]:
                    raise OptionError(f"Boot device '{letter}' was given twice", NOWHERE)

    def cpu(self, text: str) -> None:
        """Check the model and the features of `-cpu`.

        :raise OptionError: there is no such model or feature.
        """
        model, *features = text.split(",")
        reply = self._release.captured("query-cpu-definitions", {}, "pc", {})
        definitions = orjson.loads(reply) if isinstance(reply, bytes) else []
        names = {entry["name"] for entry in definitions} | {"host"}
        if definitions and model not in names:
            raise OptionError(f"unable to find CPU model '{model}'", NOWHERE)
        type_name = f"{model}-x86_64-cpu"
        known = self._properties(type_name)
        if known is None or "host" in (model, text):
            return
        for feature in features:
            name, equals, value = feature.lstrip("+-").partition("=")
            if not name or name in known or name.replace("_", "-") in known:
                continue
            refusal = f"Property '{type_name}.{name}' not found"
            if equals:
                refusal = f"can't apply global {type_name}.{name}={value}: {refusal}"
            raise OptionError(refusal, NOWHERE)

    def file(self, given: Given, path: str) -> None:
        """Check that a file can be opened.

        :raise OptionError: it cannot.
        """
        if path and ":" not in path:
            try:
                os.stat(path)
            except OSError as error:
                raise OptionError(f"Could not open '{path}': {error.strerror}", given.location) from None

    def drive(self, given: Given, values: dict[str, str]) -> None:
        """Check a `-drive`.

        :raise OptionError: its interface is unknown, or its file cannot be opened.
        """
        interface = values.get("if", "ide")
        if interface not in _DRIVE_INTERFACES:
            raise OptionError(f"unsupported bus type '{interface}'", given.location)
        location = given.location if given.value else given.spelled
        path = values.get("file", "")
        others = set(values) - {"id", "if", "media", "index", "bus", "unit"}
        if others and not {"file", "driver", "format"} & others and not any(key.startswith("file.") for key in others):
            raise OptionError("Must specify either driver or file", location)
        try:
            self.file(given, path)
        except OptionError as error:
            raise OptionError(error.message, location) from None

    def device(self, given: Given, device: Device) -> None:
        """Check the driver and the properties of a `-device`.

        :raise OptionError: there is no such driver or property.
        """
        driver = self._aliases().get(device.driver, device.driver)
        known = self._properties(driver)
        if known is None or "realized" not in known:
            raise OptionError(f"'{device.driver}' is not a valid device model name", given.location)
        for name in device.properties:
            if name not in ("id", "bus", "addr") and name.partition("[")[0] not in known and name not in known:
                if name.startswith(("x-", "failover")):
                    continue
                raise OptionError(f"Property '{driver}.{name}' not found", given.location)

    def _aliases(self) -> dict[str, str]:
        """Other names of drivers, as the list of devices tells them."""
        listed = self._release.command_line.text("-device", "help", program="")
        found = re.findall(r'name "([^"]+)".*alias "([^"]+)"', listed[0] if listed else "")
        return {alias: name for name, alias in found}
