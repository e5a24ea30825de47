"""The human monitor's commands that plug something in and take it out: devices, backends, objects.

Each reads its arguments as QEMU's does (monitor/hmp.c, `args_type`), and then does what the QMP command does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.dictionary_order import in_order
from qmpd.common.refusals import Refusal
from qmpd.human.asking import execute, read_options
from qmpd.human.errors import Misread
from qmpd.monitor.commands.qdev import plug_in
from qmpd.option_language import key_values, typed_values
from qmpd.option_language.networks import read_netdev

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.option_language.groups import Entry
    from qmpd.system.system import System


def _read(system: System, group: str, line: Line, taken: Iterable[Any]) -> Entry:
    """The list that is the line's next word; what is wrong with one goes to standard error, so nothing is said of it.

    :raise Misread: it is none.
    """
    try:
        entry = read_options(system, group, line.word() or "", taken)
    except Refusal:
        raise Misread("") from None
    line.end()
    return entry


def _device_add(system: System, line: Line) -> str:
    devices = system.devices
    taken = devices.removal.in_use if system.release.behaviour.device_id_check == "options" else ()
    plug_in(system, _read(system, "device", line, taken).values(), text=True)
    return ""


def _device_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "device_del", {"id": identifier})


def _netdev_add(system: System, line: Line) -> str:
    network = system.inventory.backends.network
    entry = _read(system, "netdev", line, [each.identifier for each in network.netdevs])
    if entry.identifier is None:
        raise Refusal("parameter-missing", name="id")
    return execute(system, "netdev_add", read_netdev(system.release, entry.pairs, entry.identifier), line)


def _netdev_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "netdev_del", {"id": identifier})


def _set_link(system: System, line: Line) -> str:
    name, up = line.required(), line.word()
    if up not in ("on", "off"):
        raise Misread("Expected 'on' or 'off'")
    line.end()
    return execute(system, "set_link", {"name": name, "up": up == "on"})


def _object_add(system: System, line: Line) -> str:
    release = system.release
    if "object-add" in release.names.unchecked:
        # The objects themselves read the text.
        # The lists of those that the command line made are kept as long as they are.
        taken = [each["id"] for each in system.settings.objects if system.objects.find(str(each["id"])) is not None]
        entry = _read(system, "object", line, taken)
        options = dict(entry.pairs)
        kind = options.pop("qom-type", None)
        if kind is None:
            raise Refusal("parameter-missing", name="qom-type")
        if entry.identifier is None:
            raise Refusal("parameter-missing", name="id")
        # The line's arguments are a dictionary, from which the list of options is made.
        ordered = {name: options[name] for name in in_order(tuple(options))}
        system.objects.add(kind, entry.identifier, ordered, checked=True, text=True)
        return ""
    text = line.rest()
    if text is None:
        raise Misread(f"{line.title}: string expected")
    declared = typed_values.argument_type(release, "object-add")
    if text.startswith("{"):
        values = typed_values.from_json(release, declared, text)
    else:
        values = typed_values.from_tree(release, declared, key_values.tree(text, "qom-type"))
    return execute(system, "object-add", values)


def _object_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "object-del", {"id": identifier})


PARTS: dict[str, Part] = {
    "device_add": _device_add,
    "device_del": _device_del,
    "netdev_add": _netdev_add,
    "netdev_del": _netdev_del,
    "set_link": _set_link,
    "object_add": _object_add,
    "object_del": _object_del,
}
"""The commands, by their names."""
