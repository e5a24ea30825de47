"""QAPI module `qom`: the tree of objects, and the types behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.dictionary_order import in_order
from qmpd.monitor.commands import command
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.system.parts import objects_of, tree_of
from qmpd.system.threads import end_iothread

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


_captured_list = answer_unmodelled("qom-list")
_captured_get = answer_unmodelled("qom-get")


@command("qom-list")
def qom_list(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """Without knowledge of what machines are made of, the reference machine answers."""
    if not dispatcher.release.hardware:
        return _captured_list(dispatcher, session, arguments)
    tree = tree_of(dispatcher)
    node = tree.resolve(cast("str", arguments["path"]))
    return [{"name": each.name, "type": each.kind} for each in node.properties()]


@command("qom-get")
def qom_get(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    if not dispatcher.release.hardware:
        return _captured_get(dispatcher, session, arguments)
    tree = tree_of(dispatcher)
    return tree.get(tree.resolve_unique(cast("str", arguments["path"])), cast("str", arguments["property"]))


@command("qom-set")
def qom_set(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    tree = tree_of(dispatcher)
    node = tree.resolve_unique(cast("str", arguments["path"]))
    tree.set(node, cast("str", arguments["property"]), arguments["value"])
    return EMPTY


@command("object-add")
def object_add(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """Where the schema does not say what a type takes, the properties may be in `props` or beside it."""
    checked = "object-add" not in dispatcher.release.names.unchecked
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
    ordered = {name: properties[name] for name in in_order(tuple(properties))}
    objects_of(dispatcher).add(cast("str", kind), cast("str", identifier), ordered, checked=checked, text=False)
    return EMPTY


@command("object-del")
def object_del(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    name = cast("str", arguments["id"])
    objects_of(dispatcher).remove(name)
    end_iothread(dispatcher, name)
    return EMPTY
