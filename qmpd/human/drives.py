"""The human monitor's commands for drives and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.human.asking import execute, read_options
from qmpd.system.build import add_drive

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

# In the order of QEMU's numbers for them.
INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
# What a drive without a medium may be given.
DRIVE_OPTIONS = frozenset({"if", "id", "format", "media", "index", "bus", "unit", "cache", "readonly", "read-only"})


def _eject(system: System, line: Line) -> str:
    force = line.flag("f")
    device = line.required("block device name")
    line.end()
    return execute(system, "eject", {"device": device, "force": force})


def _takes_force(system: System) -> bool:
    """Whether a locked tray can be opened by force to change the medium."""
    introspection = system.release.introspection
    taken = introspection.object(introspection.command("blockdev-change-medium").arguments)
    return any(member.name == "force" for member in taken.members)


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
        return execute(system, "change-vnc-password", {"password": kind})
    if mode is not None and mode not in ("retain", "read-only", "read-write"):
        raise Refusal("value-invalid", value=mode)
    given = {"device": device, "filename": filename, "format": kind, "read-only-mode": mode, "force": force or None}
    present = {name: value for name, value in given.items() if value is not None}
    return execute(system, "blockdev-change-medium", present)


def _drive_add(system: System, line: Line) -> str:
    line.required()
    given = line.required()
    line.end()
    block = system.inventory.backends.block
    taken = [name for each in block.drives for name in (each.name, each.options_id) if name]
    words = system.release.refusals
    try:
        entry = read_options(system, "drive", given, taken)
    except Refusal as error:
        return "".join(f"{each}\n" for each in (words.message(error), *words.hint(error)))
    prefix = "Error: " if system.release.behaviour.drive_errors_marked else ""
    try:
        _add(system, entry.values())
    except Refusal as error:
        marked = "" if error.code == "drive-hot-interface" else prefix
        return "".join(f"{each}\n" for each in (f"{marked}{words.message(error)}", *words.hint(error)))
    return "OK\n"


def _add(system: System, options: dict[str, str]) -> None:
    interface = options.get("if", "ide")
    if interface not in INTERFACES:
        raise Refusal("drive-interface", interface=interface)
    if interface != "none":
        raise Refusal("drive-hot-interface", number=INTERFACES.index(interface))
    if "file" not in options and any(name not in DRIVE_OPTIONS for name in options):
        raise Refusal("drive-driver-or-file")
    add_drive(system.inventory, options)


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


def _qemu_io(system: System, line: Line) -> Deferred:
    from qmpd.human.qemu_io import qemu_io

    return qemu_io(system, line)


PARTS: dict[str, Part] = {
    "qemu-io": _qemu_io,
    "drive_add": _drive_add,
    "drive_del": _drive_del,
    "change": _change,
    "eject": _eject,
}
"""The commands, by their names."""
