"""QAPI module `qom`: the tree of objects, and the types behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system import monitors

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


_captured_list = answer_unmodelled("qom-list")
_captured_get = answer_unmodelled("qom-get")


@command("qom-list")
def qom_list(system: System, session: Client, arguments: Arguments) -> object:
    """Without knowledge of what machines are made of, the reference machine answers."""
    if not system.release.hardware:
        return _captured_list(system, session, arguments)
    tree = system.tree
    node = tree.resolve(cast("str", arguments["path"]))
    return [{"name": each.name, "type": each.kind} for each in node.properties()]


@command("qom-get")
def qom_get(system: System, session: Client, arguments: Arguments) -> object:
    if not system.release.hardware:
        return _captured_get(system, session, arguments)
    tree = system.tree
    return tree.get(tree.resolve_unique(cast("str", arguments["path"])), cast("str", arguments["property"]))


@command("qom-set")
def qom_set(system: System, session: Client, arguments: Arguments) -> object:
    tree = system.tree
    node = tree.resolve_unique(cast("str", arguments["path"]))
    system.inventory.set_property(node, cast("str", arguments["property"]), arguments["value"])
    return EMPTY


@command("object-add")
def object_add(system: System, session: Client, arguments: Arguments) -> object:
    """Where the schema does not say what a type takes, the properties may be in `props` or beside it."""
    checked = "object-add" not in system.release.names.unchecked
    properties = {name: value for name, value in arguments.items() if name not in ("qom-type", "id")}
    kind, identifier = (arguments.get(name) for name in ("qom-type", "id"))
    if not checked:
        for name, value in (("qom-type", kind), ("id", identifier)):
            if not isinstance(value, str):
                raise CommandError(f"Parameter '{name}' is missing")
        props = properties.pop("props", None)
        if props is not None:
            if not isinstance(props, dict):
                raise CommandError("Invalid parameter type for 'props', expected: dict")
            if any(name in properties for name in props):
                raise CommandError("Option in 'props' conflicts with top level")
            properties |= props
    node = system.objects.add(cast("str", kind), cast("str", identifier), properties, checked=checked, text=False)
    monitors.begin(system, node)
    return EMPTY


@command("object-del")
def object_del(system: System, session: Client, arguments: Arguments) -> object:
    name = cast("str", arguments["id"])
    monitors.check_removal(system, name, _label(session))
    node = system.objects.find(name)
    system.objects.remove(name)
    system.end_iothread(name)
    if node is not None and node.type in monitors.MODES:
        monitors.removed(system, node)
    return EMPTY


def _label(session: Client | None) -> str:
    """The monitor of whoever asks; the human monitor does so without a session."""
    return "" if session is None else session.label
