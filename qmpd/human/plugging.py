"""The human monitor's commands that plug something in and take it out: devices, backends, objects.

Each reads its arguments as QEMU's does (monitor/hmp.c, `args_type`), and then does what the QMP command does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.common.dictionary_order import in_order
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.human.asking import call, execute, listed, read_options
from qmpd.human.errors import Misread
from qmpd.monitor.commands.qdev import plug_in
from qmpd.option_language import key_values, typed_values
from qmpd.option_language.groups import HELP
from qmpd.option_language.networks import read_netdev
from qmpd.option_language.type_lists import device_options, object_options
from qmpd.wire import Encoded

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
    entry = _read(system, "device", line, taken)
    driver = entry.get("driver")
    if driver in HELP:
        system.modules_loaded = True
        return listed(system, "-device", "help")
    if driver is not None and any(key in HELP for key, _ in entry.pairs):
        try:
            return device_options(system.release, driver)
        except NotModelled:
            raise
        except Refusal as refusal:
            return f"{system.release.refusals.message(refusal)}\n"
    plug_in(system, entry.values(), text=True)
    return ""


def _device_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "device_del", {"id": identifier})


def _netdev_add(system: System, line: Line) -> str:
    network = system.inventory.backends.network
    entry = _read(system, "netdev", line, [each.identifier for each in network.netdevs])
    if entry.get("type") in HELP:
        return listed(system, "-netdev", "help")
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
        return execute(system, "object-add", typed_values.from_json(release, declared, text))
    given, asks = key_values.tree_or_help(text, "qom-type")
    if asks:
        return _object_options(system, given.get("qom-type"))
    return execute(system, "object-add", typed_values.from_tree(release, declared, given))


def _object_types(system: System) -> str:
    """The types of object that there are, among them those of the modules that were loaded before."""
    if not system.modules_loaded:
        return listed(system, "-object", "help")
    found = call(system, "qom-list-types", {"implements": "user-creatable"})
    assert isinstance(found, Encoded)
    names = sorted(each["name"] for each in orjson.loads(bytes(found)))
    return "".join(["List of user creatable objects:\n", *(f"  {name}\n" for name in names)])


def _object_options(system: System, kind: object) -> str:
    """The properties of a type of object; where there is none of that name, the types that there are."""
    release = system.release
    if not isinstance(kind, str) or "object" not in release.object_types.is_a(kind):
        return _object_types(system)
    found = object_options(release, kind)
    if found is None:
        raise NotModelled(f"the list of options of {kind}")
    return found


def _object_del(system: System, line: Line) -> str:
    identifier = line.required()
    line.end()
    return execute(system, "object-del", {"id": identifier}, line)


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
