"""The human monitor's commands for drives and what is in them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qmpd.block import drive_rules
from qmpd.block.blockers import delete
from qmpd.block.changes import take_out_medium
from qmpd.block.pausing import away
from qmpd.common.refusals import Refusal
from qmpd.human.asking import carry_out, execute, listed, read_options
from qmpd.machine.errors import MachineError
from qmpd.option_language.groups import HELP
from qmpd.system.at_rest import at_rest
from qmpd.system.drives import add_drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.option_language.groups import Entry
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System


def _eject(system: System, line: Line) -> str | Deferred:
    force = line.flag("f")
    device = line.required("block device name")
    line.end()
    return carry_out(system, "eject", {"device": device, "force": force})


def _takes_force(system: System) -> bool:
    """Whether a locked tray can be opened by force to change the medium."""
    introspection = system.release.introspection
    taken = introspection.object(introspection.command("blockdev-change-medium").arguments)
    return any(member.name == "force" for member in taken.members)


def _misuse(system: System, code: str) -> str:
    """What is said to a line that asks for what a VNC display does not do; some releases mark it as an error."""
    if system.release.behaviour.vnc_misuse_marked:
        raise Refusal(code)
    return f"{system.release.refusals.message(Refusal(code))}\n"


def _change(system: System, line: Line) -> str | Deferred:
    device = line.required("block device name")
    force = _takes_force(system) and line.flag("f")
    filename = line.required("filename")
    kind, mode = line.word(), line.word()
    line.end()
    if device == "vnc":
        if mode is not None:
            return _misuse(system, "vnc-mode")
        if filename not in ("passwd", "password"):
            if system.release.behaviour.vnc_address_changes:
                raise Refusal("vnc-inactive")
            return _misuse(system, "vnc-password-expected")
        if kind is None:
            return f"{system.release.refusals.message(Refusal('password-prompt'))}\n"
        return execute(system, "change-vnc-password", {"password": kind})
    if mode is not None and mode not in ("retain", "read-only", "read-write"):
        raise Refusal("value-invalid", value=mode)
    given = {"device": device, "filename": filename, "format": kind, "read-only-mode": mode, "force": force or None}
    present = {name: value for name, value in given.items() if value is not None}
    return carry_out(system, "blockdev-change-medium", present)


def _drive_add(system: System, line: Line) -> str | Deferred:
    is_node = line.flag("n")
    line.required()
    given = line.required()
    line.end()
    block = system.inventory.backends.block
    taken = [name for each in block.drives for name in (each.name, each.options_id) if name]
    words = system.release.refusals
    said: list[str] = []
    try:
        entry = read_options(system, "drive", given, taken, said.append)
    except Refusal as error:
        return "".join(f"{each}\n" for each in (*said, words.message(error), *words.hint(error)))
    if is_node:
        return at_rest(system, lambda: _added(said, system, partial(_add_node, system, entry), done=""))
    if entry.get("format") in HELP:
        return listed(system, "-drive", "format=help")
    names = [{"filename": value} for name, value in entry.pairs if name in ("file", "file.filename")]
    return at_rest(system, lambda: _added(said, system, partial(_add, system, entry, said.append), done="OK"), names)


def _added(said: list[str], system: System, add: Callable[[], None], *, done: str) -> str:
    """Add a drive, or a node; what is said of it, behind what has been said."""
    words = system.release.refusals
    prefix = "Error: " if done and system.release.behaviour.drive_errors_marked else ""
    try:
        add()
    except Refusal as error:
        marked = "" if error.code == "drive-hot-interface" else prefix
        said += [f"{marked}{words.message(error)}", *words.hint(error)]
    else:
        said += [done] if done else []
    return "".join(f"{each}\n" for each in said)


def _add_node(system: System, entry: Entry) -> None:
    """Add a node that no drive has; its options are told flat."""
    from qmpd.block.flat import Flat
    from qmpd.block.opening import Opener

    told = dict(entry.pairs) | ({} if entry.identifier is None else {"id": entry.identifier})
    if "node-name" not in told:
        raise MachineError("'node-name' needs to be specified")
    usual = {"cache.direct": "off", "cache.no-flush": "off", "read-only": "off"}
    Opener(system.inventory.backends.block).open(Flat({**usual, **told}), owned=True)


def _add(system: System, entry: Entry, warn: Callable[[str], None]) -> None:
    values = drive_rules.renamed(entry.pairs)
    drive, interface = drive_rules.divide(values, system.settings.board.interface)
    if drive.copies_in_vain:
        warn("warning: disabling copy-on-read on read-only drive")
    board = system.settings.board
    units = {**drive_rules.UNITS, "ide": board.ide_units}.get(interface, 0)
    others = [each.place for each in system.inventory.backends.block.drives if each.place is not None]
    bus, unit = drive_rules.take_place(drive.own, units, {place[1:] for place in others if place[0] == interface})
    drive_rules.check_actions_known(drive.own, interface)
    left = drive.nodes
    drive_rules.take_common(left)
    driver = drive_rules.take_driver(left)
    drive_rules.check_actions(drive.own)
    named = {} if entry.identifier is None else {"id": entry.identifier}
    if drive.own.get("file") or driver is not None or left:
        _check_nodes(system, drive.own.get("file"), driver, left, opens=interface != "none")
    if interface != "none":
        raise Refusal("drive-hot-interface", number=drive_rules.INTERFACES.index(interface))
    named |= {"if": interface, "place": f"{bus},{unit}"}
    add_drive(system.inventory, {**values, **named, "readonly": "on" if drive.read_only else "off"}, hot=True)


def _check_nodes(
    system: System, file: str | None, driver: str | None, left: dict[str, str], *, opens: bool
) -> None:
    """Refuse nodes that there cannot be; `opens`: the file is looked at, too, which else is opened afterwards."""
    known = (*system.release.command_line.choices("block-drivers"), *drive_rules.FILE_PROTOCOLS)
    for wanted in (driver, left.get("file.driver")):
        if wanted is not None and wanted not in known:
            raise Refusal("driver-unknown", driver=wanted)
    if not file and driver is None and not any(name.startswith("file.") for name in left):
        raise Refusal("drive-driver-or-file")
    if file and drive_rules.has_protocol(file) and not file.startswith("json:"):
        drive_rules.check_protocol(file, known, system.computer)
    elif file and opens:
        try:
            away(lambda: system.computer.check_readable(file))
        except OSError as error:
            raise Refusal("open-failed", path=file, reason=error.strerror) from None
    if opens:
        drive_rules.check_discard(left)
    if not file and driver is not None and not any(name.startswith("file.") for name in left):
        members = system.release.introspection.branch_members("blockdev-add", driver)
        drive_rules.check_left(driver, left, members)


def _drive_del(system: System, line: Line) -> str | Deferred:
    name = line.required("block device name")
    line.end()
    return at_rest(system, lambda: _deleted(system, name))


def _deleted(system: System, name: str) -> str:
    """Take a drive's id away, or delete a node; what is said of it."""
    inventory = system.inventory
    graph = inventory.backends.block
    if name in graph.nodes:
        try:
            delete(graph, name)
        except Refusal as refusal:
            mark = "Error: " if system.release.behaviour.drive_errors_marked else ""
            return f"{mark}{system.release.refusals.message(refusal)}\n"
        return ""
    drive = graph.drive(name)
    if drive is None:
        return inventory.texts("drive-missing", id=name) + "\n"
    take_out_medium(graph, drive)
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
