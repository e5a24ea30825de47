"""The human monitor's commands for the parts of a machine: devices, backends, drives, objects and the balloon.

Each reads its arguments as QEMU's does (monitor/hmp.c, `args_type`), and then does what the QMP command does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import orjson

from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import NotModelled, Refusal, Worded
from qmpd.machine.errors import MachineError
from qmpd.monitor.commands import handlers
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.errors import CommandError
from qmpd.qapi.errors import ArgumentError
from qmpd.system.build import add_drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.system.system import System

    Part = Callable[[System, "Line"], str]

_BLANKS = " \t\n\v\f\r"
_PAIR = re.compile(r"((?:[^,]|,,)*)(?:,|\Z)")
# In the order of QEMU's numbers for them.
INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
# What a drive without a medium may be given.
DRIVE_OPTIONS = frozenset({"if", "id", "format", "media", "index", "bus", "unit", "cache", "readonly", "read-only"})
_SIZE = re.compile(r"([0-9]+)([kKmMgGtTbB]?)")
_MEBIBYTE = 1 << 20
_EXPECTED = re.compile(r"Invalid parameter type for '(.*)', expected: integer")


class Misread(Exception):  # noqa: N818 - the name says what happened
    """The arguments cannot be read; the text says why, and may be empty."""


class Line:
    """What follows a command's name: gives its arguments one after another."""

    def __init__(self, title: str, text: str) -> None:
        self.title = title
        self._text = text
        self._at = 0

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _BLANKS:
            self._at += 1

    def word(self) -> str | None:
        """The next word, which may be quoted; None at the end of the line."""
        self._skip()
        if self._at == len(self._text):
            return None
        start = self._at
        if self._text[start] == '"':
            end = self._text.find('"', start + 1)
            end = len(self._text) if end < 0 else end
            self._at = min(end + 1, len(self._text))
            return self._text[start + 1 : end]
        while self._at < len(self._text) and self._text[self._at] not in _BLANKS:
            self._at += 1
        return self._text[start : self._at]

    def rest(self) -> str | None:
        """All that is left; None where nothing is."""
        self._skip()
        rest, self._at = self._text[self._at :], len(self._text)
        return rest or None

    def required(self, what: str = "string") -> str:
        """The next word.

        :raise Misread: there is none.
        """
        found = self.word()
        if found is None:
            raise Misread(f"{self.title}: {what} expected")
        return found

    def flag(self, letter: str) -> bool:
        """Whether the flag of this letter comes next.

        :raise Misread: another one does.
        """
        self._skip()
        rest = self._text[self._at :]
        if rest[:1] != "-":
            return False
        if rest[1:2] != letter:
            raise Misread(f"{self.title}: unsupported option -{rest[1:2]}")
        self._at += 2
        return True

    def end(self) -> None:
        """Nothing may follow.

        :raise Misread: something does.
        """
        if self.rest() is not None:
            raise Misread(f"{self.title}: extraneous characters at the end of line")


def _pairs(text: str, implied: str) -> dict[str, str]:
    """The options of a list `VALUE,NAME=VALUE,...`, the first of which may be `implied`."""
    found: dict[str, str] = {}
    for place, match in enumerate(_PAIR.finditer(text)):
        if match[0] == "" and match.start() == len(text):
            break
        name, equals, value = match[1].partition("=")
        if not equals or "," in name:
            name, value = (implied, match[1]) if place == 0 else (match[1], "on")
        # Of several ids the first counts, of anything else the last.
        if name != "id" or name not in found:
            found[name] = value.replace(",,", ",")
    return found


def _execute(system: System, name: str, arguments: dict[str, Any]) -> str:
    """Do what the QMP command does; gives nothing.

    :raise CommandError, MachineError, ArgumentError: it refuses.
    """
    system.release.commands[name].check(arguments)
    # None of these looks at who asks.
    handlers(system.release)[name](system, cast("Client", None), arguments)
    return ""


