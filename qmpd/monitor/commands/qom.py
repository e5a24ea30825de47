"""QAPI module `qom`: the tree of objects, and the types behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.monitor.commands import command
from qmpd.monitor.inventory import tree_of
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("qom-list")
def qom_list(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    tree = tree_of(dispatcher)
    node = tree.resolve(cast("str", arguments["path"]))
    return [{"name": each.name, "type": each.kind} for each in node.properties()]


@command("qom-get")
def qom_get(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    tree = tree_of(dispatcher)
    return tree.get(tree.resolve_unique(cast("str", arguments["path"])), cast("str", arguments["property"]))


@command("qom-set")
def qom_set(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    tree = tree_of(dispatcher)
    node = tree.resolve_unique(cast("str", arguments["path"]))
    tree.set(node, cast("str", arguments["property"]), arguments["value"])
    return EMPTY
