"""QAPI module `qdev`: devices come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.dictionary_order import in_order
from qmpd.monitor.commands import command
from qmpd.monitor.results import EMPTY
from qmpd.system.parts import devices_of, inventory_of

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("device_add")
def device_add(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The properties are set in the order of QEMU's dictionary."""
    devices_of(dispatcher).add({name: arguments[name] for name in in_order(tuple(arguments))})
    return EMPTY


@command("device_del")
def device_del(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    devices_of(dispatcher)
    inventory_of(dispatcher).remove_device(cast("str", arguments["id"]))
    return EMPTY