def _typed(values: dict[str, str]) -> dict[str, Any]:
    """Values as they are declared, as far as their looks tell."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        size = _SIZE.fullmatch(value)
        if name in ("id", "qom-type", "type"):
            found[name] = value
        elif value in ("on", "off"):
            found[name] = value == "on"
        elif size is not None and (name == "size" or not size[2]):
            found[name] = int(size[1]) << 10 * "bkmgt".index(size[2].lower() or "b")
        else:
            found[name] = value
    return found


def _check_options(identifier: str | None, taken: bool) -> None:
    """An id that QEMU's option lists do not take ends the reading; what is wrong with it goes to standard error."""
    if identifier is not None and (not is_identifier(identifier) or taken):
        raise Misread("")


def _device_add(system: System, line: Line) -> str:
    options = _pairs(line.word() or "", "driver")
    devices = system.devices
    identifier = options.get("id")
    taken = system.release.behaviour.device_id_check == "options" and identifier in devices.removal.in_use
    _check_options(identifier, taken)
    line.end()
    devices.add(options, text=True)
    return ""


def _device_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return _execute(system, "device_del", {"id": identifier})


def _netdev_add(system: System, line: Line) -> str:
    options = _pairs(line.word() or "", "type")
    identifier = options.get("id")
    network = system.inventory.backends.network
    _check_options(identifier, identifier is not None and network.find(identifier) is not None)
    line.end()
    if identifier is None:
        raise CommandError("Parameter 'id' is missing")
    try:
        return _execute(system, "netdev_add", _typed(options))
    except ArgumentError as error:
        expected = _EXPECTED.fullmatch(error.message)
        if expected is not None:
            raise CommandError(f"Parameter '{expected[1]}' expects an int64 value") from None
        unexpected = re.fullmatch(r"Parameter '(.*)' is unexpected", error.message)
        raise CommandError(error.message if unexpected is None else f"Invalid parameter '{unexpected[1]}'") from None


def _netdev_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return _execute(system, "netdev_del", {"id": identifier})


def _set_link(system: System, line: Line) -> str:
    name, up = line.required(), line.word()
    if up not in ("on", "off"):
        raise Misread("Expected 'on' or 'off'")
    line.end()
    return _execute(system, "set_link", {"name": name, "up": up == "on"})


def _chardev_add(system: System, line: Line) -> str:
    options = _pairs(line.required(), "backend")
    line.end()
    if "id" not in options:
        raise CommandError("chardev: no id specified")
    kind, identifier = options.pop("backend", ""), options.pop("id")
    if kind not in ("null", "ringbuf", "memory", "testdev", "msmouse", "pty", "file"):
        if kind in ("socket", "udp", "pipe", "serial", "parallel", "stdio", "vc", "mux", "braille", "wctablet"):
            raise NotModelled(f"adding character devices of type {kind} here")
        raise CommandError(f"'{kind}' is not a valid char driver name")
    if any(each.label == identifier for each in system.chardevs):
        raise CommandError(f"attempt to add duplicate property '{identifier}' to object (type 'container')")
    data = {"out": options["path"]} if kind == "file" and "path" in options else {}
    return _execute(system, "chardev-add", {"id": identifier, "backend": {"type": kind, "data": data}})


def _chardev_remove(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return _execute(system, "chardev-remove", {"id": identifier})


def _object_add(system: System, line: Line) -> str:
    text = "object-add" in system.release.names.unchecked
    given = line.word() if text else line.rest()
    if given is None and not text:
        raise Misread(f"{line.title}: string expected")
    options = _pairs(given or "", "qom-type")
    for name in ("qom-type", "id"):
        if name not in options:
            raise CommandError(f"Parameter '{name}' is missing")
    if text:
        kind, identifier = options.pop("qom-type"), options.pop("id")
        system.inventory.objects.add(kind, identifier, options, checked=True, text=True)
        return ""
    values = _typed(options)
    if isinstance(values.get("size"), str):
        raise CommandError("Parameter 'size' expects size")
    try:
        return _execute(system, "object-add", values)
    except ArgumentError as error:
        expected = _EXPECTED.fullmatch(error.message)
        if expected is None:
            raise
        raise CommandError(f"Parameter '{expected[1]}' expects integer") from None


def _object_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return _execute(system, "object-del", {"id": identifier})


def _eject(system: System, line: Line) -> str:
    force = line.flag("f")
    device = line.required("block device name")
    line.end()
    return _execute(system, "eject", {"device": device, "force": force})


def _takes_force(system: System) -> bool:
    """Whether a locked tray can be opened by force to change the medium."""
    try:
        system.release.commands["blockdev-change-medium"].check({"device": "", "filename": "", "force": True})
    except ArgumentError:
        return False
    return True


def _change(system: System, line: Line) -> str:
    device = line.required("block device name")
    force = _takes_force(system) and line.flag("f")
    filename = line.required("filename")
    kind, mode = line.word(), line.word()
    line.end()
    if device == "vnc":
        if mode is not None:
            return "Parameter 'read-only-mode' is invalid for VNC\n"
        if filename not in ("passwd", "password"):
            return "Expected 'password' after 'vnc'\n"
        if kind is None:
            raise NotModelled("'change vnc password' that asks for the password")
        return _execute(system, "change-vnc-password", {"password": kind})
    if mode is not None and mode not in ("retain", "read-only", "read-write"):
        raise CommandError(f"invalid parameter value: {mode}")
    given = {"device": device, "filename": filename, "format": kind, "read-only-mode": mode, "force": force or None}
    present = {name: value for name, value in given.items() if value is not None}
    return _execute(system, "blockdev-change-medium", present)


def _balloon(system: System, line: Line) -> str:
    word = line.word()
    if word is None:
        raise Misread("unexpected end of expression")
    if not word.isdecimal():
        raise Misread(f"invalid char '{word[0]}' in expression")
    line.end()
    try:
        return _execute(system, "balloon", {"value": int(word) * _MEBIBYTE})
    except CommandError as error:
        # Here it has another name.
        raise CommandError(error.description.replace("'value'", "'target'")) from None


def _drive_add(system: System, line: Line) -> str:
    line.required()
    given = line.required()
    line.end()
    options, texts = _pairs(given, "file"), system.inventory.texts
    prefix = texts("drive-missing", id="").partition("Device ")[0]
    identifier, block = options.get("id"), system.inventory.backends.block
    if identifier is not None and not is_identifier(identifier):
        return (
            "Parameter 'id' expects an identifier\n"
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n"
        )
    if identifier is not None and any(identifier in (each.name, each.options_id) for each in block.drives):
        return f"Duplicate ID '{identifier}' for drive\n"
    if options.get("if") != "none":
        if options.get("if") in ("ide", "scsi", "virtio", "floppy", "pflash", "sd", "mtd", "xen", None):
            return f"Can't hot-add drive to type {INTERFACES.index(options.get('if', 'ide'))}\n"
        return f"{prefix}unsupported bus type '{options['if']}'\n"
    if "file" not in options and any(name not in DRIVE_OPTIONS for name in options):
        return f"{prefix}Must specify either driver or file\n"
    try:
        add_drive(system.inventory, options)
    except CommandError as error:
        return f"{prefix}{error.description}\n"
    except MachineError as error:
        return f"{prefix}{error.message}\n"
    return "OK\n"


def _drive_del(system: System, line: Line) -> str:
    name = line.required("block device name")
    line.end()
    inventory = system.inventory
    graph = inventory.backends.block
    if name in graph.nodes:
        graph.remove(name)
        return ""
    drive = graph.drive(name)
    if drive is None:
        return inventory.texts("drive-missing", id=name) + "\n"
    graph.empty(drive)
    # Its options stay as long as it does, and so does its id.
    drive.options_id, drive.name = drive.name, ""
    if drive.device is None:
        graph.drives.remove(drive)
    return ""


def _without_arguments(name: str) -> Part:
    """The line that does what the QMP command does, which takes nothing and gives nothing."""

    def part(system: System, line: Line) -> str:
        line.end()
        _ask(system, name)
        return ""

    return part


def _migrate_recover(system: System, line: Line) -> str:
    uri = line.required()
    line.end()
    handlers(system.release)["migrate-recover"](system, cast("Client", None), {"uri": uri})
    return ""


def _gdbserver(system: System, line: Line) -> str:
    device = line.word()
    device = "tcp::1234" if device is None else device
    line.end()
    if system.host is None:
        raise NotModelled("debuggers here")
    try:
        if system.host.open_debugger(device):
            return f"Waiting for gdb connection on device '{device}'\n"
        return "Disabled gdbserver\n"
    except Worded:
        raise
    except Refusal as error:
        words = system.release.refusals
        whole = words.message(Refusal("gdbserver-failed", why=error, device=device))
        said = [str(error.values.get("reason", "")), *whole.split("\n")]
        return "".join(f"{each}\n" for each in said if each)


PARTS: dict[str, Part] = {
    "exit_preconfig": _without_arguments("x-exit-preconfig"),
    "migrate_cancel": _without_arguments("migrate_cancel"),
    "migrate_pause": _without_arguments("migrate-pause"),
    "migrate_recover": _migrate_recover,
    "migrate_start_postcopy": _without_arguments("migrate-start-postcopy"),
    "drive_add": _drive_add,
    "drive_del": _drive_del,
    "device_add": _device_add,
    "device_del": _device_del,
    "netdev_add": _netdev_add,
    "netdev_del": _netdev_del,
    "set_link": _set_link,
    "gdbserver": _gdbserver,
    "chardev-add": _chardev_add,
    "chardev-remove": _chardev_remove,
    "object_add": _object_add,
    "object_del": _object_del,
    "change": _change,
    "eject": _eject,
    "balloon": _balloon,
}
"""The commands, by their names."""


def _ask(system: System, name: str) -> Any:
    return handlers(system.release)[name](system, cast("Client", None), {})


def _info_balloon(system: System, line: Line) -> str:
    line.end()
    return f"balloon: actual={_ask(system, 'query-balloon')['actual'] // _MEBIBYTE}\n"


def _info_chardev(system: System, line: Line) -> str:
    line.end()
    listed = _ask(system, "query-chardev")
    return "".join(f"{each['label']}: filename={each['filename']}\n" for each in listed)


def _info_memory_size(system: System, line: Line) -> str:
    line.end()
    sizes = _ask(system, "query-memory-size-summary")
    return f"base memory: {sizes['base-memory']}\nplugged memory: {sizes['plugged-memory']}\n"


def _info_memory_devices(system: System, line: Line) -> str:
    line.end()
    said = ""
    for each in _ask(system, "query-memory-devices"):
        data = each["data"]
        said += f'Memory device [{each["type"]}]: "{data.get("id", "")}"\n'
        said += f"  addr: 0x{data['addr']:x}\n  slot: {data['slot']}\n  node: {data['node']}\n"
        said += f"  size: {data['size']}\n  memdev: {data['memdev']}\n"
        said += "".join(f"  {name}: {str(data[name]).lower()}\n" for name in ("hotplugged", "hotpluggable"))
    return said


def _info_block(system: System, line: Line) -> str:
    wanted = line.word()
    line.end()
    if wanted in ("-n", "-v"):
        raise NotModelled(f"'info block {wanted}'")
    said = [
        _drive(each) for each in _ask(system, "query-block") if wanted is None or wanted == each["device"]
    ]
    if wanted is not None and not said:
        nodes = [each for each in _ask(system, "query-named-block-nodes") if each["node-name"] == wanted]
        said = [_drive({"device": "", "removable": False, "inserted": each}) for each in nodes]
    return "\n".join(said)


def _drive(shown: dict[str, Any]) -> str:
    inserted: dict[str, Any] | None = shown.get("inserted")
    text: str
    if shown["device"]:
        text = shown["device"] + (f" ({inserted['node-name']})" if inserted is not None else "")
    else:
        text = inserted["node-name"] if inserted is not None else shown.get("qdev", "<anonymous>")
    if inserted is None:
        text += ": [not inserted]\n"
    else:
        text += f": {inserted['file']} ({inserted['drv']}{', read-only' if inserted['ro'] else ''})\n"
    if "qdev" in shown:
        text += f"    Attached to:      {shown['qdev']}\n"
    if shown["removable"]:
        locked, tray = "" if shown["locked"] else "not ", "open" if shown.get("tray_open") else "closed"
        text += f"    Removable device: {locked}locked, tray {tray}\n"
    if inserted is None:
        return text
    cache = inserted["cache"]
    modes = ["writeback" if cache["writeback"] else "writethrough"]
    modes += ["direct"] if cache["direct"] else []
    modes += ["ignore flushes"] if cache["no-flush"] else []
    text += f"    Cache mode:       {', '.join(modes)}\n"
    if "backing_file" in inserted:
        text += f"    Backing file:     {inserted['backing_file']} (chain depth: {inserted['backing_file_depth']})\n"
    if inserted["detect_zeroes"] != "off":
        text += f"    Detect zeroes:    {inserted['detect_zeroes']}\n"
    return text


def _info_mice(system: System, line: Line) -> str:
    line.end()
    found = answer_unmodelled("query-mice")(system, cast("Client", None), {})
    listed = orjson.loads(bytes(cast("bytes", found)))
    said = [
        f"{'*' if each['current'] else ' '} Mouse #{each['index']}: {each['name']}"
        f"{' (absolute)' if each['absolute'] else ''}\n"
        for each in listed
    ]
    return "".join(said) or "No mouse devices connected\n"


def _info_numa(system: System, _line: Line) -> str:
    settings = system.settings
    sizes = settings.node_memory or ([settings.memory] if settings.memory_slots else [])
    text = f"{len(sizes)} nodes\n"
    for node, size in enumerate(sizes):
        cpus = [index for index in range(settings.topology.cpus) if settings.node_of_cpu(index) == node]
        text += f"node {node} cpus:{''.join(f' {index}' for index in cpus)}\n"
        text += f"node {node} size: {size // _MEBIBYTE} MB\nnode {node} plugged: 0 MB\n"
    return text


def _info_network(system: System, line: Line) -> str:
    from qmpd.human.network import info_network

    return info_network(system, line)


INFORMATION: dict[str, Part] = {
    "balloon": _info_balloon,
    "block": _info_block,
    "chardev": _info_chardev,
    "memory-devices": _info_memory_devices,
    "mice": _info_mice,
    "memory_size_summary": _info_memory_size,
    "network": _info_network,
    "numa": _info_numa,
}
"""What `info` shows, by the words after it."""

MEANINGS = {
    "exit_preconfig": "-- go on where the command line said -preconfig",
    "migrate_cancel": "-- give up the migration that is under way",
    "migrate_pause": "-- pause a migration",
    "migrate_recover": "URI -- go on with a migration that was paused",
    "migrate_start_postcopy": "-- turn a migration into one that copies later",
    "device_add": "DRIVER[,PROPERTY=VALUE]... -- plug in a device",
    "device_del": "DEVICE -- take a device out",
    "netdev_add": "TYPE,id=ID[,OPTION=VALUE]... -- add a network backend",
    "netdev_del": "ID -- take a network backend away",
    "gdbserver": "[DEVICE|none] -- let a debugger connect, or none any more",
    "set_link": "NAME on|off -- put a network link up or down",
    "chardev-add": "BACKEND,id=ID[,OPTION=VALUE]... -- add a character device",
    "chardev-remove": "ID -- take a character device away",
    "object_add": "TYPE,id=ID[,PROPERTY=VALUE]... -- make an object",
    "object_del": "ID -- take an object away",
    "drive_add": "ADDRESS if=none[,id=ID][,file=FILE][,format=FORMAT] -- add a drive",
    "drive_del": "DRIVE -- take a drive away",
    "change": "DRIVE FILE [FORMAT [MODE]] -- put another medium into a drive",
    "eject": "[-f] DRIVE -- take the medium out of a drive",
    "balloon": "MIB -- ask the guest to do with that much memory",
}
INFORMATION_MEANINGS = {
    "mice": "-- the pointing devices",
    "balloon": "-- how much memory the guest has",
    "block": "[DRIVE] -- the drives and what is in them",
    "chardev": "-- the character devices",
    "memory-devices": "-- the memory that was plugged in",
    "memory_size_summary": "-- how much memory there is",
    "network": "-- the network cards and their backends",
    "numa": "-- the NUMA nodes",
}


def run(system: System, part: Part, line: Line, hint: str) -> str:
    """Execute one of these commands; gives what it prints."""
    try:
        return part(system, line)
    except Misread as error:
        return f"{error}\n{hint}" if str(error) else hint
    except Refusal as error:
        words = system.release.refusals
        return "\n".join([f"Error: {words.message(error)}", *words.hint(error), ""])
